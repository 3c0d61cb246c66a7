"""LSGM against plain loops over paths, scikit-learn, and what it promises."""

from __future__ import annotations

import pickle
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import parallel_config
from references import lsgm as reference
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

from skood import LSGM, LayerFeatures, Mahalanobis
from skood.detectors import threshold
from skood.features import chunks
from skood.mixtures.paths import (
    TransitionCounts,
    assigned,
    likeliest_path,
    log_likelihood,
)

WEIGHTINGS = ["every_layer", "first_layer"]
COVARIANCES = ["diag", "full", "tied"]


def three_layers(n=200, seed=0, dtype=np.float64):
    """Return features of layers of 3, 4 and 2 units whose groups follow one another."""
    rng = np.random.default_rng(seed)
    layers, group = {}, rng.integers(0, 3, n)
    for number, width in enumerate((3, 4, 2)):
        centres = 3 * np.random.default_rng(number).normal(size=(3, width))
        group = np.where(rng.random(n) < 0.8, group, rng.integers(0, 3, n))
        x = centres[group] + rng.normal(size=(n, width)) + 5
        layers[f"layer{number + 1}"] = x.astype(dtype)
    return LayerFeatures(layers)


@pytest.fixture
def features():
    return three_layers()


@pytest.fixture
def fitted(features):
    return LSGM([3, 4, 2], random_state=0).fit(features)


def rows_by_layer(features):
    blocks = [features.block(*name) for name in features.block_names]
    return list(zip(*blocks, strict=True))


@pytest.mark.parametrize("temper", [False, True])
@pytest.mark.parametrize("covariance_type", COVARIANCES)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_scores_are_sums_over_all_paths(features, weighting, covariance_type, temper):
    detector = LSGM(
        [3, 4, 2],
        covariance_type=covariance_type,
        weighting=weighting,
        temper=temper,
        random_state=0,
    ).fit(features)
    mixtures = list(detector.mixtures_.values())
    expected = []
    for arrays in rows_by_layer(features)[:25]:
        emissions = reference.emissions(arrays, mixtures, weighting, temper)
        expected.append(reference.score(emissions, detector.transition_matrix_))
    np.testing.assert_allclose(
        detector.score_samples(features)[:25], expected, rtol=1e-9
    )


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_likeliest_path_is_that_of_all_paths(features, weighting):
    detector = LSGM([3, 4, 2], weighting=weighting, random_state=0).fit(features)
    mixtures = list(detector.mixtures_.values())
    expected = [
        reference.likeliest_path(
            reference.emissions(arrays, mixtures, weighting),
            detector.transition_matrix_,
        )
        for arrays in rows_by_layer(features)[:40]
    ]
    found = detector.most_likely_path(features)
    assert found.shape == (200, 3)
    np.testing.assert_array_equal(found[:40], expected)


def test_transitions_are_smoothed_frequencies(features, fitted):
    components = [
        mixture.log_joint(features.block(*name)).argmax(axis=1)
        for name, mixture in fitted.mixtures_.items()
    ]
    for number, (here, there) in enumerate([(3, 4), (4, 2)]):
        expected = reference.transition_matrix(
            components[number], components[number + 1], here, there
        )
        np.testing.assert_allclose(fitted.transition_matrix_[number], expected)
    counts = fitted.transition_counts(features, "layer1", "layer3")
    assert counts.shape == (3, 2)
    assert counts.dtype.kind == "i"
    expected = np.zeros((3, 2))
    np.add.at(expected, (components[0], components[2]), 1)
    np.testing.assert_array_equal(counts, expected)


def test_soft_transitions_are_expected_counts(features):
    detector = LSGM(3, assignments="soft", random_state=0).fit(features)
    shares = [
        mixture.responsibilities(features.block(*name))
        for name, mixture in detector.mixtures_.items()
    ]
    for number, matrix in enumerate(detector.transition_matrix_):
        counts = shares[number].T @ shares[number + 1] + 1e-8
        np.testing.assert_allclose(matrix, counts / counts.sum(axis=1)[:, None])


def test_an_empty_component_goes_everywhere_alike():
    shares = [assigned(np.eye(3)[[0, 0, 2]]), assigned(np.eye(4)[[1, 3, 3]])]
    (matrix,) = TransitionCounts.of(shares).probabilities()
    np.testing.assert_allclose(matrix[1], 0.25)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    np.testing.assert_allclose(matrix[0], [0, 0.5, 0, 0.5], atol=1e-8)


def harsh(rng, sizes, n, spread):
    """Return log densities that lie far apart and transitions down to 1e-17."""
    emissions = [rng.normal(size=(n, size)) * spread for size in sizes]
    powers = [10.0 ** rng.uniform(-17, 0, s) for s in pairwise(sizes)]
    return emissions, [p / p.sum(axis=1, keepdims=True) for p in powers]


@settings(max_examples=40)
@given(
    st.integers(0, 10_000),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.sampled_from([1.0, 30.0, 1e3, 1e6, 1e150]),
)
def test_recursion_equals_paths_however_far_apart_densities_are(seed, sizes, spread):
    emissions, transitions = harsh(np.random.default_rng(seed), sizes, 5, spread)
    tensors = [torch.from_numpy(emission) for emission in emissions]
    found = log_likelihood(emissions, transitions)
    expected = [
        reference.score([e[i] for e in emissions], transitions) for i in range(5)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(log_likelihood(tensors, transitions), found, rtol=1e-12)
    path = likeliest_path(emissions, transitions)
    along = [
        reference.path_log_likelihood(path[i], [e[i] for e in emissions], transitions)
        for i in range(5)
    ]
    assert (np.asarray(along) <= found + 1e-9 * np.abs(found)).all()


def of_unit_variance(features):
    """Return a layer for which a ridge by column is one ridge, as scikit-learn's."""
    X = features.block("layer2")
    return X / X.std(axis=0, ddof=1)


@pytest.mark.parametrize(
    ("covariance_type", "prior"),
    [(kind, None) for kind in COVARIANCES]
    + [("full", "dirichlet_process"), ("tied", "dirichlet_process")],
)
def test_one_layer_equals_scikit_learn(features, covariance_type, prior):
    X = of_unit_variance(features)
    detector = LSGM(
        1, covariance_type=covariance_type, prior=prior, weighting="first_layer"
    ).fit(X)
    kind = BayesianGaussianMixture if prior else GaussianMixture
    expected = kind(n_components=1, covariance_type=covariance_type, reg_covar=1e-6)
    np.testing.assert_allclose(
        detector.score_samples(X), expected.fit(X).score_samples(X), rtol=1e-9
    )


def test_one_layer_of_several_components_equals_scikit_learn(features):
    X = of_unit_variance(features)
    detector = LSGM(3, weighting="first_layer", tol=1e-10, random_state=0).fit(X)
    (mixture,) = detector.mixtures_.values()
    same = GaussianMixture(
        3,
        covariance_type="diag",
        weights_init=mixture.weights,
        means_init=mixture.means,
        precisions_init=1 / mixture.covariances,
        reg_covar=1e-6,
        tol=1e-10,
    ).fit(X)
    assert detector.lower_bound_[0] == pytest.approx(same.lower_bound_, abs=1e-8)
    np.testing.assert_allclose(
        detector.score_samples(X), same.score_samples(X), rtol=1e-4
    )


def test_mahalanobis_is_the_nearest_component_of_tied_mixtures():
    """Section 3.4: a trace forced through the nearest components."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    layers = {
        name: rng.normal(size=(300, width)) @ rng.normal(size=(width, width))
        + 50 * rng.normal(size=(3, width))[y]
        for name, width in (("layer1", 3), ("layer2", 5))
    }
    features = LayerFeatures(layers)
    detector = LSGM(3, covariance_type="tied", reg_covar=0, random_state=1)
    detector.fit(features)
    nearest = sum(
        mixture.log_densities(layers[layer]).max(axis=1)
        for (layer, _), mixture in detector.mixtures_.items()
    )
    mahalanobis = Mahalanobis(reg_covar=0).fit(features, y).score_samples(features)
    difference = nearest - mahalanobis / 2
    np.testing.assert_allclose(difference, difference.mean(), rtol=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"covariance_type": "full"},
        {"covariance_type": "tied", "prior": "dirichlet_process"},
        {"scale_layers": True, "assignments": "soft"},
    ],
    ids=str,
)
def test_chunks_store_and_workers_are_no_matter(
    features, options, monkeypatch, tmp_path
):
    detector = LSGM(3, random_state=0, **options)
    whole = clone(detector).fit(features)
    features.save(tmp_path / "features")
    stored = LayerFeatures.load(tmp_path / "features")
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", 300)
    chunked = clone(detector).fit(stored)
    with parallel_config("threading", n_jobs=2):
        threaded = clone(detector).fit(stored)
    expected = whole.score_samples(features)
    np.testing.assert_allclose(chunked.score_samples(stored), expected, rtol=1e-7)
    assert chunked.offset_ == pytest.approx(whole.offset_, rel=1e-7)
    np.testing.assert_array_equal(
        threaded.score_samples(stored), chunked.score_samples(stored)
    )


def test_processes_are_no_matter(features, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", 900)
    detector = LSGM(3, random_state=0, max_iter=3, tol=1.0)
    expected = clone(detector).fit(features).score_samples(features)
    with parallel_config("loky", n_jobs=2):
        scores = clone(detector).fit(features).score_samples(features)
    np.testing.assert_array_equal(scores, expected)


def test_float32_is_close_and_scores_do_not_depend_on_the_batch(features):
    single = three_layers(dtype=np.float32)
    detector = LSGM(3, random_state=0, tol=1e-5).fit(single)
    scores = detector.score_samples(single)
    exact = LSGM(3, random_state=0, tol=1e-5).fit(features).score_samples(features)
    np.testing.assert_allclose(scores, exact, rtol=1e-3, atol=1e-3)
    one_by_one = [detector.score_samples(single[[i]])[0] for i in range(20)]
    np.testing.assert_allclose(one_by_one, scores[:20], rtol=1e-10)


def test_labels_and_outliers_make_no_difference(features):
    y = np.arange(200) % 4 - 1
    detector = LSGM(3, random_state=0).fit(features, y)
    alone = LSGM(3, random_state=0).fit(features[np.flatnonzero(y >= 0)])
    np.testing.assert_array_equal(
        detector.score_samples(features), alone.score_samples(features)
    )


def test_labels_make_no_difference_where_rows_are_kept_out():
    rng = np.random.default_rng(0)
    few = rng.normal(size=(60, 12))
    detector = LSGM(2).fit(few, rng.integers(0, 4, 60))
    assert detector._kept_out(detector._training(few, None)) is not None
    np.testing.assert_array_equal(
        detector.score_samples(few), LSGM(2).fit(few).score_samples(few)
    )


def test_attributes_of_the_fit(features, fitted):
    for values in (fitted.n_iter_, fitted.converged_, fitted.lower_bound_):
        assert isinstance(values, np.ndarray)
        assert values.shape == (3,)
    assert fitted.converged_.all()
    assert list(fitted.mixtures_) == features.block_names
    assert [matrix.shape for matrix in fitted.transition_matrix_] == [(3, 4), (4, 2)]
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(
        again.score_samples(features), fitted.score_samples(features)
    )


def test_the_seed_decides_the_fit(features, monkeypatch):
    one, other = (LSGM(3, random_state=0).fit(features) for _ in range(2))
    assert one.offset_ == other.offset_
    monkeypatch.setattr(threshold, "THRESHOLD_ROWS", 50)
    assert np.isfinite(LSGM(3, random_state=0).fit(features).offset_)


def test_a_fit_that_has_not_converged_warns(features):
    with pytest.warns(ConvergenceWarning, match=r"layer 'layer1' \(avg\).*max_iter=1"):
        LSGM(3, max_iter=1, tol=0, random_state=0).fit(features)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LSGM(3, random_state=0).fit(features)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"n_components": [2, 3]}, r"n_components=\[2, 3\] has 2 numbers, .* 3 layers"),
        ({"n_components": [2, 0, 3]}, "whole numbers from 1 on"),
        ({"n_components": [2, 1.5, 3]}, "whole numbers from 1 on"),
        ({"n_components": 0}, "'n_components' parameter of LSGM must be"),
        ({"covariance_type": "spherical"}, "'covariance_type' parameter of LSGM"),
        ({"prior": "uniform"}, "'prior' parameter of LSGM"),
        ({"weight_concentration_prior": 0}, "'weight_concentration_prior' parameter"),
        ({"weighting": "none"}, "'weighting' parameter of LSGM"),
        ({"assignments": "firm"}, "'assignments' parameter of LSGM"),
        ({"reg_covar": -1}, "'reg_covar' parameter of LSGM"),
        ({"max_iter": 0}, "'max_iter' parameter of LSGM"),
        ({"tol": -1}, "'tol' parameter of LSGM"),
        ({"n_init": 0}, "'n_init' parameter of LSGM"),
    ],
    ids=str,
)
def test_wrong_parameters_are_named(features, options, text):
    with pytest.raises(ValueError, match=text):
        LSGM(**{"n_components": 2} | options).fit(features)


def test_useless_layers_are_named(features):
    constant = {"layer1": features.block("layer1"), "off": np.full((200, 4), 0.1)}
    with pytest.raises(ValueError, match=r"layer 'off' \(avg\): .* are constant"):
        LSGM(2, random_state=0).fit(LayerFeatures(constant))
    twice = {"same": np.repeat(features.block("layer1")[:, :1], 2, axis=1)}
    with pytest.raises(ValueError, match=r"layer 'same' .* raise reg_covar"):
        LSGM(2, covariance_type="full", reg_covar=0).fit(LayerFeatures(twice))


def test_unknown_layers_are_named_in_transition_counts(features, fitted):
    with pytest.raises(ValueError, match="no fitted layer 'layer9'; there are"):
        fitted.transition_counts(features, "layer1", "layer9")


def test_more_components_than_rows_carry_are_fewer_with_a_warning():
    X = np.random.default_rng(0).normal(size=(40, 3))
    with pytest.warns(UserWarning, match=r"n_components=50 .* 40 in-dist.*: 2 are fit"):
        detector = LSGM(random_state=0).fit(X)
    assert len(detector.mixtures_["array", "avg"].weights) == 2
    assert np.isfinite(detector.offset_)
    two = LayerFeatures({"layer1": X, "layer2": X + 1})
    with pytest.warns(UserWarning, match=r"n_components=\[1, 9\] is more than 40"):
        detector = LSGM([1, 9], random_state=0).fit(two)
    assert [len(m.weights) for m in detector.mixtures_.values()] == [1, 2]


@pytest.mark.parametrize("covariance_type", COVARIANCES)
@pytest.mark.parametrize("prior", [None, "dirichlet_process"])
def test_a_row_has_one_score_whatever_stands_beside_it(covariance_type, prior):
    features = three_layers(700, dtype=np.float32)
    features = LayerFeatures(
        {
            **{layer: features.block(layer) for layer in features.layers},
            "wide": np.random.default_rng(0).normal(size=(700, 33)),
        }
    )
    detector = LSGM(
        [3, 4, 2, 9], covariance_type=covariance_type, prior=prior, random_state=0
    ).fit(features)
    together = detector.score_samples(features)
    rng = np.random.default_rng(1)
    for n in (1, 2, 7, 65, 300):
        rows = rng.permutation(700)[:n]
        np.testing.assert_array_equal(
            detector.score_samples(features[rows]), together[rows]
        )
