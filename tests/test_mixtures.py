"""Mixtures against scikit-learn, and against themselves by chunks and types."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import parallel_config
from references import lsgm as reference
from scipy.special import logsumexp
from sklearn.cluster import KMeans
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.utils import check_random_state

from skood import LayerFeatures
from skood.features import chunks
from skood.mixtures.bounds import MarginalBounds
from skood.mixtures.em import MixtureFit, Run
from skood.mixtures.expectation import responsibilities
from skood.mixtures.gaussians import EPSILON
from skood.mixtures.mixture import KINDS
from skood.mixtures.products import mostly_empty
from skood.mixtures.rows import FeatureMoments, LayerRows
from skood.mixtures.start import lloyd, start_points

COVARIANCES = list(KINDS)
PRIORS = [None, "dirichlet_process"]


def block_of(chunk):
    return chunk.block("layer")


def tensor_of(chunk):
    return torch.from_numpy(np.array(chunk.block("layer")))


def rows_of(X, *, scaled=False, read=block_of):
    return LayerRows.of(LayerFeatures({"layer": X}), read, scaled)


def fitted(X, points, covariance_type="diag", prior=None, *, read=block_of, **options):
    rows = rows_of(X, read=read)
    fit = MixtureFit(len(points), covariance_type, prior, **{"tol": 0} | options)
    return Run.of(rows, fit).from_points(rows.frame.of(points))


def k_means(X, n_components, seed=0):
    """Return the centres that scikit-learn's mixtures start from, given the seed."""
    model = KMeans(n_components, n_init=1, random_state=check_random_state(seed))
    return model.fit(X).cluster_centers_


def scikit_learn(X, n_components, covariance_type, prior, max_iter):
    kind = GaussianMixture
    options = {}
    if prior is not None:
        kind = BayesianGaussianMixture
        options["weight_concentration_prior_type"] = "dirichlet_process"
    model = kind(
        n_components=n_components,
        covariance_type=covariance_type,
        max_iter=max_iter,
        tol=0,
        random_state=0,
        **options,
    )
    return model.fit(X)


def bound(mixture, X):
    """Return the mean log-likelihood of a row, in float64."""
    return logsumexp(mixture.log_joint(X.astype(np.float64)), axis=1).mean()


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(900, 5)) @ rng.normal(size=(5, 5)) + 7
    return X + 3 * rng.normal(size=(4, 5))[rng.integers(0, 4, len(X))]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("covariance_type", COVARIANCES)
@pytest.mark.parametrize("max_iter", [1, 25])
def test_equals_scikit_learn_from_the_same_start(X, covariance_type, prior, max_iter):
    expected = scikit_learn(X, 5, covariance_type, prior, max_iter)
    mixture = fitted(X, k_means(X, 5), covariance_type, prior, max_iter=max_iter)
    np.testing.assert_allclose(mixture.weights, expected.weights_, rtol=1e-8)
    np.testing.assert_allclose(mixture.means, expected.means_, rtol=1e-8)
    np.testing.assert_allclose(
        mixture.covariances, expected.covariances_, rtol=1e-8, atol=1e-10
    )
    np.testing.assert_allclose(
        mixture.lower_bound, np.squeeze(expected.lower_bound_), rtol=1e-9
    )
    np.testing.assert_allclose(
        logsumexp(mixture.log_joint(X), axis=1), expected.score_samples(X), rtol=1e-8
    )
    np.testing.assert_allclose(
        mixture.responsibilities(X), expected.predict_proba(X), atol=1e-9
    )


@pytest.mark.parametrize("covariance_type", COVARIANCES)
def test_densities_equal_the_plain_loops(X, covariance_type):
    mixture = fitted(X, k_means(X, 3), covariance_type, max_iter=3)
    expected = [reference.log_densities(x, mixture) for x in X[:20]]
    np.testing.assert_allclose(mixture.log_densities(X[:20]), expected, rtol=1e-9)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("covariance_type", COVARIANCES)
def test_chunks_and_workers_are_no_matter(X, covariance_type, prior, monkeypatch):
    points = k_means(X, 4)
    whole = fitted(X, points, covariance_type, prior, max_iter=8)
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", 500)
    chunked = fitted(X, points, covariance_type, prior, max_iter=8)
    with parallel_config("threading", n_jobs=2):
        threaded = fitted(X, points, covariance_type, prior, max_iter=8)
    for part in ("weights", "means", "covariances", "lower_bound"):
        value = getattr(chunked, part)
        np.testing.assert_allclose(value, getattr(whole, part), rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(value, getattr(threaded, part))


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("covariance_type", COVARIANCES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_torch_equals_numpy(X, covariance_type, prior, dtype):
    X, points = X.astype(dtype), k_means(X, 4)
    numpy = fitted(X, points, covariance_type, prior, max_iter=8)
    tensor = fitted(X, points, covariance_type, prior, max_iter=8, read=tensor_of)
    rtol = 1e-9 if dtype == np.float64 else 1e-3
    for part in ("weights", "means", "covariances", "lower_bound"):
        np.testing.assert_allclose(
            getattr(tensor, part), getattr(numpy, part), rtol=rtol, atol=rtol
        )
    np.testing.assert_allclose(
        tensor.log_joint(torch.from_numpy(X)), tensor.log_joint(X), rtol=1e-9
    )


def clusters_far_away(n=3000, d=256, offset=100.0):
    rng = np.random.default_rng(0)
    centres = 0.6 * rng.normal(size=(12, d))
    noise = rng.normal(size=(n, d)) * np.geomspace(1, 0.2, d)
    return centres[rng.integers(0, 12, n)] + noise + offset


@pytest.mark.parametrize("covariance_type", COVARIANCES)
def test_float32_keeps_the_bound_far_from_zero(covariance_type):
    """At d 256 with means near 100: an error of 1e-5 nats a feature at most."""
    X = clusters_far_away().astype(np.float32)
    points = k_means(X, 6)
    single = fitted(X, points, covariance_type, max_iter=6)
    double = fitted(X.astype(np.float64), points, covariance_type, max_iter=6)
    allowed = 1e-5 * X.shape[1]  # the bound is about -110, so 2e-5 of it
    assert single.lower_bound == pytest.approx(double.lower_bound, abs=allowed)
    assert bound(single, X) == pytest.approx(bound(double, X), abs=allowed)


@pytest.mark.parametrize("spread", [0.0, 3e-4, 3e-3, 1e-2, 1e-1])
def test_float32_holds_out_where_covariances_are_nearly_singular(spread):
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(2000, 6)) @ rng.normal(size=(6, 40))
    X = (flat + spread * rng.normal(size=flat.shape)).astype(np.float32)
    points = k_means(X, 3)
    single = fitted(X, points, "full", max_iter=4)
    double = fitted(X.astype(np.float64), points, "full", max_iter=4)
    assert bound(single, X) == pytest.approx(bound(double, X), rel=1e-4)


@pytest.mark.parametrize("offset", [0.0, 30.0])
@pytest.mark.parametrize("covariance_type", COVARIANCES)
def test_the_estimated_error_of_float32_is_about_right(covariance_type, offset):
    X = clusters_far_away(1000, 32, 5.0)
    X[:500] += offset  # then the means are many deviations from the centre
    mixture = fitted(X, k_means(X, 4), covariance_type, max_iter=3)
    y = mixture.frame.of(X)
    exact = mixture.gaussians.log_densities(y) + mixture.parameters.log_weights
    rounded = mixture.gaussians.log_densities(y.astype(np.float32))
    rounded += mixture.parameters.log_weights
    error = np.abs(logsumexp(exact, axis=1) - logsumexp(rounded, axis=1)).mean()
    estimate = mixture.weights @ mixture.gaussians.float32_error()
    assert error < 5 * estimate + 30 * EPSILON


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dead", [False, True])
def test_ruled_out_components_have_no_share(dtype, dead):
    rng = np.random.default_rng(1)
    X = 2 * rng.normal(size=(8, 10))[rng.integers(0, 8, 1500)]
    X += rng.normal(size=X.shape) @ rng.normal(size=(10, 10)) / 3
    if dead:  # a unit that is off in some components: variances down to the ridge
        X[:, 0] = np.maximum(X[:, 0], 0)
    mixture = fitted(X, k_means(X, 8), "full", max_iter=5)
    y = mixture.frame.of(X).astype(dtype)
    joint = mixture.gaussians.log_densities(y) + mixture.parameters.log_weights
    likely = mixture.gaussians.likely_log_joint(y, mixture.parameters.log_weights)
    expected, log_likelihood, _ = responsibilities(joint.copy())
    found, other, _ = responsibilities(likely.copy())
    tolerance = 1e-5 if dead else 100 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(found, expected, atol=tolerance)
    assert other == pytest.approx(log_likelihood, rel=tolerance)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 9), st.floats(-3, 3))
def test_bounds_are_never_exceeded(seed, d, log_scale):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(3, d)) * 10**log_scale
    roots = rng.normal(size=(3, d, d))
    covariances = roots @ np.swapaxes(roots, 1, 2) + 1e-3 * np.eye(d)
    gaussians = KINDS["full"].of(points, covariances)
    y = rng.normal(size=(20, d)) * 10**log_scale
    for dtype in (np.float32, np.float64):
        bounds = MarginalBounds.of(points, gaussians.whitenings, gaussians._constants)
        upper = bounds.upper(y.astype(dtype)).T
        exact = gaussians.log_densities(y)
        assert (upper >= exact - 1e-5 * np.abs(exact)).all()


@pytest.mark.parametrize("per_row", [1, 7])
def test_shares_multiply_alike_sparse_or_dense(per_row):
    rng = np.random.default_rng(0)
    shares = np.zeros((50, 20))
    for row in shares:
        row[rng.choice(20, per_row, replace=False)] = 1 / per_row
    y = rng.normal(size=(50, 3))
    np.testing.assert_allclose(mostly_empty(shares) @ y, shares.T @ y, rtol=1e-12)


def test_an_empty_component_stays_empty_and_harmless(X):
    points = np.concatenate([k_means(X, 3), [[1e6] * 5]])
    for covariance_type in COVARIANCES:
        mixture = fitted(X, points, covariance_type, max_iter=5)
        assert mixture.weights[3] < 1e-15
        assert np.isfinite(mixture.log_joint(X)).all()
        without = fitted(X, points[:3], covariance_type, max_iter=5)
        assert mixture.lower_bound == pytest.approx(without.lower_bound, rel=1e-9)


def test_a_dirichlet_process_leaves_components_empty(X):
    free = fitted(X, k_means(X, 12), "full", None, max_iter=150)
    few = fitted(X, k_means(X, 12), "full", "dirichlet_process", max_iter=150)
    assert np.sum(few.weights > 0.01) < np.sum(free.weights > 0.01)


def test_fit_stops_when_the_bound_stands_still(X):
    points = k_means(X, 3)
    mixture = fitted(X, points, max_iter=500, tol=1e-4)
    assert mixture.converged
    assert 1 < mixture.n_iter < 500
    again = fitted(X, points, max_iter=mixture.n_iter - 1, tol=1e-4)
    assert not again.converged
    assert abs(again.lower_bound - mixture.lower_bound) < 1e-4


def test_the_best_of_several_starts_is_kept(X):
    rows = rows_of(X)
    bounds = [
        MixtureFit(6, n_init=n).of(rows, np.random.RandomState(3)).lower_bound
        for n in (1, 4)
    ]
    assert bounds[1] >= bounds[0]


def test_scaling_is_undone_in_the_parameters(X):
    X = X * [1, 10, 100, 1000, 0.1]
    for covariance_type in COVARIANCES:
        run = Run.of(rows_of(X, scaled=True), MixtureFit(1, covariance_type))
        mixture = run.from_points(np.zeros((1, 5)))
        np.testing.assert_allclose(mixture.means[0], X.mean(axis=0), rtol=1e-9)
        covariance = np.cov(X.T, ddof=0)
        expected = covariance.diagonal() if covariance_type == "diag" else covariance
        np.testing.assert_allclose(
            mixture.covariances.reshape(expected.shape), expected, rtol=1e-4
        )


def test_lloyd_finds_what_scikit_learn_finds(X):
    first = X[:6]
    expected = KMeans(6, init=first, n_init=1).fit(X).cluster_centers_
    np.testing.assert_allclose(lloyd(X, first), expected, rtol=1e-6)


def test_the_start_is_seeded_and_good(X, monkeypatch):
    monkeypatch.setattr("skood.mixtures.start.LEAST_ROWS", 200)
    monkeypatch.setattr("skood.mixtures.start.ROWS_PER_COMPONENT", 50)
    rows = rows_of(X)
    once, again = (start_points(rows, 4, np.random.RandomState(0)) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    y = rows.frame.of(X)
    best = KMeans(4, n_init=5, random_state=0).fit(y).inertia_
    inertia = ((y[:, None] - once) ** 2).sum(axis=2).min(axis=1).sum()
    assert inertia < 1.2 * best


def test_singular_covariances_are_refused():
    X = np.repeat([[0.0, 0.0, 1.0], [1.0, 2.0, 1.0]], 10, axis=0)
    for covariance_type in COVARIANCES:
        with pytest.raises(ValueError, match="not positive definite: raise reg_covar"):
            fitted(X, X[[0, -1]], covariance_type, reg_covar=0)


def test_moments_of_features_are_merged_block_by_block(monkeypatch):
    x = np.random.default_rng(0).normal(1e6, 1, size=(50, 3))
    monkeypatch.setattr("skood.mixtures.rows.BLOCK_ROWS", 7)
    found = FeatureMoments.of(x)
    assert found.count == 50
    np.testing.assert_allclose(found.mean, x.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(found.squares, 50 * x.var(axis=0), rtol=1e-9)
