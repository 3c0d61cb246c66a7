"""NAP against plain loops, and what it promises."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from references import nap as reference
from references.threshold import kth_smallest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.utils.estimator_checks import check_estimator

from skood import NAP, InlierKFold, LayerFeatures, auroc_scorer
from skood.detectors import Training, threshold
from skood.detectors.layers.nap import LayerChoice, activation_patterns
from skood.detectors.layers.nap.auto import best_threshold, tail_cap, width_factor
from skood.estimator_checks import check_estimator as check_detector
from skood.estimator_checks import synthetic_features
from skood.features import chunks
from skood.hamming import search, unpacked_bits

N_CLASSES = 3


def network(n=70, seed=0, widths=(9, 20)):
    """Two layers that mark the class, and logits that are sometimes wrong."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, N_CLASSES, n)
    blocks = {}
    for number, width in enumerate(widths):
        centre = np.random.default_rng(number).random((N_CLASSES, width)) < 0.4
        for statistic in ("max", "avg"):
            noise = rng.normal(0, 0.5, (n, width))
            blocks[f"layer{number}", statistic] = np.maximum(centre[y] + noise, 0)
    blocks["logits"] = 2 * np.eye(N_CLASSES)[y] + rng.normal(size=(n, N_CLASSES))
    return LayerFeatures(blocks), y


@pytest.fixture(scope="module")
def data():
    (known, y), (new, _) = network(), network(30, 1)
    return known, y, new


def predicted(features):
    return features.block("logits").argmax(axis=1)


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
        assert len(detector.banks_[0].starts) == 2


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
    (bank,) = NAP().fit(x).banks_
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


# Labels and logits -------------------------------------------------------------------


def test_labels_are_numbers_or_matched_with_columns(data):
    known, y, new = data
    expected = NAP("layer0").fit(known, y).score_samples(new)
    for labels in (
        y + 5,
        np.array(["c", "a", "b"])[y],
        np.array(["2", "1", "0"])[2 - y],
        np.array([b"00", b"01", b"02"])[y],
        np.array([30.5, 1e9, -7.0])[y],
        y.astype(object),
        y.astype(float),
    ):
        scores = NAP("layer0").fit(known, labels).score_samples(new)
        np.testing.assert_array_equal(scores, expected)


def wide(n_classes, rows=20):
    """Features of well told classes, with logits that are right."""
    rng = np.random.default_rng(0)
    y = np.arange(n_classes * rows) % n_classes
    x = rng.normal(size=(len(y), 24)) + 2 * rng.normal(size=(n_classes, 24))[y]
    blocks = {("layer", "max"): x, "logits": 9 * np.eye(n_classes)[y]}
    return LayerFeatures(blocks), y


def test_texts_of_numbers_are_numbers():
    features, y = wide(12)
    expected = NAP().fit(features, y)
    found = NAP().fit(features, y.astype(str))
    np.testing.assert_array_equal(found._columns[:2], [0, 1])
    np.testing.assert_array_equal(
        found.score_samples(features), expected.score_samples(features)
    )
    assert found.offset_ == expected.offset_


def test_a_column_is_of_the_class_that_its_rows_have():
    features, y = wide(12)
    names = np.array([f"{'even' if c % 2 == 0 else 'odd'}" for c in range(12)])
    detector = NAP().fit(features, names[y])
    np.testing.assert_array_equal(detector._columns, np.arange(12) % 2)
    seen = np.isin(y, [3, 7])
    few = NAP().fit(features[seen], np.array([f"class {c}" for c in y])[seen])
    assert few._columns[3] == 0
    assert few._columns[7] == 1
    assert (np.delete(few._columns, [3, 7]) == -1).all()


def test_one_label_for_all_is_no_class():
    features, y = wide(12)
    expected = NAP().fit(features).score_samples(features)
    for labels in (0 * y, np.full(len(y), "in")):
        np.testing.assert_array_equal(
            NAP().fit(features, labels).score_samples(features), expected
        )
        with pytest.raises(ValueError, match=r"y has one class, \[.*12 columns"):
            NAP(per_class=True).fit(features, labels)
    threes = NAP().fit(features[y == 3], y[y == 3])
    np.testing.assert_array_equal(np.flatnonzero(threes._columns == 0), [3])


@pytest.mark.parametrize("wrong", ["shifted", "swapped", "coarse"])
def test_numbers_that_the_logits_contradict_are_refused(wrong):
    features, y = wide(12)
    labels = {
        "shifted": (y + 1) % 12,
        "swapped": np.where(y < 8, 7 - y, y),
        "coarse": y // 2,
    }[wrong]
    with pytest.raises(ValueError, match=r"taken for the logits' columns 0 to 11.*100"):
        NAP().fit(features, labels)


def test_numbers_hold_where_logits_say_nothing():
    features, y = wide(12)
    rng = np.random.default_rng(0)
    noise = LayerFeatures(
        {
            ("layer", "max"): features.block("layer", "max"),
            "logits": rng.normal(size=(len(y), 12)),
        }
    )
    np.testing.assert_array_equal(NAP().fit(noise, y)._columns, np.arange(12))
    with pytest.raises(ValueError, match="the best match holds for"):
        NAP().fit(noise, np.array([f"class {c}" for c in y]))


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([5, 7], r"y has 2 classes \(5, 7\), and the logits 3 columns.*rows fitted on"),
        (["a", "b"], "y has 2 classes"),
        ([0, 1.5], r"y has 2 classes \(0.0, 1.5\)"),
        (range(8), r"y has 8 classes \(0, 1, 2, 3, 4, ...\).*use per_class=False"),
    ],
)
def test_labels_that_no_column_belongs_to(data, labels, text):
    known, _, _ = data
    y = np.resize(np.array(labels), len(known))
    with pytest.raises(ValueError, match=text):
        NAP("layer0").fit(known, y)
    assert NAP("layer0", per_class=False).fit(known, y).offset_ < 0


def test_per_class_says_what_it_lacks(data):
    known, y, _ = data
    with pytest.raises(ValueError, match="that the network predicts, and needs y:"):
        NAP(per_class=True).fit(known)
    with pytest.raises(ValueError, match=r"needs the layer 'logits' in X.*=False"):
        NAP(per_class=True).fit(known.select("layer0"), y)


def test_logits_are_needed_to_score_only_where_they_are_looked_at(data):
    known, y, new = data
    bare = new.select("layer0", "max")
    with pytest.raises(ValueError, match="there is no layer 'logits'"):
        NAP("layer0").fit(known, y).score_samples(bare)
    scores = NAP("layer0").fit(known).score_samples(bare)
    assert scores.shape == (30,)


# Several layers ----------------------------------------------------------------------

MIXED = [("layer0", "max", 30), ("layer1", "avg", 90), "layer1"]


def plain_layers(known, y, new, choices):
    stored, asked = y, predicted(new)
    return [
        reference.distances(
            known.block(layer, statistic), stored, new.block(layer, statistic), asked, p
        )
        for layer, statistic, p, *_ in choices
    ]


@pytest.mark.parametrize("voting", ["numeric", "majority"])
def test_layers_with_their_own_settings(data, voting):
    known, y, new = data
    detector = NAP(MIXED, percentile=70, tie_break=None, voting=voting)
    detector.set_params(contamination=0.3).fit(known, y)
    assert [choice[:3] for choice in detector.configuration_] == [
        *MIXED[:2],
        ("layer1", "max", 70),
    ]
    thresholds = [choice.threshold for choice in detector.configuration_]
    far = plain_layers(known, y, new, detector.configuration_)
    settings_ = (far, thresholds, [30, 90, 70], [9, 20, 20])
    expected = reference.summed(*settings_)
    np.testing.assert_allclose(reference.summed(*settings_, 7.0), expected, atol=1e-9)
    scores = detector.score_samples(new)
    if voting == "numeric":
        np.testing.assert_allclose(scores, -expected, rtol=1e-9)
    else:
        out = reference.outvoted(far, thresholds)
        np.testing.assert_array_equal(detector.predict(new) == -1, out)
        assert out.any()
        assert not out.all()


def test_layer_thresholds_are_capped_tails_of_left_out_distances(data):
    known, y, _ = data
    detector = NAP(["layer0", "layer1"], contamination=0.2).fit(known, y)
    for choice in detector.configuration_:
        x = known.block(choice.layer, "max")
        left_out = reference.left_out_distances(x, y, predicted(known), 50)
        assert choice.threshold == np.floor(np.quantile(left_out, 0.8))
        assert np.isnan(choice.accuracy)


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("tie_break", [None, "cosine"])
def test_votes_come_first_and_the_sum_orders_within(data, n_layers, tie_break):
    known, y, new = data
    layers = MIXED[:n_layers]
    parameters = {"layers": layers, "tie_break": tie_break, "contamination": 0.3}
    majority = NAP(**parameters, voting="majority").fit(known, y)
    numeric = NAP(**parameters).fit(known, y)
    far = plain_layers(known, y, new, majority.configuration_)
    thresholds = [choice.threshold for choice in majority.configuration_]
    votes = sum(d <= tau for d, tau in zip(far, thresholds, strict=True))
    np.testing.assert_array_equal(
        np.floor(majority.score_samples(new) * n_layers + 1e-9), votes
    )
    for count in np.unique(votes):
        same = votes == count
        one, other = majority.score_samples(new)[same], numeric.score_samples(new)[same]
        assert (
            np.argsort(one, kind="stable") == np.argsort(other, kind="stable")
        ).all()
    np.testing.assert_array_equal(
        majority.predict(new) == -1, reference.outvoted(far, thresholds)
    )


def test_factors_of_the_paper():
    for percentile in (10, 25, 30, 50, 70, 90):
        assert width_factor(percentile) == pytest.approx(reference.kappa(percentile))


@pytest.mark.parametrize(
    "entry", [("layer0", "max"), ("layer0", "max", 0), ("layer0", 1, 30), 3]
)
def test_an_entry_that_is_neither_name_nor_triple(data, entry):
    known, y, _ = data
    with pytest.raises(ValueError, match=r"layers has the entry .*\(layer, statistic"):
        NAP([entry]).fit(known, y)


def test_no_layers_and_wrong_layers(data):
    known, y, _ = data
    with pytest.raises(ValueError, match="layers is empty"):
        NAP([]).fit(known, y)
    with pytest.raises(ValueError, match=r"no layer 'layr0'.*Did you mean 'layer0'"):
        NAP([("layr0", "max", 30)]).fit(known, y)
    with pytest.raises(ValueError, match="layer 'layer0' has no statistic 'cls'"):
        NAP([("layer0", "cls", 30)]).fit(known, y)


# Automatic configuration -------------------------------------------------------------


def with_outliers(data, n=25, seed=5):
    known, y, _ = data
    odd, _ = network(n, seed)
    changed = {
        name: np.random.default_rng(seed).permuted(odd.block(*name), axis=1)
        for name in odd.block_names
    }
    changed["layer1", "avg"] = 2 * changed["layer1", "avg"]
    outliers = LayerFeatures(changed)
    features = LayerFeatures.concatenate([known, outliers])
    return features, np.concatenate([y, np.full(n, -1)]), outliers


@pytest.mark.parametrize("criterion", ["accuracy", "threshold"])
@pytest.mark.parametrize("n_votes", [1, 9])
def test_the_search_is_that_of_the_plain_loops(data, criterion, n_votes):
    known, y, _ = data
    features, labels, outliers = with_outliers(data)
    detector = NAP(auto=True, criterion=criterion, n_votes=n_votes, contamination=0.1)
    detector.fit(features, labels)

    def distances_of(layer, statistic, percentile):
        x = known.block(layer, statistic)
        unlike = outliers.block(layer, statistic)
        return (
            reference.left_out_distances(x, y, predicted(known), percentile),
            reference.distances(x, y, unlike, predicted(outliers), percentile),
        )

    expected = reference.configuration(
        distances_of,
        {"layer0": ["max", "avg"], "layer1": ["max", "avg"]},
        0.1,
        criterion,
        n_votes,
    )
    found = [tuple(choice) for choice in detector.configuration_]
    assert [choice[:4] for choice in found] == [choice[:4] for choice in expected]
    np.testing.assert_allclose(
        [c[4] for c in found], [float(c[4]) for c in expected], rtol=1e-12
    )


def test_the_search_leaves_a_table(data):
    features, labels, _ = with_outliers(data)
    detector = NAP(auto=True).fit(features, labels)
    table = pd.DataFrame(detector.search_report_)
    assert len(table) == 2 * 2 * 5
    assert table["kept"].sum() == len(detector.configuration_) == 2
    assert list(table) == [
        *LayerChoice._fields,
        "scaled_threshold",
        "score",
        "kept",
    ]
    kept = table[table["kept"]]
    assert sorted(zip(kept["layer"], kept["percentile"], strict=True)) == sorted(
        (choice.layer, choice.percentile) for choice in detector.configuration_
    )


def test_only_the_chosen_layers_are_needed_to_score(data):
    new = data[2]
    features, labels, _ = with_outliers(data)
    detector = NAP(auto=True, n_votes=1).fit(features, labels)
    (choice,) = detector.configuration_
    few = new.select_blocks([choice[:2], "logits"])
    np.testing.assert_array_equal(
        detector.score_samples(few), detector.score_samples(new)
    )
    refitted = detector.set_params(n_votes=2).fit(features, labels)
    assert len(refitted.configuration_) == 2


def test_the_chosen_layers_can_be_given_by_hand(data):
    _, _, new = data
    features, labels, _ = with_outliers(data)
    auto = NAP(auto=True, tie_break=None).fit(features, labels)
    by_hand = NAP([choice[:3] for choice in auto.configuration_], tie_break=None)
    difference = auto.score_samples(new) - by_hand.fit(features, labels).score_samples(
        new
    )
    np.testing.assert_allclose(difference, difference[0], atol=1e-9)


def test_without_outliers_auto_uses_every_layer_as_stated(data):
    known, y, new = data
    auto = NAP(auto=True, statistic="avg", percentile=30).fit(known, y)
    stated = NAP(statistic="avg", percentile=30).fit(known, y)
    np.testing.assert_array_equal(auto.score_samples(new), stated.score_samples(new))
    assert auto.search_report_ == []
    assert [choice[:4] for choice in auto.configuration_] == [
        choice[:4] for choice in stated.configuration_
    ]


def test_outliers_do_nothing_without_auto(data):
    known, y, new = data
    features, labels, _ = with_outliers(data)
    one, other = NAP().fit(features, labels), NAP().fit(known, y)
    np.testing.assert_array_equal(one.score_samples(new), other.score_samples(new))
    assert one.offset_ == other.offset_


def test_what_auto_cannot_search(data):
    features, labels, _ = with_outliers(data)
    with pytest.raises(ValueError, match=r"with auto=True.*names of layers only"):
        NAP(MIXED, auto=True).fit(features, labels)
    with pytest.raises(ValueError, match=r"layers \['logits'\] have neither"):
        NAP(["layer0", "logits"], auto=True).fit(features, labels)
    odd = LayerFeatures({("a", "l2"): np.ones((5, 2))})
    with pytest.raises(ValueError, match="'max' and 'avg'"):
        NAP(auto=True).fit(odd)
    plain = features.block("layer1", "max")
    assert len(NAP(auto=True).fit(plain, labels).search_report_) == 5


@given(
    hnp.arrays(np.intp, st.integers(1, 12), elements=st.integers(0, 6)),
    hnp.arrays(np.intp, st.integers(1, 12), elements=st.integers(0, 6)),
)
def test_no_threshold_is_better_than_the_best(known, unlike):
    threshold, accuracy = best_threshold(known.astype(float), unlike.astype(float))
    both = np.concatenate([known, unlike])
    scan = range(both.min() - 1, both.max() + 1)
    accuracies = [reference.accuracy(known, unlike, tau) for tau in scan]
    assert threshold == scan[int(np.argmax(accuracies))]
    assert accuracy == pytest.approx(float(max(accuracies)))
    cap = tail_cap(known + 0.9, 0.05)
    assert cap == np.floor(np.quantile(known, 0.95))


# As an estimator ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "detector", [NAP(), NAP(percentile=80, per_class=False), NAP(auto=True)], ids=repr
)
def test_battery_of_scikit_learn(detector):
    report = check_estimator(detector, on_skip=None, on_fail=None)
    assert len(report) >= 44
    failed = {
        r["check_name"]: r["exception"] for r in report if r["status"] == "failed"
    }
    assert not failed


@pytest.mark.parametrize(
    "detector",
    [
        NAP(),
        NAP(tie_break=None),
        NAP(per_class=False, percentile=70),
        NAP(per_class=True, voting="majority"),
        NAP(layers=["layer1", ("penultimate", "avg", 30)]),
    ],
    ids=repr,
)
def test_battery_for_detectors(detector):
    report = check_detector(detector, on_fail=None)
    assert len(report) >= 14
    failed = {r["check_name"] for r in report if r["status"] == "failed"}
    # scikit-learn wants a training row below the threshold: where ties are not broken,
    # all rows that would be there tie at it, and ties are inliers.
    assert failed == (set() if detector.tie_break else {"check_outliers_train"})


def test_outliers_score_lower_with_auto():
    features, y = synthetic_features()
    for voting in ("numeric", "majority"):
        detector = NAP(auto=True, voting=voting).fit(features, y)
        assert roc_auc_score(y >= 0, detector.score_samples(features)) > 0.99
        assert np.mean(detector.predict(features[y < 0]) == -1) > 0.95


def test_a_search_over_everything_that_matters():
    features, y = synthetic_features()
    search_ = GridSearchCV(
        NAP(),
        {
            "layers": [["layer1"], ["layer1", "layer2"], [("layer1", "avg", 70)]],
            "percentile": [10, 50],
            "statistic": ["max", "avg"],
            "contamination": [0.05, 0.2],
        },
        scoring=auroc_scorer,
        cv=InlierKFold(2),
        error_score="raise",
    ).fit(features, y)
    scores = search_.cv_results_["mean_test_score"]
    assert scores.min() > 0.8
    assert len(np.unique(np.round(scores, 6))) > 2
    assert search_.best_estimator_.predict(features).shape == (len(y),)


def test_small_chunks_are_no_matter(data, monkeypatch):
    features, labels, _ = with_outliers(data)
    fitted = [NAP(), NAP(MIXED), NAP(auto=True)]
    expected = [clone(d).fit(features, labels) for d in fitted]
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", 200)
    for detector, whole in zip(fitted, expected, strict=True):
        detector.fit(features, labels)
        assert [choice[:4] for choice in detector.configuration_] == [
            choice[:4] for choice in whole.configuration_
        ]
        np.testing.assert_allclose(
            detector.score_samples(features), whole.score_samples(features), rtol=1e-9
        )
        assert detector.offset_ == pytest.approx(whole.offset_, rel=1e-9)


def test_a_container_of_one_layer_is_an_array(data):
    known, y, new = data
    name = ("array", "max")
    x, more = known.block("layer1", "max"), new.block("layer1", "max")
    bare = NAP().fit(x, y)
    held = NAP().fit(LayerFeatures({name: x}), y)
    np.testing.assert_array_equal(
        bare.score_samples(more), held.score_samples(LayerFeatures({name: more}))
    )
    assert bare.offset_ == held.offset_


@pytest.mark.parametrize("backend", ["auto", "faiss", "product", "popcount"])
def test_backends_score_alike(data, backend):
    if backend == "faiss":
        reason = "faiss is not installed: pip install skood[faiss]"
        pytest.importorskip("faiss", reason=reason)
    known, y, new = data
    expected = NAP(MIXED).fit(known, y)
    detector = NAP(MIXED, backend=backend).fit(known, y)
    np.testing.assert_array_equal(
        detector.score_samples(new), expected.score_samples(new)
    )
    assert detector.offset_ == expected.offset_


def test_tensors_of_a_device_score_alike(data):
    known, y, new = data
    # Named so, torch's CPU takes the way of an accelerator.
    on_device = NAP(MIXED, device="cpu:0").fit(known, y)
    expected = NAP(MIXED, device="cpu").fit(known, y)
    np.testing.assert_allclose(
        on_device.score_samples(new), expected.score_samples(new), rtol=1e-9
    )
    assert on_device.offset_ == pytest.approx(expected.offset_, rel=1e-9)


def test_faiss_that_is_not_there_is_told_in_fit(data, monkeypatch):
    known, y, _ = data
    monkeypatch.setattr(search, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="backend='faiss' needs faiss"):
        NAP(backend="faiss").fit(known, y)
    assert np.isfinite(NAP().fit(known, y).offset_)


def test_the_threshold_uses_a_sample_of_many_rows(data, monkeypatch):
    features, labels, _ = with_outliers(data)
    monkeypatch.setattr(threshold, "THRESHOLD_ROWS", 40)
    detector = NAP(auto=True).fit(features, labels)
    known = features[labels >= 0]
    assert 0 <= np.mean(detector.predict(known) == -1) < 0.2


def test_it_comes_back_from_a_file(data):
    known, y, new = data
    detector = NAP(MIXED).fit(known, y)
    again = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(
        again.decision_function(new), detector.decision_function(new)
    )
    assert again.configuration_[0].layer == "layer0"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"percentile": 0}, "percentile"),
        ({"percentile": 100}, "percentile"),
        ({"per_class": "maybe"}, "per_class"),
        ({"voting": "loud"}, "voting"),
        ({"tie_break": "coin"}, "tie_break"),
        ({"n_votes": 0}, "n_votes"),
        ({"criterion": "taste"}, "criterion"),
        ({"backend": "abacus"}, "backend"),
    ],
)
def test_parameters_are_validated_in_fit(data, change, text):
    with pytest.raises(ValueError, match=text):
        NAP().set_params(**change).fit(data[0], data[1])


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_order_of_channels_and_scale_of_rows_change_no_score(seed):
    rng = np.random.default_rng(seed)
    x, more = rng.normal(size=(25, 10)), rng.normal(size=(15, 10))
    expected = NAP().fit(x).score_samples(more)
    order = rng.permutation(10)
    permuted = NAP().fit(x[:, order]).score_samples(more[:, order])
    np.testing.assert_allclose(permuted, expected, rtol=1e-9, atol=1e-12)
    stretch = 2.0 ** rng.integers(-5, 5, size=(15, 1))
    np.testing.assert_allclose(
        NAP().fit(x).score_samples(more * stretch), expected, rtol=1e-9, atol=1e-12
    )
