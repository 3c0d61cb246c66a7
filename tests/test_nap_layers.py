"""NAP over several layers, and how its classes find their logits."""

from __future__ import annotations

import numpy as np
import pytest
from nap_data import MIXED, network, predicted
from references import nap as reference

from skood import NAP, LayerFeatures
from skood.detectors.layers.nap.auto import width_factor


@pytest.fixture(scope="module")
def data():
    (known, y), (new, _) = network(), network(30, 1)
    return known, y, new


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
