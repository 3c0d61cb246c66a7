"""Scores, decisions and flags of one pass."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skood import (
    ConformalDetector,
    LayerSelector,
    Mahalanobis,
    OutliersIgnored,
    TargetRateThreshold,
    score_and_predict,
)
from skood.detectors.registry import REGISTRY
from skood.estimator_checks import synthetic_features
from skood.model_selection import InlierKFold, auroc_scorer

DETECTORS = [
    entry.detector(**entry.on_features[0])
    for entry in REGISTRY.values()
    if entry.on_features
]
WRAPPERS = [
    TargetRateThreshold(Mahalanobis(), 0.1),
    ConformalDetector(Mahalanobis(), 0.1),
]


def assert_all_alike(scored, estimator, X):
    np.testing.assert_array_equal(scored.scores, estimator.score_samples(X))
    np.testing.assert_array_equal(scored.decision, estimator.decision_function(X))
    np.testing.assert_array_equal(scored.flags, estimator.predict(X))
    scores, decision, flags = scored
    assert scores is scored.scores
    assert (decision.dtype, flags.dtype) == (np.float64, np.int_)


@pytest.mark.parametrize("detector", [*DETECTORS, *WRAPPERS], ids=repr)
def test_it_is_what_three_calls_give(detector):
    features, y = synthetic_features()
    fitted = clone(detector).fit(features, y)
    assert_all_alike(fitted.score_and_predict(features), fitted, features)
    assert_all_alike(score_and_predict(fitted, features), fitted, features)


class Counting(Mahalanobis):
    rows = 0

    def _score(self, chunk):
        type(self).rows += len(chunk)
        return super()._score(chunk)


def counted(call, *args):
    Counting.rows = 0
    call(*args)
    return Counting.rows


def test_it_takes_one_pass():
    X = np.random.default_rng(0).normal(size=(100, 3))
    seen = []

    def note(Z):
        seen.append(len(Z))
        return Z

    detector = Counting().fit(X)
    assert counted(detector.score_and_predict, X[:7]) == 7
    assert counted(detector.predict, X[:7]) == 7
    pipeline = make_pipeline(FunctionTransformer(note), Counting()).fit(X)
    seen.clear()
    assert counted(score_and_predict, pipeline, X[:7]) == 7
    assert seen == [7]  # the steps before the detector ran once, too
    for wrapper in (
        TargetRateThreshold(Counting(), 0.1).fit(X),
        ConformalDetector(Counting(), 0.1).fit(X),
    ):
        assert counted(wrapper.score_and_predict, X[:7]) == 7


def test_it_goes_through_searches_pipelines_and_detectors_of_others():
    features, y = synthetic_features()
    search = GridSearchCV(
        make_pipeline(LayerSelector("layer1"), StandardScaler(), Mahalanobis()),
        {"mahalanobis__normalize": [True, False]},
        scoring=auroc_scorer,
        cv=InlierKFold(2),
    ).fit(features, y)
    assert_all_alike(score_and_predict(search, features), search, features)
    X = np.random.default_rng(0).normal(size=(60, 2))
    for forest in (
        IsolationForest(random_state=0).fit(X),
        make_pipeline(StandardScaler(), IsolationForest(random_state=0)).fit(X),
        OutliersIgnored(IsolationForest(random_state=0)).fit(X),
    ):
        assert_all_alike(score_and_predict(forest, X), forest, X)


def test_it_follows_the_parameters_of_fit():
    X = np.random.default_rng(0).normal(size=(60, 2))
    detector = Mahalanobis().fit(X)
    before = detector.score_and_predict(X)
    after = detector.set_params(normalize=True, contamination=0.5).score_and_predict(X)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
