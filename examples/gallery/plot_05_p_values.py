"""
P-values and false discoveries
==============================

A p-value says how unusual a row is among rows that are known to be in-distribution, in
a unit that needs no threshold of its own. Out of a batch, a procedure then chooses
outliers so that at most a stated share of what it chooses is a mistake.
"""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline

from skood import KNN, ConformalDetector
from skood.datasets import load_digits_ood
from skood.plotting import PValueCalibrationDisplay

# %%
# Any detector will do, and any pipeline that ends in one; there need not be a network.
# Here the pixels of the digits 0 to 7 are the training data.

data = load_digits_ood()
X = np.concatenate([data.X_train, data.X_fit]).reshape(-1, 64)
new, near, far = (
    part.reshape(len(part), -1) for part in (data.X_test, data.X_near, data.X_far)
)
detector = make_pipeline(PCA(24, random_state=0), KNN(1))
conformal = ConformalDetector(detector, alpha=0.05, random_state=0).fit(X)
print("p-values of two digits 0-7:", conformal.p_values(new[:2]).round(3))
print("p-values of two photographs:", conformal.p_values(far[:2]).round(3))

# %%
# P-values of known rows are uniform, whatever the detector: their curve is the
# diagonal. Those of outliers rise early.

rows = np.concatenate([new, near])
y_true = np.repeat([0, -1], [len(new), len(near)])
display = PValueCalibrationDisplay.from_estimator(conformal, rows, y_true)

# %%
# Rows flagged one by one, or out of a batch
# ------------------------------------------
#
# At the level 0.05 about 5 % of the *known* rows are flagged, however many outliers
# there are: the fewer these, the more of the flags are false. ``select`` bounds the
# share of false ones among the flags instead (Benjamini-Hochberg).

rng = np.random.default_rng(0)
batch = np.concatenate([new, far[rng.choice(len(far), 50, replace=False)]])
is_outlier = np.arange(len(batch)) >= len(new)
for name, flagged in {
    "predict, alpha = 0.05": conformal.predict(batch) == -1,
    "select,  fdr = 0.1": conformal.select(batch, fdr=0.1),
}.items():
    false = np.mean(~is_outlier[flagged])
    found = np.mean(flagged[is_outlier])
    print(
        f"{name}: {flagged.sum()} flags, {false:.0%} of them false; {found:.0%} found"
    )

# %%
# The promise is one on average over batches and calibration rows, so it is kept on
# average:

rates = []
for seed in range(20):
    rng = np.random.default_rng(seed)
    parts = [
        new[rng.permutation(len(new))[:200]],
        near[rng.permutation(len(near))[:40]],
    ]
    chosen = conformal.select(np.concatenate(parts), fdr=0.2)
    rates.append(np.mean(np.flatnonzero(chosen) < 200) if chosen.any() else 0)
print(f"false among the chosen, mean of 20 batches: {np.mean(rates):.2f} (0.2 allowed)")
