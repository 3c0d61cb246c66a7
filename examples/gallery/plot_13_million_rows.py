"""
A million rows
==============

What does not fit in memory is worked through in chunks: the features lie in a file, a
detector reads them a few thousand rows at a time, and what it learns from a chunk
merges with what it learned from the others. The result is that of all rows at once.
"""

import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from skood import LayerFeatures, Mahalanobis

# %%
# A million rows of 32 columns in ten classes, written to a file without ever being in
# memory as a whole.

N, D = 1_000_000, 32
rng = np.random.default_rng(0)
means = 3 * rng.normal(size=(10, D)).astype("float32")
y = rng.integers(0, 10, size=N)
folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "rows.npy"
rows = np.lib.format.open_memmap(path, mode="w+", dtype="float32", shape=(N, D))
for start in range(0, N, 100_000):
    part = slice(start, start + 100_000)
    noise = rng.standard_normal((100_000, D), dtype="float32")
    rows[part] = means[y[part]] + noise
rows.flush()

# %%
# Fit from the file
# -----------------

train = LayerFeatures({"embedding": np.load(path, mmap_mode="r")})
seconds = {}
for n in [62_500, 125_000, 250_000, 500_000, N]:
    start = time.perf_counter()
    detector = Mahalanobis().fit(train[:n], y[:n])
    seconds[n] = time.perf_counter() - start

figure, ax = plt.subplots()
ax.plot(list(seconds), list(seconds.values()), marker="o")
ax.set(xlabel="rows", ylabel="seconds to fit", ylim=(0, None))
ax.xaxis.set_major_formatter("{x:,.0f}")

# %%
# Portions as they come
# ---------------------
#
# ``partial_fit`` takes a portion at a time, from wherever it comes.

portions = Mahalanobis()
start = time.perf_counter()
for first in range(0, N, 250_000):
    part = slice(first, first + 250_000)
    portions.partial_fit(train[part], y[part])
print(f"the same in four portions: {time.perf_counter() - start:.1f} s")

# %%
# Scoring
# -------

new = rng.standard_normal((100_000, D), dtype="float32")
new += means[rng.integers(0, 10, size=len(new))]
new = LayerFeatures({"embedding": new})
start = time.perf_counter()
scores = detector.score_samples(new)
seconds = time.perf_counter() - start
print(f"{len(new) / seconds:,.0f} rows a second")
print(f"false alarms: {np.mean(scores < detector.offset_):.2%}")
agreement = np.abs(portions.score_samples(new) / scores - 1).max()
print(f"largest relative difference of the two detectors: {agreement:.1e}")

del train, rows
folder.cleanup()
