"""Mahalanobis against plain loops, scikit-learn, and its invariances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references import mahalanobis as reference
from references.threshold import kth_smallest
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import roc_auc_score

from skood import LayerFeatures, Mahalanobis
from skood._gaussian import TiedGaussian
from skood._moments import ClassMoments, whitening_of
from skood.detectors import threshold
from skood.estimator_checks import synthetic_features

VARIANTS = [{}, {"relative": True}, {"normalize": True}]


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 90)
    mix = rng.normal(size=(6, 6))
    X = rng.normal(size=(90, 6)) @ mix + 4 * rng.normal(size=(3, 6))[y] + 10
    return X, y, rng.normal(size=(40, 6)) @ mix * 2 + 10


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_equals_the_plain_loops(data, variant):
    X, y, new = data
    scores = Mahalanobis(**variant).fit(X, y).score_samples(new)
    np.testing.assert_allclose(
        scores, reference.scores(X, y, new, **variant), rtol=1e-9
    )


def test_equals_scikit_learn_for_one_gaussian(data):
    X, _, new = data
    scores = Mahalanobis(ridge=0).fit(X).score_samples(new)
    expected = EmpiricalCovariance().fit(X).mahalanobis(new)
    np.testing.assert_allclose(-scores, expected, rtol=1e-9)


def test_float32_is_close(data):
    X, y, new = data
    scores = (
        Mahalanobis().fit(X.astype(np.float32), y).score_samples(new.astype(np.float32))
    )
    np.testing.assert_allclose(scores, reference.scores(X, y, new), rtol=2e-4)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_threshold_is_that_of_leaving_each_row_out(data, variant):
    X, y, _ = data
    detector = Mahalanobis(ridge=0, contamination=0.1, **variant).fit(X, y)
    left_out = [
        reference.scores(
            np.delete(X, i, 0), np.delete(y, i), X[i : i + 1], ridge=0, **variant
        )[0]
        for i in range(len(X))
    ]
    assert detector.offset_ == pytest.approx(kth_smallest(left_out, 0.1), rel=1e-9)


def test_threshold_holds_in_many_dimensions():
    """Plain training distances would reject four times as many new rows."""
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(600, 200)), rng.normal(size=(4000, 200))
    detector = Mahalanobis().fit(X)
    assert np.mean(detector.predict(new) == -1) == pytest.approx(0.05, abs=0.02)
    naive = np.quantile(detector.score_samples(X), 0.05)
    assert np.mean(detector.score_samples(new) < naive) > 0.2


def test_several_layers_are_summed():
    features, y = synthetic_features()
    both = Mahalanobis(["layer1", "layer2"]).fit(features, y).score_samples(features)
    each = [
        Mahalanobis(layer).fit(features, y).score_samples(features)
        for layer in ("layer1", "layer2")
    ]
    np.testing.assert_allclose(both, sum(each), rtol=1e-12)


def test_learnt_weights_correct_a_misleading_layer():
    features, y = synthetic_features()
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(len(y), 30)) * np.where(y >= 0, 1.5, 0.1)[:, None]
    mixed = LayerFeatures({"good": features.block("layer1", "avg"), "noise": noise})
    # Outliers of the good layer, made hard: near the inliers.
    mixed.block("good")[y < 0] = mixed.block("good")[: (y < 0).sum()] + 0.25
    summed = Mahalanobis().fit(mixed, y)
    learnt = Mahalanobis(layer_weights="logistic").fit(mixed, y)
    auroc = [roc_auc_score(y >= 0, d.score_samples(mixed)) for d in (summed, learnt)]
    assert auroc[1] > auroc[0] + 0.02
    assert learnt.layer_weights_[0] > 0 > learnt.layer_weights_[1]
    with pytest.raises(ValueError, match="learns from outliers, and y marks none"):
        Mahalanobis(layer_weights="logistic").fit(mixed[y >= 0], y[y >= 0])


def test_moments_merge_like_one_piece(data):
    X, y, _ = data
    whole = ClassMoments.of(X, y, 4)
    parts = [
        ClassMoments.of(X[rows], y[rows], 4) for rows in (slice(31), slice(31, 90))
    ]
    merged = parts[0].merge(parts[1])
    np.testing.assert_allclose(merged.means, whole.means, rtol=1e-12)
    np.testing.assert_allclose(merged.scatter, whole.scatter, rtol=1e-10, atol=1e-10)
    assert merged.counts.tolist() == whole.counts.tolist()
    assert merged.counts[3] == 0


def test_moments_survive_a_large_mean():
    """A raw second moment in float32 would lose every digit of this."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 8))
    shifted = (X + 3000).astype(np.float32)
    moments = ClassMoments.of(shifted, np.zeros(5000, int), 1)
    expected = np.cov(shifted.T.astype(np.float64), bias=True)
    np.testing.assert_allclose(moments.covariance(), expected, atol=2e-4)


def test_kernels_are_the_same_in_torch(data):
    X, y, new = data
    moments = ClassMoments.of(X, y, 3)
    tensors = ClassMoments.of(torch.from_numpy(X), y, 3)
    np.testing.assert_allclose(tensors.scatter, moments.scatter, rtol=1e-10)
    gaussian = TiedGaussian.of(moments, 1e-8)
    np.testing.assert_allclose(
        gaussian.nearest(torch.from_numpy(new)).numpy(),
        gaussian.nearest(new),
        rtol=1e-10,
    )
    np.testing.assert_allclose(
        gaussian.nearest_unseen(torch.from_numpy(X), y).numpy(),
        gaussian.nearest_unseen(X, y),
        rtol=1e-10,
    )


@settings(max_examples=25)
@given(st.floats(1e-3, 1e3), st.integers(0, 100))
def test_any_linear_map_of_the_features_changes_nothing(scale, seed):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(60, 4)), rng.integers(0, 2, 60)
    change = rng.normal(size=(4, 4)) + 3 * np.eye(4)
    detector = Mahalanobis(ridge=0).fit(X, y)
    other = Mahalanobis(ridge=0).fit(scale * X @ change + 5, y)
    np.testing.assert_allclose(
        other.score_samples(scale * X @ change + 5),
        detector.score_samples(X),
        rtol=1e-5,
    )
    assert other.offset_ == pytest.approx(detector.offset_, rel=1e-5)


@settings(max_examples=25)
@given(st.integers(0, 100))
def test_normalized_rows_have_no_length(seed):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(40, 5)), rng.integers(0, 2, 40)
    detector = Mahalanobis(normalize=True).fit(X, y)
    stretched = X * rng.uniform(0.01, 100, size=(40, 1))
    np.testing.assert_allclose(
        detector.score_samples(stretched), detector.score_samples(X), rtol=1e-8
    )


def test_a_negligible_background_leaves_plain_distances(data):
    X, y, new = data
    plain, relative = Mahalanobis().fit(X, y), Mahalanobis(relative=True).fit(X, y)
    own, background = relative._gaussians["array", "avg"]
    wide = TiedGaussian(
        background.counts,
        background.means,
        background.whitening * 1e-9,
        background.centre,
        background.points * 1e-9,
    )
    relative._gaussians["array", "avg"] = (own, wide)
    np.testing.assert_allclose(relative.score_samples(new), plain.score_samples(new))


def test_rank_deficient_and_dead_features_work():
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        X = rng.normal(size=(30, 80)).astype(dtype)
        X[:, :5] = 0
        X[:, 5] = X[:, 6]
        scores = Mahalanobis().fit(X).score_samples(X)
        assert np.isfinite(scores).all()
    covariance = np.diag([1.0, -1e-13])
    assert np.isfinite(whitening_of(covariance, 1e-14)).all()


def test_a_class_of_one_row_is_told():
    X = np.random.default_rng(0).normal(size=(21, 3))
    y = np.array([0] * 10 + [1] * 10 + [7])
    with pytest.warns(UserWarning, match="classes with one row only: 7"):
        detector = Mahalanobis().fit(X, y)
    assert np.isfinite(detector.offset_)
    with pytest.raises(ValueError, match="every class has one row only"):
        Mahalanobis().fit(X, np.arange(21))


@pytest.mark.parametrize(
    ("X", "y", "text"),
    [
        (np.ones((10, 3)), None, "layer 'array'.*features are constant"),
        (np.zeros((0, 3)), None, "0 sample"),
        (np.array([[1.0, np.nan]] * 5), None, "NaN"),
        (np.eye(4), [-1] * 4, "every row of y is -1"),
        (np.eye(4), [0, 1], "inconsistent numbers of samples"),
        (np.eye(4), [0, 1, np.nan, 1], "y contains NaN"),
    ],
)
def test_bad_input(X, y, text):
    with pytest.raises(ValueError, match=text):
        Mahalanobis().fit(X, y)


def test_relative_needs_classes():
    with pytest.raises(ValueError, match="relative=True compares classes"):
        Mahalanobis(relative=True).fit(np.eye(4))


def test_nan_in_a_layer_is_named():
    features, y = synthetic_features(30, 0)
    features.block("layer2", "avg")[3, 2] = np.inf
    with pytest.raises(ValueError, match=r"layer 'layer2' \(avg\) contains infinity"):
        Mahalanobis(["layer1", "layer2"]).fit(features, y)


def test_many_rows_take_a_sample_for_the_threshold(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 3))
    all_rows = Mahalanobis().fit(X).offset_
    monkeypatch.setattr(threshold, "THRESHOLD_ROWS", 1000)
    sampled = Mahalanobis().fit(X)
    assert sampled.offset_ != all_rows
    assert sampled.offset_ == Mahalanobis().fit(X).offset_
    assert np.mean(sampled.decision_function(X) < 0) == pytest.approx(0.05, abs=0.02)
