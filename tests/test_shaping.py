"""Shaped features: any score of the logits, and what each shape promises."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch

from skood import (
    ASH,
    BATS,
    DICE,
    GEN,
    MSP,
    RAS,
    SCALE,
    VRA,
    Energy,
    KLMatching,
    LayerFeatures,
    LINe,
    LinearHead,
    MaxLogit,
    OpenMax,
    OptFS,
    ReAct,
)
from skood.detectors.shaping.base import ShapingDetector
from skood.estimator_checks import synthetic_features
from skood.features import chunks


def with_features(h, head):
    return LayerFeatures({"penultimate": np.asarray(h, dtype=float)}, head=head)


@pytest.fixture(scope="module")
def known():
    return synthetic_features(120, 0)


@pytest.mark.parametrize("score", [MSP(), MaxLogit(), Energy(2.0), GEN(0.2)], ids=repr)
def test_any_score_of_the_logits_is_taken(known, score):
    features, y = known
    detector = ReAct(80, score=score).fit(features, y)
    h = np.minimum(features.block("penultimate"), detector.limit_)
    logits = LayerFeatures({("logits", "logits"): features.head.logits(h)})
    np.testing.assert_allclose(
        detector.score_samples(features),
        score.fit(logits).score_samples(logits),
        rtol=1e-12,
    )
    assert not hasattr(score, "class_labels_") or detector.score_ is not score


def test_a_score_that_is_no_detector_of_logits_is_refused(known):
    from skood import KNN

    with pytest.raises(ValueError, match="'score' parameter of ReAct must be"):
        ReAct(score=KNN()).fit(*known)


@pytest.mark.parametrize("method", [ReAct, LINe])
def test_a_limit_at_which_nothing_is_left_is_refused(known, method):
    features, _ = known
    h = np.zeros((50, 10))
    h[:, 0] = np.arange(50)
    with pytest.raises(ValueError, match="percentile=80 of the activations is 0"):
        method(percentile=80).fit(with_features(h, features.head))


def test_signed_features_scale_by_what_is_positive():
    head = LinearHead(np.eye(2, 4), np.zeros(2))
    rows = np.array([[3.0, -2.0, 1.0, -1.0], [1.0, -9.0, 3.0, 0.0], [-1.0] * 4] * 9)
    scores = (
        SCALE(75)
        .fit(with_features(rows, head))
        .score_samples(with_features(rows[:3], head))
    )
    factors = np.exp([4 / 3, 4 / 3, 1])
    logits = rows[:3, :2] * factors[:, None]
    np.testing.assert_allclose(scores, np.logaddexp(*logits.T), rtol=1e-12)


SHAPES = [
    ReAct(),
    SCALE(),
    SCALE(transform="square"),
    ASH(variant="P"),
    ASH(variant="B"),
    ASH(variant="S"),
    VRA(),
    RAS(),
    DICE(),
    BATS(),
    LINe(),
    OptFS(),
]


@pytest.mark.parametrize("detector", SHAPES, ids=repr)
def test_tensors_are_shaped_as_arrays_are(known, detector):
    features, y = known
    detector.fit(features, y)
    h = features.block("penultimate")
    found = detector._head_scores(torch.tensor(h), None)
    assert isinstance(found, torch.Tensor)
    np.testing.assert_allclose(
        found.numpy(), detector.score_samples(features), rtol=1e-12
    )


@pytest.mark.parametrize("detector", [ReAct(), SCALE()], ids=repr)
def test_blocks_of_rows_are_no_matter(known, detector):
    features, y = known
    whole = detector.fit(features, y).score_samples(features)
    with (
        mock.patch.object(chunks, "CHUNK_ELEMENTS", 130),
        mock.patch.object(type(detector), "_block_elements", 40),
    ):
        parts = detector.fit(features, y).score_samples(features)
    np.testing.assert_allclose(parts, whole, rtol=1e-12)


@pytest.mark.parametrize("percentiles", [(10, 10), (40, 70)])
def test_the_graph_of_line_has_the_same_masks(known, percentiles):
    units, weights = percentiles
    h, rng = known[0].block("penultimate"), np.random.default_rng(0)
    head = LinearHead(rng.normal(size=(3, h.shape[1])), rng.normal(size=3))
    detector = LINe(unit_percentile=units, weight_percentile=weights)
    detector.fit(with_features(h, head))
    h = torch.tensor(h)
    found = detector._logits_in_graph(*detector._cut_off(h))
    expected = detector._shaped_logits(h)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-12, atol=1e-12)


def test_limits_of_bats_are_those_of_all_rows_whatever_the_chunks(known):
    features, y = known
    h = features.block("penultimate") + 100 * np.arange(120)[:, None]
    moved = with_features(h, features.head)
    with mock.patch.object(chunks, "chunk_rows", return_value=32):
        detector = BATS(n_std=1.5).fit(moved, y, threshold_data=moved)
    spread = 1.5 * h.std(axis=0)
    np.testing.assert_allclose(detector.lower_, h.mean(axis=0) - spread, rtol=1e-12)
    np.testing.assert_allclose(detector.upper_, h.mean(axis=0) + spread, rtol=1e-12)


@pytest.mark.parametrize("score", [KLMatching(), OpenMax(n_tail=5)], ids=repr)
def test_a_score_that_learns_does_so_from_the_new_logits(known, score):
    features, y = known
    detector = ReAct(80, score=score).fit(features, y)
    h = np.minimum(features.block("penultimate"), detector.limit_)
    logits = LayerFeatures({("logits", "logits"): features.head.logits(h)})
    expected = score.fit(logits, y)
    np.testing.assert_allclose(
        detector.score_samples(features), expected.score_samples(logits), rtol=1e-9
    )


def test_scale_with_a_score_that_learns_holds_rows_out(known):
    features, y = known
    detector = SCALE(60, score=OpenMax(n_tail=5)).fit(features, y)
    own = detector.score_samples(features)
    assert detector.offset_ not in own  # it comes from other fits
    assert SCALE(60).fit(features, y).offset_ in SCALE(60).fit(
        features, y
    ).score_samples(features)


@pytest.mark.parametrize("detector", [ASH(), LINe()], ids=repr)
def test_negative_features_are_refused_where_the_method_has_no_sense(known, detector):
    features, y = known
    shifted = with_features(features.block("penultimate") - 0.5, features.head)
    with pytest.raises(ValueError, match="made for features behind a ReLU"):
        detector.fit(shifted, y)


def test_ash_keeps_units_that_tie_and_no_zeros():
    head = LinearHead(np.eye(4), np.zeros(4))
    rows = np.array([[2.0, 1.0, 1.0, 0.0], [3.0, 0.0, 0.0, 0.0]] * 15)
    features = with_features(rows, head)
    tied = ASH(50, variant="B", score=MaxLogit()).fit(features)
    np.testing.assert_allclose(tied.score_samples(features[:2]), [4 / 3, 3])
    order = with_features(rows[:, ::-1], head)
    np.testing.assert_allclose(tied.score_samples(order[:2]), [4 / 3, 3])


def test_ras_knows_the_order_only(known):
    features, y = known
    detector = RAS().fit(features, y)
    h = features.block("penultimate")
    changed = with_features(np.exp(3 * h) - 7, features.head)
    np.testing.assert_allclose(
        detector.score_samples(changed), detector.score_samples(features), rtol=1e-12
    )


def test_vra_says_that_its_limits_are_one(known):
    features, y = known
    with pytest.raises(ValueError, match="nothing lies between them"):
        VRA(low_percentile=1, high_percentile=2).fit(features, y)


def test_dice_without_a_weight_left_is_refused():
    head = LinearHead(np.ones((3, 10)), np.zeros(3))
    same = with_features(np.ones((50, 10)), head)
    with pytest.raises(ValueError, match="no weight is left"):
        DICE().fit(same)


def test_optfs_of_activations_all_the_same_is_refused():
    head = LinearHead(np.ones((3, 10)), np.zeros(3))
    with pytest.raises(ValueError, match="no sizes of activations"):
        OptFS().fit(with_features(np.ones((50, 10)), head))


def test_the_published_parameters_are_parameters():
    fitted = [LINe(**given) for given in LINe.published.values()]
    assert [one.weight_percentile for one in fitted] == [90, 90, 10]


def test_a_class_missing_from_a_fold_is_no_matter(known):
    features, y = known
    some = np.flatnonzero((y != y[0]) | (np.arange(len(y)) == 0))
    names = np.array(["ape", "bee", "cat"])[y[some]]
    detector = ReAct(80, score=OpenMax(n_tail=5)).fit(features[some], names)
    assert np.isfinite(detector.offset_)


def test_a_method_without_a_formula_says_what_it_lacks(known):
    class Unwritten(ShapingDetector):
        pass

    features, y = known
    with pytest.raises(NotImplementedError, match=r"^Unwritten says neither how .*\.$"):
        Unwritten().fit(features, y)
