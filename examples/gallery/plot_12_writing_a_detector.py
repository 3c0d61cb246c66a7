"""
Writing a detector
==================

A detector is its formula. Reading arrays, frames and features, keeping outliers out of
``fit``, chunks, the threshold for new rows and the whole of scikit-learn's protocol
come with the base class; a battery of checks says whether it is all kept.
"""

import warnings

import numpy as np
from sklearn.model_selection import GridSearchCV

from skood import InlierKFold, auroc, auroc_scorer, make_pseudo_outliers
from skood.datasets import load_digits_ood
from skood.detectors import LayerDetector
from skood.estimator_checks import check_estimator
from skood.plotting import ScoreHistogramDisplay

# %%
# The mean distance to the nearest rows of a random sample, as a score: parameters are
# annotated attributes, what is learned ends in an underscore.


class DistanceToSample(LayerDetector):
    """Mean distance to the nearest few rows of a random sample."""

    n_rows: int = 200
    n_nearest: int = 3

    def _fit(self, training):
        x = np.concatenate(self._arrays(training.features, "cpu"), axis=1)
        rows = np.random.default_rng(0).permutation(len(x))[: self.n_rows]
        self.sample_ = x[rows]

    def _score(self, chunk):
        x = np.concatenate(self._arrays(chunk, "cpu"), axis=1)
        away = np.linalg.norm(x[:, None] - self.sample_, axis=2)
        return -np.sort(away, axis=1)[:, : self.n_nearest].mean(axis=1)


# %%
# It is a detector like all others: with a threshold that new rows keep,

data = load_digits_ood()
X, X_new, near = (
    part.reshape(len(part), -1) for part in (data.X_fit, data.X_test, data.X_near)
)
detector = DistanceToSample(contamination=0.05).fit(X, data.y_fit)
print(f"{np.mean(detector.predict(X_new) == -1):.1%} false alarms")

# %%
# with parameters for a search,

search = GridSearchCV(
    DistanceToSample(),
    {"n_rows": [50, 100, 200], "n_nearest": [1, 3, 10]},
    scoring=auroc_scorer,
    cv=InlierKFold(3),
).fit(*make_pseudo_outliers(X, data.y_fit, kind="permute_columns", random_state=0))
y_true = np.repeat([0, -1], [len(X_new), len(near)])
scores = search.best_estimator_.score_samples(np.concatenate([X_new, near]))
print(search.best_params_, f"AUROC on digits 8 and 9: {auroc(y_true, scores):.3f}")

display = ScoreHistogramDisplay.from_estimator(
    search, np.concatenate([X_new, near]), y_true, name="DistanceToSample"
)

# %%
# and under test. The battery is scikit-learn's and ours.

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    results = check_estimator(DistanceToSample(), on_fail=None)
for status in ["passed", "failed", "skipped"]:
    print(status, sum(result["status"] == status for result in results))

# %%
# In a test suite it is a decorator, and a check that fails says which rule was broken:
# see :doc:`/user_guide/writing_detectors`.
