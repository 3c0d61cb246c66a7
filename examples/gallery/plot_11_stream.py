"""
Watching a stream
=================

A detector flags single rows. When many small surprises add up, the stream as a whole
has left the training distribution: :class:`~skood.ShiftMonitor` raises one alarm for
that, and however long the stream and whenever you look, the alarm is false with at most
the probability ``level``.
"""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline

from skood import KNN, ShiftMonitor
from skood.datasets import load_digits_ood
from skood.plotting import MartingaleDisplay

# %%
# A stream of digits 0 to 7. From row 200 on, a third of it are digits 8 and 9.

data = load_digits_ood()
X = np.concatenate([data.X_train, data.X_fit]).reshape(-1, 64)
known, unknown = (part.reshape(-1, 64) for part in (data.X_test, data.X_near))
rng = np.random.default_rng(0)
share = np.repeat([0, 1 / 3], 200)
mixed = rng.random(400) < share
stream = np.where(mixed[:, None], unknown[:354][np.arange(400) % 354], known[:400])

detector = make_pipeline(PCA(24, random_state=0), KNN(1))
monitor = ShiftMonitor(detector, level=0.01).fit(X)

# %%
# Rows come in batches of any size. ``update`` says whether there has been an alarm.

for start in range(0, len(stream), 50):
    if monitor.update(stream[start : start + 50]):
        break
print(
    f"alarm at row {monitor.alarm_at_}: {mixed[: monitor.alarm_at_].sum()} digits "
    "were unknown until then"
)
display = MartingaleDisplay.from_estimator(monitor)

# %%
# The line is the capital of a gambler who bets that the rows get stranger. While
# nothing changes it does not grow; it reaches 1 / ``level`` by luck in one of a hundred
# streams at most. Here is one that stays as it was:

monitor = ShiftMonitor(detector, level=0.01).fit(X)
print("alarm on known digits alone:", monitor.update(known))
