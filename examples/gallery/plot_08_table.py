"""
A table, with skorch
====================

Rows of measurements instead of images. On one side detectors that look at the columns
themselves; on the other AMP, which trains a small network with skorch that sees every
row from the side of another one.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skood import AMP, KNN, AnchoredClassifier, Mahalanobis, auroc, fpr_at_tpr
from skood.neural import MLP
from skood.plotting import ScoreHistogramDisplay

# %%
# Wines of two cultivars are known, the third is new. In ``y`` a row labelled -1 is an
# outlier.

X, y = load_wine(return_X_y=True)
known = y < 2
X_train, X_new, y_train, y_new = train_test_split(
    X[known], y[known], test_size=0.4, stratify=y[known], random_state=0
)
X_test = np.concatenate([X_new, X[~known]])
y_test = np.concatenate([y_new, np.full(np.sum(~known), -1)])

# %%
# Columns have units of their own, so they are put on one scale first; the network does
# that by itself (``standardize=True``). Nine rows are the least that a rate of 10 %
# takes.

network = AnchoredClassifier(
    MLP,
    module__n_features=X.shape[1],
    module__n_classes=2,
    standardize=True,
    max_epochs=40,
    batch_size=32,
    lr=3e-3,
    train_split=None,
    random_state=0,
)
rate = {"contamination": 0.1}
detectors = {
    "KNN": make_pipeline(StandardScaler(), KNN(5, **rate)),
    "Mahalanobis": make_pipeline(
        StandardScaler(), Mahalanobis(covariance="oas", **rate)
    ),
    "AMP": AMP(network, held_out=0.25, random_state=0, **rate),
}
table = {}
for name, detector in detectors.items():
    detector.fit(X_train, y_train)
    scores, flags = detector.score_samples(X_test), detector.predict(X_test)
    table[name] = {
        "AUROC": auroc(y_test, scores),
        "FPR95": fpr_at_tpr(y_test, scores),
        "false alarms": np.mean(flags[y_test >= 0] == -1),
        "found": np.mean(flags[y_test < 0] == -1),
    }
pd.DataFrame(table).T.round(3)

# %%
# What tells two cultivars apart says little about a third, so that detectors which look
# at all columns are better here than one on what a classifier has learned. The network
# is a good classifier all the same:

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
for ax, name in zip(axes, ["Mahalanobis", "AMP"], strict=True):
    ScoreHistogramDisplay.from_estimator(
        detectors[name], X_test, y_test, name=name, ax=ax, bins=25
    )
print(f"AMP's network: {detectors['AMP'].classifier_.score(X_new, y_new):.1%} right")
