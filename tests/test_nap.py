"""NAP as an estimator: batteries, searches, chunks, backends, files."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nap_data import MIXED, network, with_outliers
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_estimator

from skood import NAP, InlierKFold, LayerFeatures, auroc_scorer
from skood.detectors import threshold
from skood.estimator_checks import check_estimator as check_detector
from skood.estimator_checks import synthetic_features
from skood.features import chunks
from skood.hamming import search


@pytest.fixture(scope="module")
def data():
    (known, y), (new, _) = network(), network(30, 1)
    return known, y, new


# As an estimator ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "detector", [NAP(), NAP(percentile=80, per_class=False), NAP(auto=True)], ids=repr
)
def test_battery_of_scikit_learn(detector):
    report = check_estimator(detector, on_skip=None, on_fail=None)
    assert len(report) >= 44
    failed = {
        r["check_name"]: r["exception"] for r in report if r["status"] == "failed"
    }
    assert not failed


@pytest.mark.parametrize(
    "detector",
    [
        NAP(),
        NAP(tie_break=None),
        NAP(per_class=False, percentile=70),
        NAP(per_class=True, voting="majority"),
        NAP(layers=["layer1", ("penultimate", "avg", 30)]),
    ],
    ids=repr,
)
def test_battery_for_detectors(detector):
    report = check_detector(detector, on_fail=None)
    assert len(report) >= 14
    failed = {r["check_name"] for r in report if r["status"] == "failed"}
    # scikit-learn wants a training row below the threshold: where ties are not broken,
    # all rows that would be there tie at it, and ties are inliers.
    assert failed == (set() if detector.tie_break else {"check_outliers_train"})


def test_outliers_score_lower_with_auto():
    features, y = synthetic_features()
    for voting in ("numeric", "majority"):
        detector = NAP(auto=True, voting=voting).fit(features, y)
        assert roc_auc_score(y >= 0, detector.score_samples(features)) > 0.99
        assert np.mean(detector.predict(features[y < 0]) == -1) > 0.95


def test_a_search_over_everything_that_matters():
    features, y = synthetic_features()
    search_ = GridSearchCV(
        NAP(),
        {
            "layers": [["layer1"], ["layer1", "layer2"], [("layer1", "avg", 70)]],
            "percentile": [10, 50],
            "statistic": ["max", "avg"],
            "contamination": [0.05, 0.2],
        },
        scoring=auroc_scorer,
        cv=InlierKFold(2),
        error_score="raise",
    ).fit(features, y)
    scores = search_.cv_results_["mean_test_score"]
    assert scores.min() > 0.8
    assert len(np.unique(np.round(scores, 6))) > 2
    assert search_.best_estimator_.predict(features).shape == (len(y),)


def test_small_chunks_are_no_matter(data, monkeypatch):
    features, labels, _ = with_outliers(data)
    fitted = [NAP(), NAP(MIXED), NAP(auto=True)]
    expected = [clone(d).fit(features, labels) for d in fitted]
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", 200)
    for detector, whole in zip(fitted, expected, strict=True):
        detector.fit(features, labels)
        assert [choice[:4] for choice in detector.configuration_] == [
            choice[:4] for choice in whole.configuration_
        ]
        np.testing.assert_allclose(
            detector.score_samples(features), whole.score_samples(features), rtol=1e-9
        )
        assert detector.offset_ == pytest.approx(whole.offset_, rel=1e-9)


def test_a_container_of_one_layer_is_an_array(data):
    known, y, new = data
    name = ("array", "max")
    x, more = known.block("layer1", "max"), new.block("layer1", "max")
    bare = NAP().fit(x, y)
    held = NAP().fit(LayerFeatures({name: x}), y)
    np.testing.assert_array_equal(
        bare.score_samples(more), held.score_samples(LayerFeatures({name: more}))
    )
    assert bare.offset_ == held.offset_


@pytest.mark.parametrize("backend", ["auto", "faiss", "product", "popcount"])
def test_backends_score_alike(data, backend):
    if backend == "faiss":
        reason = "faiss is not installed: pip install skood[faiss]"
        pytest.importorskip("faiss", reason=reason)
    known, y, new = data
    expected = NAP(MIXED).fit(known, y)
    detector = NAP(MIXED, backend=backend).fit(known, y)
    np.testing.assert_array_equal(
        detector.score_samples(new), expected.score_samples(new)
    )
    assert detector.offset_ == expected.offset_


def test_tensors_of_a_device_score_alike(data):
    known, y, new = data
    # Named so, torch's CPU takes the way of an accelerator.
    on_device = NAP(MIXED, device="cpu:0").fit(known, y)
    expected = NAP(MIXED, device="cpu").fit(known, y)
    np.testing.assert_allclose(
        on_device.score_samples(new), expected.score_samples(new), rtol=1e-9
    )
    assert on_device.offset_ == pytest.approx(expected.offset_, rel=1e-9)


def test_faiss_that_is_not_there_is_told_in_fit(data, monkeypatch):
    known, y, _ = data
    monkeypatch.setattr(search, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="backend='faiss' needs faiss"):
        NAP(backend="faiss").fit(known, y)
    assert np.isfinite(NAP().fit(known, y).offset_)


def test_the_threshold_uses_a_sample_of_many_rows(data, monkeypatch):
    features, labels, _ = with_outliers(data)
    monkeypatch.setattr(threshold, "THRESHOLD_ROWS", 40)
    detector = NAP(auto=True).fit(features, labels)
    known = features[labels >= 0]
    assert 0 <= np.mean(detector.predict(known) == -1) < 0.2


def test_it_comes_back_from_a_file(data):
    known, y, new = data
    detector = NAP(MIXED).fit(known, y)
    again = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(
        again.decision_function(new), detector.decision_function(new)
    )
    assert again.configuration_[0].layer == "layer0"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"percentile": 0}, "percentile"),
        ({"percentile": 100}, "percentile"),
        ({"per_class": "maybe"}, "per_class"),
        ({"voting": "loud"}, "voting"),
        ({"tie_break": "coin"}, "tie_break"),
        ({"n_votes": 0}, "n_votes"),
        ({"criterion": "taste"}, "criterion"),
        ({"backend": "abacus"}, "backend"),
    ],
)
def test_parameters_are_validated_in_fit(data, change, text):
    with pytest.raises(ValueError, match=text):
        NAP().set_params(**change).fit(data[0], data[1])


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_order_of_channels_and_scale_of_rows_change_no_score(seed):
    rng = np.random.default_rng(seed)
    x, more = rng.normal(size=(25, 10)), rng.normal(size=(15, 10))
    expected = NAP().fit(x).score_samples(more)
    order = rng.permutation(10)
    permuted = NAP().fit(x[:, order]).score_samples(more[:, order])
    np.testing.assert_allclose(permuted, expected, rtol=1e-9, atol=1e-12)
    stretch = 2.0 ** rng.integers(-5, 5, size=(15, 1))
    np.testing.assert_allclose(
        NAP().fit(x).score_samples(more * stretch), expected, rtol=1e-9, atol=1e-12
    )
