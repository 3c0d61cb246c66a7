"""
PyOD, both ways
===============

PyOD has some fifty detectors for matrices. Any of them can stand at the end of a
pipeline of ours, and any of ours wherever PyOD wants one of its own.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from pyod.models.kde import KDE
from pyod.models.lof import LOF
from pyod.models.lscp import LSCP

from skood import KNN, Mahalanobis, PyODDetector, auroc, to_pyod
from skood.datasets import load_digits_ood
from skood.plotting import ScoreHistogramDisplay

data = load_digits_ood()
flat = {name: X.reshape(len(X), -1) for name, X in data.items() if name[0] == "X"}
y_true = np.repeat([0, -1], [len(flat["X_test"]), len(flat["X_near"])])
X_test = np.concatenate([flat["X_test"], flat["X_near"]])

# %%
# Theirs in ours
# --------------
#
# :class:`~skood.PyODDetector` turns signs and labels round, keeps rows of label -1 out
# of ``fit`` and sets the threshold as every detector of skood does.

table = {}
for model in [LOF(), KDE()]:
    detector = PyODDetector(model).fit(flat["X_fit"], data.y_fit)
    flags = detector.predict(X_test)
    table[type(model).__name__] = {
        "AUROC": auroc(y_true, detector.score_samples(X_test)),
        "false alarms": np.mean(flags[y_true == 0] == -1),
    }
pd.DataFrame(table).T.round(3)

# %%
# Ours in theirs
# --------------
#
# :func:`~skood.to_pyod` makes a PyOD detector, which its ensembles take. LSCP asks, for
# each row, the members that are right about the row's neighbours. From here on the
# signs are PyOD's: high scores are abnormal, and their label is 1.

members = [to_pyod(Mahalanobis(covariance="oas")), to_pyod(KNN(5)), LOF(n_neighbors=5)]
ensemble = LSCP(members, n_bins=3, contamination=0.05, random_state=0)
ensemble.fit(flat["X_fit"])
outlier_scores = ensemble.decision_function(X_test)
print(f"AUROC of the ensemble: {auroc(y_true, -outlier_scores):.3f}")
figure, ax = plt.subplots()
ScoreHistogramDisplay.from_predictions(
    y_true, -outlier_scores, threshold=-ensemble.threshold_, name="LSCP", ax=ax
)
labels = ensemble.predict(X_test)
for name, kind in {"digits 0-7": y_true == 0, "digits 8, 9": y_true == -1}.items():
    print(f"{name:11} labelled 1: {labels[kind].mean():.1%}")

# %%
# PyOD's threshold comes from scores of the rows that the ensemble was fitted on, of
# which it is too sure. ``PyODDetector(ensemble)`` would set it from rows held out.
