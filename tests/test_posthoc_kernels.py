"""The kernels that post-hoc scores share, against what they are a faster way to."""

import numpy as np
import pytest
import torch

from skood import (
    NCI,
    ConceptMatching,
    Energy,
    GaussianMixtureDetector,
    LayerFeatures,
    LINe,
    LinearHead,
    WeiPer,
)
from skood.detectors.head import pnml
from skood.detectors.head.base import product
from skood.detectors.head.histograms import places_among
from skood.detectors.logits.kl_matching import _nearest
from skood.detectors.registry import REGISTRY
from skood.estimator_checks import synthetic_features
from skood.numerics import rows
from skood.numerics.logsumexp import log_sum_exp
from skood.numerics.probabilities import largest_softmax, log_softmax, softmax

ROOMS = ("head", "shaping")


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("n_classes", [2, 10, 40])
@pytest.mark.parametrize("count", [1, 3, 100])
def test_the_largest_probabilities_are_those_of_a_sort(rng, n_classes, count):
    logits = 5 * rng.normal(size=(50, n_classes))
    p, rest = largest_softmax(logits, count)
    expected = np.sort(softmax(logits), axis=1)[:, -count:]
    np.testing.assert_allclose(np.sort(p, axis=1), expected, rtol=1e-13)
    np.testing.assert_allclose(p[:, -1], expected[:, -1], rtol=1e-13)
    np.testing.assert_allclose(rest, 1 - p, atol=1e-15)


@pytest.mark.parametrize("width", [1, rows.NARROW, rows.NARROW + 1, 300])
def test_reductions_are_numpys(rng, width):
    x = rng.normal(size=(70, width))
    np.testing.assert_array_equal(rows.best_logit(x), x.max(axis=1))
    np.testing.assert_allclose(rows.row_sums(x), x.sum(axis=1), atol=1e-13)
    single = x.astype(np.float32)
    assert rows.row_sums(single).dtype == np.float64
    exact = single.sum(axis=1, dtype=np.float64)
    np.testing.assert_allclose(rows.row_sums(single), exact, atol=1e-13)


def test_blocks_are_all_rows_in_order(monkeypatch, rng):
    monkeypatch.setattr(rows, "CACHE_ELEMENTS", 7)
    x = rng.normal(size=(10, 3))
    np.testing.assert_array_equal(np.concatenate([*rows.cache_blocks(x)]), x)
    assert max(map(len, rows.cache_blocks(x))) == 2


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1.0, 1e200])
def test_rows_of_any_size_have_length_one(rng, scale):
    x = rng.normal(size=(5, 40)) * scale
    x[2] = 0
    lengths = np.linalg.norm(rows.unit_rows(x), axis=1)
    np.testing.assert_allclose(lengths, [1, 1, 0, 1, 1], rtol=1e-14)


def test_powers_of_zero_are_zero():
    with np.errstate(all="raise"):
        found = rows.powers(np.array([0.0, 1e-300, 0.5, 1.0]), 0.1)
    np.testing.assert_allclose(found, [0, 1e-30, 0.5**0.1, 1], rtol=1e-13)


@pytest.mark.parametrize("n_cuts", [1, 2, 47])
def test_places_among_cuts_are_those_of_a_search(rng, n_cuts):
    cuts = np.sort(rng.normal(size=n_cuts)) * 1e-3
    near = [cuts, np.nextafter(cuts, -1), np.nextafter(cuts, 1)]
    ends = [[-np.inf, np.inf, -1e300, 1e300, 0.0]]
    x = np.concatenate([*near, *ends, 1e-3 * rng.normal(size=500)])[None]
    expected = np.searchsorted(cuts, x, side="right")
    np.testing.assert_array_equal(places_among(x, cuts), expected)


def test_cuts_beside_each_other_are_searched(rng):
    cuts = np.array([0.0, 1e-12, 1.0])
    x = rng.uniform(-1, 2, size=(3, 30))
    expected = np.searchsorted(cuts, x, side="right")
    np.testing.assert_array_equal(places_among(x, cuts), expected)


def test_blocks_for_products_have_rows_enough(monkeypatch, rng):
    monkeypatch.setattr(rows, "CACHE_ELEMENTS", 7)
    slices = [*rows.cache_slices(rng.normal(size=(10, 3)), 3, at_least=4)]
    assert slices == [slice(0, 4), slice(4, 8), slice(8, 10)]


def test_what_is_left_over_is_in_new_memory(rng):
    logits = rng.normal(size=(20, 3))
    given = logits.copy()
    for kernel in (rows.less_best, softmax, log_softmax, log_sum_exp, Energy().fit):
        kernel(logits)
        np.testing.assert_array_equal(logits, given)


def test_matches_in_float32_are_those_in_float64(rng):
    texts, images = rng.normal(size=(5, 30)), rng.normal(size=(40, 30))
    single = images.astype(np.float32)
    for temperature, rtol in ((1.0, 1e-6), (0.01, 1e-4)):
        narrow = ConceptMatching(texts.astype(np.float32), temperature=temperature)
        wide = ConceptMatching(texts, temperature=temperature).fit(single)
        assert narrow.fit(single).text_embeddings_.dtype == (
            np.float32 if temperature == 1 else np.float64
        )
        np.testing.assert_allclose(
            narrow.score_samples(single), wide.score_samples(single), rtol=rtol
        )


def test_densities_of_float32_rows_far_from_zero_keep_their_means(rng):
    x = (1e4 + rng.normal(size=(300, 4))).astype(np.float32)
    single, double = (
        GaussianMixtureDetector().fit(x),
        GaussianMixtureDetector().fit(x.astype(np.float64)),
    )
    np.testing.assert_allclose(
        single.score_samples(x), double.score_samples(x.astype(np.float64)), rtol=1e-9
    )


def test_the_logits_of_the_mean_are_its_product_with_the_head():
    features, y = synthetic_features()
    detector = NCI().fit(features, y)
    head = detector.head_
    np.testing.assert_allclose(
        detector.mean_logits_, head.weight @ detector.mean_ + head.bias, rtol=1e-12
    )


def test_the_nearest_template_is_that_of_unrounded_rows(rng):
    log_q = np.repeat(log_softmax(3 * rng.normal(size=(20, 30))), 2, axis=0)
    log_q[1::2] += 1e-9 * rng.normal(size=(20, 30))  # pairs that float32 cannot tell
    p = softmax(3 * rng.normal(size=(200, 30)))
    expected = (p @ log_q.T).argmax(axis=1)
    np.testing.assert_array_equal(_nearest(p, log_q, p.astype(np.float32)), expected)


def test_a_product_is_as_precise_as_the_weights(rng):
    h = rng.normal(size=(9, 50)).astype(np.float32)
    weight = rng.normal(size=(4, 50))
    exact = h.astype(np.float64) @ weight.T
    np.testing.assert_allclose(product(h, weight), exact, rtol=1e-13)
    rounded = product(h, weight.astype(np.float32))
    assert rounded.dtype == np.float64
    np.testing.assert_allclose(rounded, exact, atol=1e-5)


def test_both_roots_of_pnml_are_the_same(rng, monkeypatch):
    matrix = np.cov(rng.normal(size=(12, 100)) * np.arange(1, 13)[:, None])
    triangle = pnml._inverse_root(matrix)
    assert not np.tril(triangle, -1).any()
    monkeypatch.setattr(pnml, "WELL_CONDITIONED", 2.0)
    axes = pnml._inverse_root(matrix)
    np.testing.assert_allclose(triangle @ triangle.T, axes @ axes.T, rtol=1e-10)


def test_line_scores_rows_in_their_own_order():
    features, y = synthetic_features()
    detector = LINe().fit(features, y)
    one_by_one = [detector.score_samples(features[i : i + 1])[0] for i in range(40)]
    np.testing.assert_allclose(
        detector.score_samples(features[:40]), one_by_one, rtol=1e-12
    )


@pytest.mark.parametrize("name", [n for n, e in REGISTRY.items() if e.family in ROOMS])
def test_scores_of_float32_are_those_of_float64(name):
    features, y = synthetic_features(150, 30)
    head = LinearHead(*(a.astype(np.float32) for a in _weights(features.head)))
    single = features.block("penultimate", "avg").astype(np.float32)
    scores = []
    for h in (single, single.astype(np.float64)):
        known = LayerFeatures({"penultimate": h}, head=head)
        detector = REGISTRY[name].detector().fit(known, y, threshold_data=known[:50])
        scores.append(detector.score_samples(known))
    np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-4 * np.ptp(scores[1]))


def _weights(head):
    return head.weight, head.bias


def test_weiper_has_the_limits_of_all_rows_in_every_fit(monkeypatch, rng):
    features, y = synthetic_features(120, 0)
    h = features.block("penultimate", "avg") * rng.standard_t(2, size=(120, 10))
    learned, limits = WeiPer._learn_head, []

    def noted(self, training):
        learned(self, training)
        limits.append(self.limits_)

    monkeypatch.setattr(WeiPer, "_learn_head", noted)
    WeiPer(n_copies=3).fit(LayerFeatures({"penultimate": h}, head=features.head), y)
    assert len(limits) > 5  # one fit for each fold, and that of all rows
    for found in limits:
        np.testing.assert_array_equal(found, limits[0])


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e6])
@pytest.mark.parametrize("size", [1e-20, 1.0, 1e25])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distances_to_a_point_lose_nothing_in_float32(rng, size, offset, dtype):
    x = ((rng.normal(size=(40, 30)) + offset) * size).astype(dtype)
    exact = x.astype(np.float64)
    point = exact.mean(axis=0)
    expected = np.linalg.norm(exact - point, axis=1)
    for array in (x, torch.as_tensor(x)):
        found = np.asarray(rows.distances_to(point, array))
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_distances_to_a_point_of_float16_rows_are_those_in_float64(rng):
    x = rng.normal(size=(40, 30)).astype(np.float16)
    expected = np.linalg.norm(x.astype(np.float64) - 3, axis=1)
    found = rows.distances_to(np.full(30, 3.0), x)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
