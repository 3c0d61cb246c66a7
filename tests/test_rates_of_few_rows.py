"""Thresholds where single rows decide what is learned: the rates that come of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skood import (
    KPCA,
    NECO,
    PNML,
    SCALE,
    KLMatching,
    LayerFeatures,
    LinearHead,
    Mahalanobis,
    RelationGraph,
    Residual,
    ViM,
    WeiPer,
)
from skood.detectors.threshold import threshold_for
from skood.detectors.twins import twin_rows
from skood.numerics.gaussian import TiedGaussian
from skood.numerics.moments import ClassMoments
from skood.numerics.rows import lengths


def rates(detector, rows, n, times=16, labels=False):
    """Return the shares of new rows that fits to n rows reject, with their rows."""
    found = []
    for seed in range(times):
        rng = np.random.default_rng([seed, n])
        (X, y), (new, _) = rows(rng, n), rows(rng, 1000)
        fitted = detector.fit(X, y if labels else None)
        found.append(np.mean(fitted.predict(new) == -1))
    return np.array(found)


def bound(n_scores, rate, times):
    """Return the rate that scores of new rows give, and four standard errors of it."""
    due = max(math.floor(rate * (n_scores + 1)), 1) / (n_scores + 1)
    return due, 4 * (due * (1 - due) / (n_scores + 2) / times) ** 0.5


def penultimate(d, n_classes=4, spread=2.0):
    """Return what draws rows of classes in d columns, with a head that knows them."""
    fixed = np.random.default_rng(d)
    means = spread * fixed.normal(size=(n_classes, d))
    weight = means / d if spread else fixed.normal(size=(n_classes, d)) / d**0.5
    head = LinearHead(weight, np.arange(n_classes) / 10)

    def rows(rng, n):
        y = rng.integers(0, n_classes, n)
        X = rng.normal(size=(n, d)) + means[y]
        return LayerFeatures({("penultimate", "avg"): X}, head=head), y

    return rows


@pytest.mark.parametrize("detector", [ViM(), Residual(), NECO(), KPCA(), PNML()])
@pytest.mark.parametrize("a_column", [0.75, 0.9, 1.0, 1.1, 1.25])
def test_rows_that_span_about_all_columns_keep_the_rate(detector, a_column):
    n = int(48 * a_column)
    found = rates(detector.set_params(contamination=0.1), penultimate(48), n)
    due, error = bound(max(9, n // 5), 0.1, len(found))
    assert np.mean(found) == pytest.approx(due, abs=error)
    assert np.median(found) > 0.02


@pytest.mark.parametrize("n", [30, 40, 72, 120])
def test_vim_weighs_the_residual_alike_in_all_fits(n):
    """Rows that are fitted on have a shorter residual the fewer they are."""
    found = rates(ViM(contamination=0.2), penultimate(64, spread=0.0), n)
    due, error = bound(min(n, 50), 0.2, len(found))
    assert np.mean(found) == pytest.approx(due, abs=error)


@pytest.mark.parametrize(("n", "d"), [(30, 28), (31, 30), (40, 38), (40, 48)])
def test_too_few_rows_to_keep_the_rate_keep_another_that_is_told(n, d):
    def rows(rng, n):
        return rng.normal(size=(n, d)), None

    detector = Mahalanobis()
    with pytest.warns(UserWarning, match=r"=0\.05 takes 19 in-dist.* there are 1\d"):
        found = rates(detector, rows, n, times=24)
    due, error = bound(round(0.4 * n), 0.05, len(found))
    assert np.mean(found) == pytest.approx(due, abs=error)


def test_a_gaussian_says_when_it_hangs_on_few_rows():
    rng = np.random.default_rng(0)

    def hangs(n, d, n_classes=1):
        y = np.arange(n) % n_classes
        moments = ClassMoments.of(rng.normal(size=(n, d)), y, n_classes)
        return TiedGaussian.of(moments, 1e-12).hangs_on_few_rows

    assert [hangs(n, 60) for n in (20, 29, 40, 60, 61, 92, 93, 200)] == [
        *(False, False, True, True, True, True, False, False)
    ]
    assert hangs(96, 60, n_classes=5)
    assert not hangs(97, 60, n_classes=5)


@pytest.mark.parametrize("n_classes", [4, 8])
def test_relations_to_classes_of_few_rows_keep_the_rate(n_classes):
    """How many rows a class has is chance, and its scores follow it."""
    detector = RelationGraph(contamination=0.1)
    found = rates(detector, penultimate(64, n_classes), 68, times=100)
    due, error = bound(14, 0.1, len(found))
    assert np.mean(found) == pytest.approx(due, abs=error)


def confident(rng, n):
    """Two classes, of which nearly all rows are quite sure."""
    y = rng.integers(0, 2, n)
    z = (20 + 5 * rng.normal(size=n)) * (2 * y - 1)
    return np.column_stack([z, -z]) / 2, y


@pytest.mark.parametrize(("n", "times"), [(1000, 20), (6000, 8)])
def test_templates_of_confident_classes_keep_the_rate(n, times):
    found = rates(KLMatching(), confident, n, times)
    due, error = bound(n // 5, 0.05, times)
    assert np.mean(found) == pytest.approx(due, abs=error)
    assert found.max() < 0.25


def test_a_score_in_shaped_features_keeps_its_rows_out():
    head = LinearHead(np.array([[1.0, 0.0], [0.0, 1.0]]), np.zeros(2))

    def rows(rng, n):
        z, y = confident(rng, n)
        return LayerFeatures({"penultimate": np.maximum(z, 0)}, head=head), y

    found = rates(SCALE(50, score=KLMatching()), rows, 1000, times=10)
    due, error = bound(200, 0.05, len(found))
    assert np.mean(found) == pytest.approx(due, abs=error)


def with_repeated(rng, n):
    """A sixth of the rows, of all classes, is one and the same."""
    X, y = rng.normal(size=(n, 6)), rng.integers(0, 4, n)
    X[rng.random(n) < 0.15] = 0
    return X, y


def test_rows_that_come_again_lie_on_one_side_of_the_threshold():
    found = rates(Mahalanobis(relative=True), with_repeated, 300, 8, labels=True)
    assert np.max(found) < 0.12
    X, y = with_repeated(np.random.default_rng(0), 300)
    with pytest.warns(UserWarning, match=r"tie at it, .* 0\.\d% of new .* 1\d\.\d%"):
        detector = Mahalanobis(relative=True).fit(X, y)
    assert detector.predict(np.zeros((1, 6))) == 1


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1))
def test_twins_are_rows_that_equal_two_others(rows):
    a, b = np.array(rows, dtype=float).T[:, :, None]
    expected = [rows.count(row) >= 3 for row in rows]
    assert twin_rows(LayerFeatures({"a": a, "b": b})).tolist() == expected


@pytest.mark.parametrize("n_copies", [5, 10])
def test_scores_that_are_equal_but_for_rounding_are_inliers(n_copies):
    """One large constant column leaves all rows the same histogram."""
    rng = np.random.default_rng(0)
    head = LinearHead(rng.normal(size=(4, 12)), np.zeros(4))

    def features(n):
        X = rng.normal(size=(n, 12)).astype(np.float32)
        X[:, 5] = -1e5
        return LayerFeatures({"penultimate": X}, head=head)

    for _ in range(4):
        detector = WeiPer(n_copies=n_copies, n_bins=30, smoothing=3)
        with pytest.warns(UserWarning, match="200 of the 200 scores .* tie at it"):
            detector.fit(features(200))
        assert np.mean(detector.predict(features(500)) == -1) < 0.05


def test_ties_up_to_rounding_are_told():
    scores = 0.3 + 1e-16 * np.arange(200)
    with pytest.warns(UserWarning, match=r"200 of the 200 scores .* 0\.0% of new"):
        threshold_for(scores, 0.05)


def test_features_in_tiny_units_have_copies_of_weights():
    rng = np.random.default_rng(0)
    X, weight = rng.normal(size=(100, 6)), rng.normal(size=(3, 6))
    tiny = LayerFeatures(
        {"penultimate": X * 1e-160}, head=LinearHead(weight * 1e160, np.zeros(3))
    )
    usual = LayerFeatures({"penultimate": X}, head=LinearHead(weight, np.zeros(3)))
    found = WeiPer(n_copies=5).fit(tiny).score_samples(tiny)
    expected = WeiPer(n_copies=5).fit(usual).score_samples(usual)
    assert np.mean(np.isclose(found, expected, rtol=1e-6)) > 0.95  # bins may round


@pytest.mark.parametrize("size", [1e-320, 1e-170, 1e-160, 1.0, 1e160, 1e300])
def test_lengths_of_any_size(size):
    x = size * np.array([[3.0, 4.0], [0.0, 0.0], [5.0, 12.0]])
    np.testing.assert_allclose(lengths(x), [math.hypot(*row) for row in x], rtol=1e-13)
