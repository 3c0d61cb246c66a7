"""NAP's automatic configuration against plain loops."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from nap_data import MIXED, network, predicted, with_outliers
from references import nap as reference

from skood import NAP, LayerFeatures
from skood.detectors.layers.nap import LayerChoice
from skood.detectors.layers.nap.auto import best_threshold, tail_cap


@pytest.fixture(scope="module")
def data():
    (known, y), (new, _) = network(), network(30, 1)
    return known, y, new


# Automatic configuration -------------------------------------------------------------


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
