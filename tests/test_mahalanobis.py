"""Mahalanobis against plain loops, scikit-learn, and its invariances."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references import mahalanobis as reference
from references.threshold import kth_smallest
from sklearn.covariance import OAS, EmpiricalCovariance, LedoitWolf
from sklearn.metrics import roc_auc_score

from skood import LayerFeatures, Mahalanobis
from skood.estimator_checks import synthetic_features
from skood.features import chunks
from skood.numerics.gaussian import TiedGaussian
from skood.numerics.moments import ClassMoments

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
    scores = Mahalanobis(reg_covar=0).fit(X).score_samples(new)
    expected = EmpiricalCovariance().fit(X).mahalanobis(new)
    np.testing.assert_allclose(-scores, expected, rtol=1e-9)


@pytest.mark.parametrize(("n_rows", "twin"), [(30, 1.0), (200, 1e-5)])
def test_without_a_ridge_few_rows_and_near_twins_have_distances(n_rows, twin):
    X = np.random.default_rng(0).normal(size=(n_rows, 20))
    X[:, 1] = X[:, 0] + twin * X[:, 1]
    found = Mahalanobis(reg_covar=0).fit(X, threshold_data=X).score_samples(X)
    centred = X - X.mean(axis=0)
    solved = np.linalg.solve(centred.T @ centred / n_rows, centred.T)
    np.testing.assert_allclose(-found, np.sum(centred * solved.T, axis=1), rtol=1e-4)
    X[:, 1] = X[:, 0]
    with pytest.raises(ValueError, match=r"20 features is singular: its rank is 19"):
        Mahalanobis(reg_covar=0).fit(X, threshold_data=X)


def test_float32_is_close(data):
    X, y, new = data
    scores = (
        Mahalanobis().fit(X.astype(np.float32), y).score_samples(new.astype(np.float32))
    )
    np.testing.assert_allclose(scores, reference.scores(X, y, new), rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_threshold_is_that_of_leaving_each_row_out(data, variant):
    X, y, _ = data
    detector = Mahalanobis(reg_covar=0, contamination=0.1, **variant).fit(X, y)
    left_out = [
        reference.scores(
            np.delete(X, i, 0), np.delete(y, i), X[i : i + 1], reg_covar=0, **variant
        )[0]
        for i in range(len(X))
    ]
    assert detector.offset_ == pytest.approx(kth_smallest(left_out, 0.1), rel=1e-9)


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
    good, noise = learnt.layer_weights_.values()
    assert good > 0 > noise
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
    detector = Mahalanobis(reg_covar=0).fit(X, y)
    other = Mahalanobis(reg_covar=0).fit(scale * X @ change + 5, y)
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
    wide = replace(
        background,
        whitening=background.whitening * 1e-9,
        points=background.points * 1e-9,
    )
    relative._gaussians["array", "avg"] = (own, wide)
    np.testing.assert_allclose(relative.score_samples(new), plain.score_samples(new))


def decaying(n, d, condition, rng, offset=0.0):
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    deviations = np.geomspace(1, condition**-0.5, d)
    return rng.normal(size=(n, d)) * deviations @ turn + offset


@pytest.mark.parametrize(
    ("condition", "offset", "rtol"), [(1e6, 0, 1e-9), (1e6, 1e6, 1e-5), (1e12, 0, 1e-4)]
)
def test_hard_covariances_against_many_digits(condition, offset, rtol):
    """Float32 products have a relative error of 35 at condition 1e12."""
    rng = np.random.default_rng(0)
    rows = decaying(460, 12, condition, rng, offset)
    X, new = rows[:400], rows[400:]
    y = np.arange(400) % 4
    exact = reference.exact_distances(X, y, new)
    scores = -Mahalanobis(reg_covar=1e-15).fit(X, y).score_samples(new)
    np.testing.assert_allclose(scores, exact, rtol=rtol)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_type_of_the_rows_makes_no_difference(dtype):
    rng = np.random.default_rng(0)
    X = decaying(400, 12, 1e10, rng, 3.0).astype(dtype)
    wide = X.astype(np.float64)
    one, other = (Mahalanobis().fit(x[:300]) for x in (X, wide))
    np.testing.assert_array_equal(
        one.score_samples(X[300:]), other.score_samples(wide[300:])
    )
    assert one.offset_ == other.offset_


@settings(max_examples=25)
@given(st.integers(0, 100), st.lists(st.integers(-140, 140), min_size=5, max_size=5))
def test_units_make_no_difference(seed, exponents):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5)), np.arange(60) % 3
    units = 10.0 ** np.array(exponents)
    detector, other = Mahalanobis().fit(X, y), Mahalanobis().fit(X * units, y)
    np.testing.assert_allclose(
        other.score_samples(X * units), detector.score_samples(X), rtol=1e-7
    )
    assert other.offset_ == pytest.approx(detector.offset_, rel=1e-7)


@pytest.mark.parametrize("variant", [*VARIANTS, {"covariance": "oas"}], ids=str)
@pytest.mark.parametrize(("d", "n_classes"), [(5, 3), (33, 2), (129, 50), (256, 10)])
def test_a_row_has_one_score_whatever_stands_beside_it(d, n_classes, variant):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(5 * d, d)), rng.integers(0, n_classes, 5 * d)
    detector = Mahalanobis(**variant).fit(X, y)
    new = rng.normal(size=(600, d)).astype(np.float32)
    together = detector.score_samples(new)
    for n in (1, 2, 7, 65, 300):
        rows = rng.permutation(600)[:n]
        np.testing.assert_array_equal(detector.score_samples(new[rows]), together[rows])


@pytest.mark.parametrize("variant", VARIANTS[:2], ids=str)
@pytest.mark.parametrize(
    ("covariance", "estimator"),
    [("empirical", EmpiricalCovariance), ("ledoit_wolf", LedoitWolf), ("oas", OAS)],
)
def test_covariances_are_those_of_scikit_learn(
    data, covariance, estimator, variant, monkeypatch
):
    X, y, _ = data
    means = np.array([X[y == c].mean(axis=0) for c in range(3)])
    expected = estimator(assume_centered=True).fit(X - means[y])
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", 100)
    found = Mahalanobis(covariance=covariance, reg_covar=0, **variant).fit(X, y)
    key = ("array", "avg")
    np.testing.assert_allclose(found.covariances_[key], expected.covariance_, rtol=1e-9)
    assert found.shrinkages_[key] == pytest.approx(
        getattr(expected, "shrinkage_", 0), rel=1e-9
    )
    if variant:
        background = estimator().fit(X)
        np.testing.assert_allclose(
            found._gaussians[key][1].covariance(), background.covariance_, rtol=1e-9
        )


def test_shrinkage_at_its_ends():
    rng = np.random.default_rng(0)
    for X in (rng.normal(size=(2000, 1)), rng.normal(size=(3, 50))):
        for covariance, estimator in (("oas", OAS), ("ledoit_wolf", LedoitWolf)):
            found = Mahalanobis(covariance=covariance, reg_covar=0).fit(
                X, threshold_data=X
            )
            np.testing.assert_allclose(
                found.covariances_["array", "avg"],
                estimator().fit(X).covariance_,
                rtol=1e-9,
                atol=1e-12,
            )


def test_a_singular_covariance_is_told_with_rank_and_remedy():
    rng = np.random.default_rng(0)
    text = r"layer 'array' \(avg\) has rank 17 of 40 features \(20 rows, 3 classes\)"
    X, y = rng.normal(size=(20, 40)), np.arange(20) % 3
    with pytest.warns(UserWarning, match=text + ".*covariance='oas'.*reg_covar.*PCA"):
        Mahalanobis().fit(X, y)
    Mahalanobis(covariance="oas").fit(X, y)
    with pytest.raises(ValueError, match="40 features is singular: its rank is 17"):
        Mahalanobis(reg_covar=0).fit(X, y)


def test_rank_deficient_and_dead_features_work():
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        X = rng.normal(size=(30, 80)).astype(dtype)
        X[:, :5] = 0
        X[:, 5] = X[:, 6]
        scores = Mahalanobis().fit(X).score_samples(X)
        assert np.isfinite(scores).all()


def test_a_row_that_differs_in_a_constant_feature_is_far():
    rng = np.random.default_rng(0)
    X = np.c_[1e9 * rng.normal(size=(300, 2)), np.full(300, 0.1), rng.normal(size=300)]
    detector = Mahalanobis().fit(X)
    same, other = X[:1].copy(), X[:1].copy()
    other[0, 2] += 1
    without = Mahalanobis().fit(np.delete(X, 2, 1))
    np.testing.assert_allclose(
        detector.score_samples(same),
        without.score_samples(np.delete(same, 2, 1)),
        rtol=1e-6,
    )
    # The threshold comes from rows that do not differ in it.
    assert detector.score_samples(other)[0] < detector.score_samples(same)[0]


@pytest.mark.parametrize("unit", [1e20, 1e-25])
def test_float32_of_any_size_works(unit):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 4))
    huge = (unit * X).astype(np.float32)
    detector = Mahalanobis().fit(huge)
    assert detector.offset_ == pytest.approx(Mahalanobis().fit(X).offset_, rel=1e-4)


def test_values_whose_squares_do_not_fit_are_refused_by_column():
    X = np.random.default_rng(0).normal(size=(100, 4))
    X[3, 2] = np.finfo(np.float32).max
    assert np.isfinite(Mahalanobis().fit(X.astype(np.float32)).offset_)
    X[:, 1] *= 1e155
    text = "layer 'array'.*values of column 1 are too large.*Divide the column"
    with pytest.raises(ValueError, match=text):
        Mahalanobis().fit(X)


@pytest.mark.parametrize("relative", [False, True])
def test_rows_as_far_as_numbers_go_are_outliers(data, relative):
    X, y, _ = data
    detector = Mahalanobis(relative=relative).fit(X, y)
    far = np.array([[1e300] * 6, [-1e300] * 6, [1.7e308, -1.7e308, 0, 0, 0, 0]])
    scores = detector.score_samples(far)
    assert np.isfinite(scores).all()
    if not relative:
        assert (detector.predict(far) == -1).all()


def test_layers_together_are_one_vector():
    features, y = synthetic_features()
    blocks = [features.block(layer) for layer in ("layer1", "layer2")]
    layers = ["layer1", "layer2"]
    joint = Mahalanobis(layers=layers, joint=True).fit(features, y)
    whole = np.concatenate(blocks, axis=1)
    expected = Mahalanobis().fit(whole, y)
    np.testing.assert_array_equal(
        joint.score_samples(features), expected.score_samples(whole)
    )
    assert joint.offset_ == expected.offset_
    assert list(joint.means_) == [("joint", "avg")]
    unit = Mahalanobis(layers=layers, joint=True, normalize=True).fit(features, y)
    rows = [b / np.linalg.norm(b, axis=1, keepdims=True) for b in blocks]
    rows = np.concatenate(rows, axis=1)
    np.testing.assert_allclose(
        unit.score_samples(features),
        Mahalanobis().fit(rows, y).score_samples(rows),
        rtol=1e-7,
    )
    with pytest.raises(ValueError, match="'logistic' weighs layers, and joint=True"):
        Mahalanobis(layers=layers, joint=True, layer_weights="logistic").fit(
            features, y
        )


def test_ledoit_and_wolf_look_at_all_rows_twice(data):
    X, y, _ = data
    with pytest.raises(ValueError, match="'ledoit_wolf' looks at all rows twice"):
        Mahalanobis(covariance="ledoit_wolf").partial_fit(X, y)
    parts = Mahalanobis(covariance="oas").partial_fit(X[:40], y[:40])
    whole = Mahalanobis(covariance="oas").fit(X, y)
    np.testing.assert_allclose(
        parts.partial_fit(X[40:], y[40:]).score_samples(X),
        whole.score_samples(X),
        rtol=1e-9,
    )


def test_many_classes_take_little_beside_their_means():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(16000, 32)).astype(np.float32), np.arange(16000) % 4000
    tracemalloc.start()
    detector = Mahalanobis().fit(X, y)
    detector.score_samples(X[:100])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6  # one matrix of rows by classes takes 320


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


def test_under_its_whitening_the_rows_are_white(data):
    X, y, _ = data
    detector = Mahalanobis(reg_covar=0).fit(X, y)
    ((key, whitening),) = detector.whitenings_.items()
    centred = X - detector.means_[key][y]
    np.testing.assert_allclose(
        np.cov(centred @ whitening, rowvar=False, bias=True),
        np.eye(X.shape[1]),
        atol=1e-9,
    )
