"""LayerEnergy against plain loops, left-out rows and Mahalanobis."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references import energy as reference
from references.threshold import kth_smallest
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from skood import LayerEnergy, LayerFeatures, Mahalanobis
from skood.detectors.layers import layer_energy
from skood.estimator_checks import synthetic_features
from skood.features import chunks

AGGREGATIONS = ["zscore", "mahalanobis", "signed"]
WIDTHS = {"early": 9, "middle": 30, "late": 5}


def units_of(n, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(n, 1))
    return [rng.normal(size=(n, w)) + common + shift for w in WIDTHS.values()]


def features_of(units, dtype=np.float64):
    return LayerFeatures(
        {
            (layer, "lse"): logsumexp(a, axis=1, keepdims=True).astype(dtype)
            for layer, a in zip(WIDTHS, units, strict=True)
        }
    )


@pytest.fixture
def data():
    """In-distribution rows, outliers, and new rows: units, features and energies."""
    units = {
        "train": units_of(50, 0),
        "outliers": units_of(20, 1, shift=1.0),
        "new": units_of(30, 2, shift=0.5),
    }
    units["outliers"][0] -= 4
    return {
        name: (features_of(layers), reference.energies(layers))
        for name, layers in units.items()
    }


def fitted(data, aggregation, **parameters):
    features = LayerFeatures.concatenate([data["train"][0], data["outliers"][0]])
    y = np.repeat([0, -1], [50, 20])
    return LayerEnergy(aggregation=aggregation, **parameters).fit(features, y)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_equals_the_plain_loops(data, aggregation):
    (_, train), (_, outliers), (features, new) = data.values()
    scores = fitted(data, aggregation).score_samples(features)
    expected = reference.scores(train, new, aggregation, outliers)
    np.testing.assert_allclose(scores, expected, rtol=2e-7)  # the ridge of 1e-8
    if aggregation != "mahalanobis":
        np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_threshold_is_that_of_leaving_each_row_out(data, aggregation):
    (_, train), (_, outliers), _ = data.values()
    detector = fitted(data, aggregation, contamination=0.1)
    left_out = [
        reference.scores(
            np.delete(train, i, 0), train[i : i + 1], aggregation, outliers
        )[0]
        for i in range(len(train))
    ]
    assert detector.offset_ == pytest.approx(kth_smallest(left_out, 0.1), rel=1e-6)


def test_mahalanobis_is_the_detector_of_that_name(data):
    features, _ = data["new"]
    scores = fitted(data, "mahalanobis").score_samples(features)
    one = LayerFeatures({("all", "lse"): np.asarray(data["train"][0])})
    expected = Mahalanobis(statistic="lse").fit(one)
    new = LayerFeatures({("all", "lse"): np.asarray(features)})
    np.testing.assert_allclose(scores, expected.score_samples(new), rtol=1e-6)


def test_signs_follow_the_outliers(data):
    detector = fitted(data, "signed")
    # The outliers have lower activations in the first layer, so higher energy there.
    assert detector.signs_.tolist() == [-1, 1, 1]
    assert fitted(data, "zscore").signs_ is None


def test_two_sides_are_seen_where_one_sign_is_not_enough():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    y = np.repeat([0, -1], [200, 100])
    X[200:] += 4 * rng.choice([-1, 1], size=(100, 3))
    auroc = {
        a: roc_auc_score(y, LayerEnergy(aggregation=a).fit(X, y).score_samples(X))
        for a in AGGREGATIONS
    }
    assert min(auroc["zscore"], auroc["mahalanobis"]) > 0.95
    assert auroc["signed"] < 0.8


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_columns_of_an_array_are_layers(data, aggregation):
    features, _ = data["train"]
    y = np.repeat([0, -1], [40, 10])
    detector = LayerEnergy(aggregation=aggregation)
    named = clone(detector).fit(features, y)
    bare = clone(detector).fit(np.asarray(features), y)
    np.testing.assert_array_equal(
        named.score_samples(features), bare.score_samples(np.asarray(features))
    )
    assert named.offset_ == bare.offset_


def test_the_energy_of_logits_is_computed():
    features, y = synthetic_features()
    lse = logsumexp(features.block("logits"), axis=1, keepdims=True)
    blocks = {
        ("layer1", "lse"): features.block("layer1", "lse"),
        ("output", "lse"): lse,
    }
    expected = LayerEnergy().fit(LayerFeatures(blocks), y)
    found = LayerEnergy(["layer1", "logits"]).fit(features, y)
    np.testing.assert_allclose(
        found.score_samples(features),
        expected.score_samples(LayerFeatures(blocks)),
        rtol=1e-12,
    )
    np.testing.assert_allclose(found.means_, expected.means_, rtol=1e-12)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_chunks_equal_the_whole(data, aggregation, monkeypatch):
    whole = fitted(data, aggregation)
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", 21)
    chunked = fitted(data, aggregation)
    features, _ = data["new"]
    np.testing.assert_allclose(
        chunked.score_samples(features), whole.score_samples(features), rtol=1e-10
    )
    assert chunked.offset_ == pytest.approx(whole.offset_, rel=1e-10)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_torch_kernel_is_the_same(data, aggregation, monkeypatch):
    features, _ = data["new"]
    scores = fitted(data, aggregation).score_samples(features)
    monkeypatch.setattr(
        "skood.detectors.base.on_device", lambda array, _: torch.from_numpy(array)
    )
    detector = fitted(data, aggregation)
    assert isinstance(detector._score(features), torch.Tensor)
    np.testing.assert_allclose(detector.score_samples(features), scores, rtol=1e-10)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_float32_keeps_a_large_mean_apart(aggregation):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(80, 3)) + 1000).astype(np.float32)
    y = np.repeat([0, -1], [60, 20])
    narrow = LayerEnergy(aggregation=aggregation).fit(X, y).score_samples(X)
    wide = LayerEnergy(aggregation=aggregation).fit(X.astype(float), y)
    np.testing.assert_allclose(narrow, wide.score_samples(X.astype(float)), rtol=1e-6)


@settings(max_examples=25)
@given(
    st.integers(0, 100),
    st.lists(st.floats(-100, 100), min_size=3, max_size=3),
    st.lists(st.floats(0.01, 100), min_size=3, max_size=3),
)
def test_offset_and_scale_of_a_layer_are_no_matter(seed, offset, scale):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(30, 3)), np.repeat([0, -1], [20, 10])
    moved = X * scale + offset
    for aggregation in AGGREGATIONS:
        detector = LayerEnergy(aggregation=aggregation)
        np.testing.assert_allclose(
            clone(detector).fit(moved, y).score_samples(moved),
            clone(detector).fit(X, y).score_samples(X),
            rtol=1e-6,
            atol=1e-8,
        )


def test_of_two_rows_none_is_like_the_other():
    with pytest.raises(ValueError, match="found no finite threshold"):
        LayerEnergy().fit([[0.0], [1.0]])
    with pytest.raises(ValueError, match="entry, 9 in size, is in column 0"):
        LayerEnergy().fit([[0.0, 3.0], [9.0, 4.0]])


def test_a_row_unlike_all_others_is_infinitely_far_from_them():
    X = np.zeros((40, 1))
    X[7] = 1.0
    z = (X - X.mean()) / X.std()
    with np.errstate(divide="ignore"):
        unseen = layer_energy._unseen_z(z, len(X))
    assert unseen[7, 0] == np.inf
    assert np.isfinite(np.delete(unseen, 7)).all()


def test_energies_whose_squares_do_not_fit_are_refused_by_layer(data):
    features, _ = data["train"]
    huge = LayerFeatures(
        {
            ("early", "lse"): features.block("early", "lse"),
            ("late", "lse"): 1e160 * features.block("late", "lse"),
        }
    )
    with pytest.raises(ValueError, match="energy of layer 'late' is too large"):
        LayerEnergy().fit(huge)


def test_signs_without_outliers(data):
    with pytest.raises(ValueError, match="'signed' learns the layers' directions"):
        LayerEnergy(aggregation="signed").fit(data["train"][0])


def test_a_layer_that_does_not_vary(data):
    features, _ = data["train"]
    constant = LayerFeatures(
        {
            ("early", "lse"): features.block("early", "lse"),
            ("dead", "lse"): [[0.1]] * 50,
        }
    )
    with pytest.raises(ValueError, match="layer 'dead' is the same in all 50"):
        LayerEnergy().fit(constant)
    with pytest.raises(ValueError, match=r"layer 'array' \(column 1\) is the same"):
        LayerEnergy().fit(np.column_stack([np.arange(9), np.full(9, 0.1)]))


def test_what_is_not_there(data):
    with pytest.raises(ValueError, match="no layer has the statistic 'lse'"):
        LayerEnergy().fit(LayerFeatures({"early": np.eye(3)}))
    with pytest.raises(ValueError, match="'aggregation' parameter of LayerEnergy"):
        LayerEnergy(aggregation="mean").fit(data["train"][0])
