"""Mahalanobis's threshold: rows left out of a fit, and the rates that come of it."""

from __future__ import annotations

import numpy as np
import pytest
from references import mahalanobis as reference

from skood import Mahalanobis
from skood.detectors import threshold
from skood.numerics.gaussian import TiedGaussian
from skood.numerics.moments import ClassMoments, FourthMoment
from skood.numerics.shrinkage import Shrinkage


def test_threshold_holds_in_many_dimensions():
    """Plain training distances would reject four times as many new rows."""
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(600, 200)), rng.normal(size=(4000, 200))
    detector = Mahalanobis().fit(X)
    assert np.mean(detector.predict(new) == -1) == pytest.approx(0.05, abs=0.02)
    naive = np.quantile(detector.score_samples(X), 0.05)
    assert np.mean(detector.score_samples(new) < naive) > 0.2


def tied_gaussian(X, y, reg_covar=1e-12, covariance="empirical"):
    moments = ClassMoments.of(X, y, y.max() + 1)
    fourth = FourthMoment.of(X, y, moments.means).total
    return TiedGaussian.of(
        moments, reg_covar, Shrinkage.of(covariance, moments, fourth)
    ), moments


def few_rows(rng, kind):
    """Return rows that do not determine a covariance, and their classes."""
    y = np.arange(14) % 3
    if kind == "in a subspace":
        return rng.normal(size=(40, 3)) @ rng.normal(size=(3, 8)), np.arange(40) % 2
    if kind == "each its own direction":
        X = np.c_[rng.normal(size=(14, 4)), np.eye(14)[:, :3]]
        return X, np.arange(14) % 2
    if kind == "one class":
        y = np.zeros(14, dtype=int)
    if kind == "a class of one":
        y[0] = 3
    return rng.normal(size=(14, 20)), y


@pytest.mark.parametrize("reg_covar", [1e-6, 1e-2])
@pytest.mark.parametrize(
    "kind",
    [
        "one class",
        "three classes",
        "a class of one",
        "in a subspace",
        "each its own direction",
    ],
)
def test_leaving_a_row_out_of_few_is_a_refit(kind, reg_covar):
    X, y = few_rows(np.random.default_rng(0), kind)
    gaussian, moments = tied_gaussian(X, y, reg_covar)
    added = reference.ridge_of(moments.covariance(), reg_covar)
    if gaussian.spectrum is None:  # the ridge's part in the sums is what is held
        added *= len(X) / (len(X) - 1)
    expected = reference.unseen_distances(X, y, reg_covar, added)
    np.testing.assert_allclose(gaussian.nearest_unseen(X, y), expected, rtol=1e-6)


@pytest.mark.parametrize("covariance", ["oas", "ledoit_wolf"])
@pytest.mark.parametrize("n", [14, 60])
def test_leaving_a_row_out_of_a_shrunk_covariance_is_a_refit(n, covariance):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n, 9)) * np.arange(1, 10), np.arange(n) % 3
    gaussian, moments = tied_gaussian(X, y, 0.0, covariance)
    share = gaussian.shrinkage
    added = share * moments.variances().mean() * np.eye(9) / (1 - share)
    expected = reference.unseen_distances(X, y, 0.0, added) / (1 - share)
    np.testing.assert_allclose(gaussian.nearest_unseen(X, y), expected, rtol=1e-9)


def test_rows_that_rounding_decides_are_not_left_out_in_closed_form():
    rng = np.random.default_rng(0)
    X = np.c_[rng.normal(size=(60, 4)), np.eye(60)[:, 0]]  # one row has a direction
    gaussian, _ = tied_gaussian(X, np.zeros(60, dtype=int))
    assert gaussian.nearest_unseen(X, np.zeros(60, dtype=int)) is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "d", "n_classes"), [(200, 256, 8), (300, 290, 1)])
def test_the_threshold_holds_with_few_rows(n, d, n_classes, dtype):
    rng = np.random.default_rng(0)
    rates, found = [], []
    for _ in range(6):
        X, new, odd = (
            (s * rng.normal(size=(size, d))).astype(dtype)
            for s, size in ((1, n), (1, 500), (3, 50))
        )
        detector = Mahalanobis().fit(X, np.arange(n) % n_classes)
        rates.append(np.mean(detector.predict(new) == -1))
        found.append(np.mean(detector.predict(odd) == -1))
    assert np.mean(rates) == pytest.approx(0.05, abs=0.03)
    assert np.mean(found) > 0.98


def test_many_rows_take_a_sample_for_the_threshold(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 3))
    all_rows = Mahalanobis().fit(X).offset_
    monkeypatch.setattr(threshold, "THRESHOLD_ROWS", 1000)
    sampled = Mahalanobis().fit(X)
    assert sampled.offset_ != all_rows
    assert sampled.offset_ == Mahalanobis().fit(X).offset_
    assert np.mean(sampled.decision_function(X) < 0) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("share", [0.7, 0.85, 0.95, 0.99])
def test_rows_that_span_nearly_all_directions_keep_the_rate(share):
    d = 160
    rates = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X, new = rng.normal(size=(int(share * d), d)), rng.normal(size=(1000, d))
        with pytest.warns(UserWarning, match="singular"):
            detector = Mahalanobis(contamination=0.1).fit(X)
        rates.append(np.mean(detector.predict(new) == -1))
    n = int(share * d) // 5
    due = max(int(0.1 * (n + 1)), 1) / (n + 1)
    error = 4 * (due * (1 - due) / (n + 2) / len(rates)) ** 0.5
    assert abs(np.mean(rates) - due) < error


@pytest.mark.parametrize("n_classes", [1, 4])
@pytest.mark.parametrize("to_spare", [0, 1, 3, 10])
def test_hardly_more_rows_than_features_keep_the_rate(to_spare, n_classes):
    d = 48
    n = d + n_classes + to_spare
    y, means = np.arange(n) % n_classes, 3 * np.eye(n_classes, d)
    rates = []
    for seed in range(16):
        rng = np.random.default_rng(seed)
        detector = Mahalanobis(contamination=0.1)
        with pytest.warns(UserWarning, match="singular"):
            detector.fit(rng.normal(size=(n, d)) + means[y], y)
        new = rng.normal(size=(1000, d)) + means[np.arange(1000) % n_classes]
        rates.append(np.mean(detector.predict(new) == -1))
    k = 10  # rows kept out, about: a fifth
    assert np.mean(rates) == pytest.approx(1 / (k + 1), abs=4 * 0.09 / 16**0.5)
    assert np.median(rates) > 0.02


def test_a_covariance_that_hangs_on_each_row_is_told():
    X = np.random.default_rng(0).normal(size=(29, 28))  # too few to keep any out
    with pytest.warns(UserWarning, match="rank 28 of 28 .* without one of the rows"):
        Mahalanobis().fit(X)
