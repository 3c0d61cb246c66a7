"""NAP's patterns, distances and ties against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from nap_data import network, predicted
from references import nap as reference
from references.threshold import kth_smallest
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier

from skood import NAP, LayerFeatures
from skood.detectors import Training
from skood.detectors.layers.nap import activation_patterns
from skood.hamming import unpacked_bits


@pytest.fixture(scope="module")
def data():
    (known, y), (new, _) = network(), network(30, 1)
    return known, y, new


# Patterns --------------------------------------------------------------------------


rows_of_values = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    st.tuples(st.integers(1, 6), st.integers(1, 40)),
    elements=st.one_of(
        st.sampled_from([0.0, 1.0, -1.0]), st.floats(-8, 8, width=16, allow_nan=False)
    ),
)


@given(rows_of_values, st.sampled_from([10, 12.5, 30, 50, 70, 90, 99.9]))
def test_bits_are_above_the_own_percentile_and_above_zero(x, percentile):
    packed = activation_patterns(x, percentile)
    found = unpacked_bits(packed, x.shape[1])
    np.testing.assert_array_equal(found, reference.patterns(x, percentile))
    np.testing.assert_array_equal(
        activation_patterns(torch.from_numpy(x), percentile), packed
    )


@pytest.mark.parametrize("percentile", [10, 33.3, 50, 90])
def test_the_percentile_is_that_of_numpy(percentile):
    x = np.random.default_rng(0).normal(size=(50, 27))
    level = np.percentile(x, percentile, axis=1, keepdims=True)
    np.testing.assert_array_equal(
        unpacked_bits(activation_patterns(x, percentile), 27), (x > level) & (x > 0)
    )


@given(rows_of_values, st.integers(0, 9), st.sampled_from([20, 50, 80]))
def test_order_of_channels_is_no_matter(x, seed, percentile):
    order = np.random.default_rng(seed).permutation(x.shape[1])
    one = unpacked_bits(activation_patterns(x, percentile), x.shape[1])
    other = unpacked_bits(
        activation_patterns(np.ascontiguousarray(x[:, order]), percentile), x.shape[1]
    )
    np.testing.assert_array_equal(one[:, order], other)


@given(rows_of_values, st.integers(-3, 3), st.sampled_from([20, 50, 80]))
def test_scale_and_any_rising_map_are_no_matter(x, power, percentile):
    patterns = activation_patterns(x, percentile)
    np.testing.assert_array_equal(
        activation_patterns(x * x.dtype.type(2.0**power), percentile), patterns
    )
    signed_square = np.sign(x) * x.astype(np.float64) ** 2
    np.testing.assert_array_equal(
        activation_patterns(signed_square, percentile), patterns
    )


def test_most_zeros_make_the_percentile_zero():
    x = np.array([[0, 0, 0, 5, 0, 0.1]])
    for percentile in (10, 50, 60):
        bits = unpacked_bits(activation_patterns(x, percentile), 6)
        np.testing.assert_array_equal(bits, x > 0)


# One layer -------------------------------------------------------------------------


@pytest.mark.parametrize("percentile", [10, 50, 70])
@pytest.mark.parametrize("statistic", ["max", "avg"])
def test_distances_are_to_patterns_of_the_predicted_class(data, statistic, percentile):
    known, y, new = data
    detector = NAP("layer0", statistic, percentile, tie_break=None).fit(known, y)
    expected = reference.distances(
        known.block("layer0", statistic),
        y,
        new.block("layer0", statistic),
        predicted(new),
        percentile,
    )
    np.testing.assert_array_equal(-detector.score_samples(new), expected)


def test_one_bank_is_searched_whole(data):
    known, y, new = data
    x, more = known.block("layer0", "max"), new.block("layer0", "max")
    expected = reference.distances(x, y * 0, more, [0] * len(more), 50)
    without_logits = known.select("layer0", "max")
    for detector, features, labels in [
        (NAP("layer0", per_class=False), known, y),
        (NAP("layer0"), known, None),
        (NAP("layer0"), without_logits, y),
    ]:
        detector.set_params(tie_break=None).fit(features, labels)
        np.testing.assert_array_equal(-detector.score_samples(new), expected)
        assert len(detector.banks_["layer0", "max"].starts) == 2


def test_training_rows_have_distance_zero_to_their_own_class(data):
    known, y, _ = data
    detector = NAP("layer1", tie_break=None).fit(known, y)
    right = predicted(known) == y
    scores = detector.score_samples(known)
    np.testing.assert_array_equal(scores[right], 0)
    assert (scores[~right] < 0).any()


def test_a_class_without_patterns_is_as_far_as_can_be(data):
    known, y, new = data
    seen = y != 1
    detector = NAP("layer0", tie_break=None).fit(known[seen], y[seen])
    scores = detector.score_samples(new)
    np.testing.assert_array_equal(scores == -9, predicted(new) == 1)
    with_ties = NAP("layer0").fit(known[seen], y[seen]).score_samples(new)
    np.testing.assert_allclose(with_ties[predicted(new) == 1], -9 - 0.999 / 2)


@pytest.mark.parametrize("per_class", [True, False])
def test_threshold_is_that_of_leaving_each_row_out(data, per_class):
    known, y, _ = data
    x = known.block("layer0", "max")
    detector = NAP("layer0", per_class=per_class, tie_break=None, contamination=0.1)
    detector.fit(known, y)
    stored, asked = (y, predicted(known)) if per_class else (y * 0, y * 0)
    left_out = reference.left_out_distances(x, stored, asked, 50)
    assert detector.offset_ == kth_smallest(-left_out, 0.1)
    (choice,) = detector.configuration_
    assert choice.threshold == np.floor(np.quantile(left_out, 0.9))
    assert choice[:3] == ("layer0", "max", 50)


def test_patterns_are_stored_once_with_their_counts():
    x = np.array([[3.0, 2, 1]] * 4 + [[1.0, 2, 3]])
    (bank,) = NAP().fit(x).banks_.values()
    np.testing.assert_array_equal(bank.counts, [1, 4])
    detector = NAP(tie_break=None, contamination=0.5).fit(x)
    assert detector.offset_ == 0  # four rows keep their pattern, one loses it


def test_float32_and_float64_have_the_same_patterns(data):
    known, y, new = data
    single = LayerFeatures(
        {name: known.block(*name).astype(np.float32) for name in known.block_names}
    )
    fitted = NAP("layer1", tie_break=None).fit(single, y)
    rounded = LayerFeatures(
        {name: single.block(*name).astype(float) for name in single.block_names}
    )
    again = NAP("layer1", tie_break=None).fit(rounded, y)
    np.testing.assert_array_equal(
        fitted.score_samples(single), again.score_samples(rounded)
    )
    assert fitted.score_samples(new).shape == (30,)


# Ties --------------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", [{}, {"per_class": False}, {"statistic": "avg"}])
def test_a_row_scores_the_same_in_every_batch(data, parameters):
    known, y, new = data
    for dtype in (np.float32, np.float64):
        narrow = LayerFeatures(
            {name: new.block(*name).astype(dtype) for name in new.block_names}
        )
        detector = NAP(**parameters).fit(known, y)
        whole = detector.score_samples(narrow)
        alone = [detector.score_samples(narrow[[i]])[0] for i in range(len(new))]
        np.testing.assert_array_equal(whole, alone)
        turned = LayerFeatures(
            {n: np.asfortranarray(narrow.block(*n)) for n in narrow.block_names}
        )
        np.testing.assert_array_equal(detector.score_samples(turned), whole)


@pytest.mark.parametrize("per_class", [True, False])
def test_ties_are_broken_by_the_cosine_to_the_class(data, per_class):
    known, y, new = data
    x, more = known.block("layer0", "max"), new.block("layer0", "max")
    parameters = {"layers": "layer0", "per_class": per_class}
    plain = NAP(**parameters, tie_break=None).fit(known, y).score_samples(new)
    scores = NAP(**parameters).fit(known, y).score_samples(new)
    asked = predicted(new) if per_class else [None] * len(more)
    expected = reference.angles(x, y, more, asked)
    np.testing.assert_allclose(plain - scores, 0.999 * expected, rtol=1e-9)


@pytest.mark.parametrize("per_class", [True, False])
def test_a_left_out_row_is_taken_off_its_mean_direction(data, per_class):
    known, y, _ = data
    x = known.block("layer0", "max")
    detector = NAP("layer0", per_class=per_class, contamination=0.2).fit(known, y)
    stored, asked = (y, predicted(known)) if per_class else (y * 0, y * 0)
    bits = reference.left_out_distances(x, stored, asked, 50)
    wanted = asked if per_class else [None] * len(y)
    angles = []
    for i in range(len(x)):
        rest = np.arange(len(x)) != i
        angles += [reference.angles(x[rest], y[rest], x[[i]], wanted[i : i + 1])[0]]
    expected = kth_smallest(-(bits + 0.999 * np.array(angles)), 0.2)
    assert detector.offset_ == pytest.approx(expected, rel=1e-9)


def test_the_only_row_of_a_class_has_no_mean_direction_when_left_out(data):
    known, y, _ = data
    rows = np.flatnonzero(y != 2)
    one = np.flatnonzero((y == 2) & (predicted(known) == 2))[:1]
    kept = np.concatenate([rows, one])
    detector = NAP("layer0", contamination=0.001).fit(known[kept], y[kept])
    alone = detector._unseen_scores(
        Training(known[one], known[:0], np.array([2]), np.arange(3)), one
    )
    np.testing.assert_allclose(alone, -9 - 0.999 / 2, rtol=1e-12)


def test_different_distances_keep_their_order():
    rng = np.random.default_rng(0)
    x, more = rng.normal(size=(40, 12)), rng.normal(size=(200, 12))
    plain = NAP(tie_break=None).fit(x).score_samples(more)
    scores = NAP().fit(x).score_samples(more)
    np.testing.assert_array_equal(np.floor(-scores), -plain)
    assert len(np.unique(scores)) == 200 > len(np.unique(plain))


def test_breaking_ties_helps_on_digits():
    X, y = load_digits(return_X_y=True)
    inlier = y < 8
    model = MLPClassifier(32, solver="lbfgs", random_state=0)
    model.fit(X[inlier][::2], y[inlier][::2])
    hidden = np.maximum(X @ model.coefs_[0] + model.intercepts_[0], 0)
    logits = hidden @ model.coefs_[1] + model.intercepts_[1]
    features = LayerFeatures({("hidden", "max"): hidden, "logits": logits})
    train = np.flatnonzero(inlier)[::2]
    test = np.setdiff1d(np.arange(len(y)), train)

    def auroc(**parameters):
        detector = NAP(**parameters).fit(features[train], y[train])
        return roc_auc_score(inlier[test], detector.score_samples(features[test]))

    for parameters in ({}, {"per_class": False}, {"percentile": 80}):
        assert auroc(**parameters) > auroc(tie_break=None, **parameters) + 0.005
    assert auroc() > 0.8
