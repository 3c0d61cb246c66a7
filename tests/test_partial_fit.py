"""partial_fit: portions of the rows make the detector that all of them make."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skood import KNN, MSP, Energy, LayerFeatures, Mahalanobis
from skood.detectors.incremental import Sample
from skood.detectors.threshold import THRESHOLD_ROWS

DETECTORS = [
    Mahalanobis(),
    Mahalanobis(relative=True, normalize=True),
    KNN(n_neighbors=4),
    Energy(),
    MSP(),
]
N = 240


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    blocks = {"a": rng.normal(size=(N, 5)), "b": rng.normal(size=(N, 3)) + 4}
    blocks["logits"] = 4 * rng.normal(size=(N, 3))
    return LayerFeatures(blocks)


@pytest.fixture(scope="module")
def y():
    labels = np.random.default_rng(1).integers(0, 3, N)
    labels[::11] = -1
    return labels


def portions_of(detector, features, y, cuts):
    rows = np.split(np.arange(len(features)), cuts)
    for part in rows:
        detector.partial_fit(features[part], None if y is None else y[part])
    return detector


@pytest.mark.parametrize("detector", DETECTORS, ids=repr)
@settings(max_examples=20)
@given(cuts=st.lists(st.integers(40, N - 40), max_size=4, unique=True).map(sorted))
def test_portions_make_the_same_detector(detector, features, y, cuts):
    cuts = [cut for cut in cuts if all(cut - c >= 20 for c in cuts if c < cut)]
    whole = pickle.loads(pickle.dumps(detector)).fit(features, y)
    parts = portions_of(pickle.loads(pickle.dumps(detector)), features, y, cuts)
    np.testing.assert_array_equal(parts.class_labels_, whole.class_labels_)
    np.testing.assert_allclose(parts.offset_, whole.offset_, rtol=1e-9)
    np.testing.assert_allclose(
        parts.score_samples(features), whole.score_samples(features), rtol=1e-9
    )


@pytest.mark.parametrize("detector", [Mahalanobis(), KNN(n_neighbors=4)], ids=repr)
def test_without_labels(detector, features):
    whole = pickle.loads(pickle.dumps(detector)).fit(features)
    parts = portions_of(pickle.loads(pickle.dumps(detector)), features, None, [50, 90])
    assert parts.class_labels_ is None
    np.testing.assert_allclose(
        parts.decision_function(features),
        whole.decision_function(features),
        rtol=1e-9,
        atol=1e-9,
    )


def test_new_classes_may_come_at_any_time(features, y):
    order = np.argsort(-y, kind="stable")  # class 2 first, then 1, 0 and outliers
    whole = Mahalanobis().fit(features, y)
    parts = portions_of(Mahalanobis(), features[order], y[order], [60, 130])
    np.testing.assert_array_equal(parts.class_labels_, [0, 1, 2])
    for name, means in whole.means_.items():
        np.testing.assert_allclose(parts.means_[name], means, rtol=1e-9)
    np.testing.assert_allclose(parts.offset_, whole.offset_, rtol=1e-9)


def test_it_goes_on_after_a_file(features, y):
    whole = portions_of(Mahalanobis(), features, y, [100])
    first = Mahalanobis().partial_fit(features[:100], y[:100])
    loaded = pickle.loads(pickle.dumps(first)).partial_fit(features[100:], y[100:])
    assert loaded.offset_ == whole.offset_


def test_the_sample_does_not_depend_on_the_portions():
    rows = LayerFeatures({"a": np.arange(3.0 * THRESHOLD_ROWS)[:, None]})
    classes = np.arange(len(rows)) % 7
    found = []
    for cuts in ([], [5], [THRESHOLD_ROWS, THRESHOLD_ROWS + 1, 2 * THRESHOLD_ROWS]):
        sample = Sample()
        for part in np.split(np.arange(len(rows)), cuts):
            sample = sample.extended(rows[part], classes[part])
        found.append(np.asarray(sample.features)[:, 0])
        np.testing.assert_array_equal(found[-1] % 7, sample.classes)
    assert len(found[0]) == THRESHOLD_ROWS
    assert abs(found[0].mean() / len(rows) - 0.5) < 0.01
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


def test_after_fit_there_is_nothing_to_go_on_from(features, y):
    detector = Mahalanobis().fit(features, y)
    with pytest.warns(UserWarning, match="was fitted by fit, which keeps nothing"):
        detector.partial_fit(features[:100], y[:100])
    alone = Mahalanobis().fit(features[:100], y[:100])
    np.testing.assert_allclose(detector.offset_, alone.offset_, rtol=1e-9)


def test_fit_forgets_the_portions(features, y):
    detector = Mahalanobis().partial_fit(features[:100], y[:100])
    detector.fit(features[100:], y[100:])
    assert detector.offset_ == Mahalanobis().fit(features[100:], y[100:]).offset_


def test_labels_for_every_portion_or_none(features, y):
    detector = Mahalanobis().partial_fit(features[:100], y[:100])
    before = detector.score_samples(features)
    with pytest.raises(ValueError, match=r"y is missing, but .* before it was given"):
        detector.partial_fit(features[100:])
    np.testing.assert_array_equal(detector.class_labels_, [0, 1, 2])
    np.testing.assert_array_equal(detector.score_samples(features), before)
    detector = Mahalanobis().partial_fit(features[:100])
    with pytest.raises(ValueError, match=r"y is given, but .* before it was missing"):
        detector.partial_fit(features[100:], y[100:])


def test_other_blocks_are_an_error(features, y):
    detector = Mahalanobis().partial_fit(features, y)
    with pytest.raises(ValueError, match="was fitted on"):
        detector.partial_fit(features.select("a"), y)


def test_weights_from_outliers_need_all_of_them(features, y):
    with pytest.raises(ValueError, match="layer_weights='logistic' compares all rows"):
        Mahalanobis(layer_weights="logistic").partial_fit(features, y)
