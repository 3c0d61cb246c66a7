"""One fit leaves nothing to the next, and parameters set after it wait for the next."""

from __future__ import annotations

import numpy as np
import pytest
from pyod.models.hbos import HBOS
from sklearn.base import clone
from sklearn.covariance import EllipticEnvelope
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.svm import OneClassSVM
from sklearn.utils.validation import check_is_fitted
from test_parameters import CASES, noisy_features

from skood import (
    LSGM,
    ConformalDetector,
    LayerSelector,
    Mahalanobis,
    NormRescaledHead,
    OutliersIgnored,
    PyODDetector,
    ShiftMonitor,
    TargetRateThreshold,
)
from skood.detectors.registry import REGISTRY
from skood.estimator_checks import synthetic_features

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:contamination="),
]

OTHER = OneClassSVM()
WRAPPERS = [
    (
        TargetRateThreshold(Mahalanobis(), 0.1),
        {
            "detector": OTHER,
            "detector__normalize": True,
            "max_false_alarm": 0.3,
            "cv": 5,
            "confidence": 0.9,
            "pass_outliers": True,
            "random_state": 5,
        },
    ),
    (
        ConformalDetector(Mahalanobis(), 0.1),
        {
            "detector": OTHER,
            "detector__normalize": True,
            "alpha": 0.4,
            "method": "cross",
            "cv": 0.5,
            "class_conditional": True,
            "pass_outliers": True,
            "random_state": 5,
        },
    ),
    (
        OutliersIgnored(IsolationForest(random_state=0)),
        {"estimator": OTHER, "estimator__contamination": 0.4},
    ),
    (
        OutliersIgnored(Mahalanobis()),
        {"estimator__contamination": 0.4, "estimator__normalize": True},
    ),
]
OF_WRAPPERS = [
    pytest.param(wrapper, {name: value}, id=f"{type(wrapper).__name__}-{name}")
    for wrapper, changes in WRAPPERS
    for name, value in changes.items()
]


def said_by(detector, features):
    return (
        detector.score_samples(features),
        detector.decision_function(features),
        detector.predict(features),
    )


def assert_the_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("detector", "change"), [*CASES, *OF_WRAPPERS])
def test_a_parameter_set_after_fit_waits_for_the_next_fit(detector, change):
    features, y = noisy_features(detector)
    fitted = clone(detector).fit(features, y)
    before = said_by(fitted, features)
    fitted.set_params(**change)
    assert_the_same(said_by(fitted, features), before)
    for name, value in change.items():  # it is kept for the next fit
        assert fitted.get_params()[name] is value


def test_every_parameter_of_every_wrapper_is_among_them():
    for wrapper, changes in WRAPPERS[:3]:
        assert set(wrapper.get_params(deep=False)) <= set(changes)


@pytest.mark.parametrize("change", [{"level": 0.5}, {"random_state": 7}, {"cv": 0.4}])
def test_the_monitor_keeps_the_level_and_draws_that_fit_had(change):
    rng = np.random.default_rng(0)
    X, stream = rng.normal(size=(300, 2)), rng.normal(1.5, 1, size=(200, 2))
    kept, changed = (ShiftMonitor(Mahalanobis(), level=1e-99).fit(X) for _ in range(2))
    changed.set_params(**change)
    assert kept.update(stream) == changed.update(stream)
    np.testing.assert_array_equal(kept.p_values_, changed.p_values_)
    assert kept.log_martingale_.max() > np.log(2)  # another level would have rung


@pytest.mark.parametrize("change", [{"layers": "layer1"}, {"scale": "none"}])
def test_the_rescaled_head_keeps_what_fit_had(change):
    features, y = synthetic_features()
    head = NormRescaledHead().fit(features, y)
    before = head.transform(features).block("logits")
    after = head.set_params(**change).transform(features).block("logits")
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("change", [{"layers": "layer2"}, {"statistic": "max"}])
def test_the_selector_keeps_what_fit_had(change):
    features, _ = synthetic_features()
    selector = LayerSelector("layer1", "avg").fit(features)
    before, names = selector.transform(features), selector.get_feature_names_out()
    selector.set_params(**change)
    np.testing.assert_array_equal(selector.transform(features), before)
    np.testing.assert_array_equal(selector.get_feature_names_out(), names)


@pytest.mark.parametrize("change", [{"layers": ["layer2"]}, {"statistic": "max"}])
def test_the_traces_of_lsgm_keep_what_fit_had(change):
    features, y = synthetic_features()
    detector = LSGM(3, layers=["layer1", "layer2"], random_state=0).fit(features, y)

    def traces():
        counts = detector.transition_counts(features, "layer1", "layer2")
        return detector.most_likely_path(features), counts

    before = traces()
    detector.set_params(**change)
    assert_the_same(traces(), before)


def test_the_traces_of_lsgm_need_a_fit():
    features, _ = synthetic_features()
    for use in (
        lambda d: d.most_likely_path(features),
        lambda d: d.transition_counts(features, "layer1", "layer2"),
    ):
        with pytest.raises(NotFittedError):
            use(LSGM())


# A second fit ------------------------------------------------------------------------


def on_features():
    for entry in REGISTRY.values():
        parameters = entry.on_features[0] if entry.on_features else None
        if parameters is not None:
            yield entry.detector(**parameters)
    yield PyODDetector(HBOS())
    for wrapper, _ in WRAPPERS:
        yield wrapper
    yield ShiftMonitor(Mahalanobis())
    yield NormRescaledHead()
    yield LayerSelector("layer1")


ALL = pytest.mark.parametrize("estimator", list(on_features()), ids=repr)


def state_of(estimator):
    """The names and the kinds of all that an estimator holds."""
    return {name: type(value) for name, value in vars(estimator).items()}


@ALL
def test_a_second_fit_that_fails_leaves_an_unfitted_estimator(estimator):
    features, y = synthetic_features()
    bare = clone(estimator)
    fitted = clone(estimator).fit(features, y)
    labels = np.full(len(y), -1)
    if isinstance(estimator, LayerSelector):  # it has no use for labels
        features = features.select("layer2")
    with pytest.raises((TypeError, ValueError)):
        fitted.fit(features, labels)
    assert set(vars(fitted)) == set(vars(bare))
    with pytest.raises(NotFittedError):
        check_is_fitted(fitted)


@ALL
def test_a_second_fit_leaves_nothing_of_the_first(estimator):
    features, y = synthetic_features()
    few, few_y = synthetic_features(150, 0, random_state=3)
    twice = clone(estimator).fit(features, y)
    twice.mark_ = 1  # as a formula's own attribute that only some fits set
    if hasattr(twice, "_learned"):
        twice._learned.append("mark_")
    twice.fit(few, few_y)
    once = clone(estimator).fit(few, few_y)
    twice.__dict__.pop("mark_", None)
    assert state_of(twice) == state_of(once)
    if hasattr(once, "predict"):
        assert_the_same(said_by(twice, features), said_by(once, features))


def test_labels_of_a_first_fit_are_forgotten():
    features, y = synthetic_features()
    for estimator in on_features():
        if getattr(estimator, "class_conditional", False) or "AMP" in repr(estimator):
            continue  # it needs labels
        fitted = clone(estimator).fit(features, y)
        try:
            fitted.fit(features)
        except ValueError as error:
            if "y is None" not in str(error):
                raise
            continue  # it needs labels
        assert getattr(fitted, "class_labels_", None) is None


def test_a_failure_in_the_middle_leaves_nothing_either():
    """The inner detector's fit on all rows fails after the folds have not."""

    class Failing(EllipticEnvelope):
        def fit(self, X, y=None):
            if len(X) == 40:
                raise RuntimeError("no more")
            return super().fit(X, y)

    X = np.random.default_rng(0).normal(size=(60, 2))
    wrapper = TargetRateThreshold(Failing(), 0.1, cv=4).fit(X)
    with pytest.raises(RuntimeError, match="no more"):
        wrapper.fit(X[:40])
    assert not hasattr(wrapper, "detector_")
    assert not hasattr(wrapper, "offset_")
    with pytest.raises(NotFittedError):
        wrapper.predict(X)
