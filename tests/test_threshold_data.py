"""Rows that set the threshold and are not fitted on."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skood import (
    LSGM,
    NAP,
    KLMatching,
    LayerFeatures,
    Mahalanobis,
    TargetRateThreshold,
)
from skood.detectors.registry import REGISTRY
from skood.estimator_checks import synthetic_features

DETECTORS = [
    entry.detector(**parameters)
    for entry in REGISTRY.values()
    for parameters in entry.on_features
]
EACH = pytest.mark.parametrize("detector", DETECTORS, ids=repr)


@pytest.fixture
def rows():
    """Rows of a fit, with outliers, and rows that are new to it."""
    features, y = synthetic_features()
    new, _ = synthetic_features(139, 0, random_state=2)
    return features, y, new


@EACH
def test_they_set_the_threshold_and_nothing_else(detector, rows):
    features, y, new = rows
    by_them = clone(detector).fit(features, y, threshold_data=new)
    without = clone(detector).fit(features, y)
    k = int(detector.contamination * (len(new) + 1))
    assert (by_them.predict(new) == -1).sum() <= k - 1
    if isinstance(detector, NAP):  # each of its layers has a threshold of its own
        return
    assert by_them.offset_ == np.sort(by_them.score_samples(new))[k - 1]
    if isinstance(detector, (LSGM, KLMatching)):  # without them they keep rows out
        return
    found = by_them.score_samples(features)
    np.testing.assert_array_equal(found, without.score_samples(features))


@EACH
def test_rows_of_another_shape_are_refused_by_name(detector, rows):
    features, y, _ = rows
    other = LayerFeatures({"unheard_of": np.ones((50, 3))})
    fitted = clone(detector).fit(features, y)
    with pytest.raises(ValueError, match=r"^threshold_data: "):
        fitted.fit(features, y, threshold_data=other)
    with pytest.raises(NotFittedError):
        fitted.predict(features)


def test_too_few_of_them_are_said():
    X = np.random.default_rng(0).normal(size=(99, 2))
    with pytest.warns(UserWarning, match=r"takes 19 .* rows to set .* there are 8"):
        Mahalanobis().fit(X, threshold_data=X[:8])


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    X = 5 * rng.normal(size=(200, 4)) + 3
    return X, 7 * rng.normal(size=(99, 4)) + 3  # the new ones lie wider


def test_a_pipeline_routes_them_through_its_steps(table):
    X, new = table
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = Pipeline(
            [
                ("scale", StandardScaler()),
                ("detector", Mahalanobis().set_fit_request(threshold_data=True)),
            ],
            transform_input=["threshold_data"],
        ).fit(X, threshold_data=new)
    scale = StandardScaler().fit(X)
    by_hand = Mahalanobis().fit(scale.transform(X), threshold_data=scale.transform(new))
    assert pipeline[-1].offset_ == by_hand.offset_
    np.testing.assert_array_equal(
        pipeline.predict(new), by_hand.predict(scale.transform(new))
    )


def test_without_routing_a_fitted_pipeline_is_wrapped(table):
    X, new = table
    pipeline = Pipeline([("scale", StandardScaler()), ("detector", Mahalanobis())])
    alarm = TargetRateThreshold(pipeline.fit(X), cv="prefit").fit(new)
    scale = StandardScaler().fit(X)
    by_hand = Mahalanobis().fit(scale.transform(X), threshold_data=scale.transform(new))
    assert alarm.offset_ == by_hand.offset_
    assert (alarm.predict(new) == -1).sum() <= 5
    assert (pipeline.predict(new) == -1).sum() > 10  # as its own rows would have it
