"""Nothing of a classifier shows: no tool takes a detector for one."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from sklearn.base import clone, is_classifier, is_outlier_detector, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import IsolationForest, StackingClassifier, VotingClassifier
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.metrics import RocCurveDisplay
from sklearn.model_selection import (
    FixedThresholdClassifier,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

from skood import (
    ConformalDetector,
    Mahalanobis,
    OutliersIgnored,
    ShiftMonitor,
    TargetRateThreshold,
)
from skood.detectors.registry import REGISTRY

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:contamination="),
]

mpl.use("Agg")

DETECTORS = [
    entry.detector(**entry.on_arrays[0])
    for entry in REGISTRY.values()
    if entry.on_arrays
]
WRAPPERS = [
    TargetRateThreshold(Mahalanobis(), 0.1),
    ConformalDetector(Mahalanobis(), 0.1),
    OutliersIgnored(IsolationForest(random_state=0)),
]
PIPELINES = [make_pipeline(StandardScaler(), Mahalanobis())]
ALL = pytest.mark.parametrize("detector", [*DETECTORS, *WRAPPERS, *PIPELINES], ids=repr)
ONE_OF_EACH = pytest.mark.parametrize(
    "detector", [Mahalanobis(), *WRAPPERS, *PIPELINES], ids=repr
)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = np.r_[rng.normal(size=(80, 2)), rng.normal(4, 1, size=(80, 2))]
    return X, np.repeat([0, 1], 80)


@ALL
def test_nothing_of_a_classifier_shows(detector, data):
    for estimator in (clone(detector), clone(detector).fit(*data)):
        assert is_outlier_detector(estimator)
        assert not is_classifier(estimator)
        assert not is_regressor(estimator)
        tags = get_tags(estimator)
        assert tags.classifier_tags is None
        assert tags.regressor_tags is None
        for name in ("classes_", "predict_proba", "n_classes_", "score", "transform"):
            assert not hasattr(estimator, name), name


def test_the_monitor_is_neither(data):
    monitor = ShiftMonitor(Mahalanobis()).fit(*data)
    assert not is_classifier(monitor)
    assert not hasattr(monitor, "classes_")


@ONE_OF_EACH
@pytest.mark.parametrize(
    "tool",
    [
        CalibratedClassifierCV,
        lambda d: CalibratedClassifierCV(d, cv=2, ensemble=False),
        lambda d: StackingClassifier([("detector", d)]),
        lambda d: VotingClassifier([("detector", d)]),
        TunedThresholdClassifierCV,
        lambda d: FixedThresholdClassifier(d, threshold=0.0),
    ],
    ids=["calibrated", "calibrated-one", "stacking", "voting", "tuned", "fixed"],
)
def test_tools_for_classifiers_refuse(detector, tool, data):
    X, y = data
    labels = np.where(y == 1, -1, 0)  # outliers are marked, and the tools know no -1
    with pytest.raises((AttributeError, TypeError, ValueError)):
        tool(clone(detector)).fit(X, labels).predict(X)


@ONE_OF_EACH
def test_the_boundary_can_be_drawn(detector, data):
    X, y = data
    fitted = clone(detector).fit(X, y)
    for method in ("decision_function", "predict", "auto"):
        shown = DecisionBoundaryDisplay.from_estimator(
            fitted, X, response_method=method, grid_resolution=12
        )
        grid = np.c_[shown.xx0.ravel(), shown.xx1.ravel()]
        used = "decision_function" if method == "auto" else method
        np.testing.assert_allclose(shown.response.ravel(), getattr(fitted, used)(grid))


@ONE_OF_EACH
def test_cross_val_predict_gives_decisions(detector, data):
    X = np.random.default_rng(1).permutation(data[0])
    folds = [(np.arange(80, 160), np.arange(80)), (np.arange(80), np.arange(80, 160))]
    method = "decision_function"
    found = cross_val_predict(clone(detector), X, cv=folds, method=method)
    for train, test in folds:
        fitted = clone(detector).fit(X[train])
        np.testing.assert_allclose(found[test], fitted.decision_function(X[test]))


@pytest.mark.parametrize(
    "detector",
    [Mahalanobis(), *WRAPPERS, *PIPELINES, IsolationForest(random_state=0)],
    ids=repr,
)
def test_cross_val_predict_of_labels_refuses_as_for_scikit_learns_own(detector, data):
    """It numbers the labels, so that -1 would become 0, a class, and be fitted on."""
    X, y = data
    labels = np.where(y == 1, -1, 0)[::-1]
    with pytest.raises(AttributeError, match="classes_"):
        cross_val_predict(
            detector, X, labels, cv=StratifiedKFold(2), method="decision_function"
        )


def test_tools_that_need_class_probabilities_say_so(data):
    X, y = data
    fitted = Mahalanobis().fit(X, y)
    with pytest.raises((AttributeError, TypeError, ValueError)):
        RocCurveDisplay.from_estimator(fitted, X, y)
    with pytest.raises((AttributeError, TypeError, ValueError)):
        OneVsRestClassifier(Mahalanobis()).fit(X, y).predict_proba(X)
