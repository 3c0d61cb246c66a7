"""Shaped features: any score of the logits, and what each shape promises."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

from skood import (
    GEN,
    MSP,
    SCALE,
    Energy,
    LayerFeatures,
    LinearHead,
    MaxLogit,
    ReAct,
    _chunks,
)
from skood.estimator_checks import synthetic_features


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


def test_a_limit_at_which_nothing_is_left_is_refused(known):
    features, _ = known
    h = np.zeros((50, 10))
    h[:, 0] = np.arange(50)
    with pytest.raises(ValueError, match="percentile=80 of the activations is 0"):
        ReAct(80).fit(with_features(h, features.head))


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


@pytest.mark.parametrize("detector", [ReAct(), SCALE()], ids=repr)
def test_blocks_of_rows_are_no_matter(known, detector):
    features, y = known
    whole = detector.fit(features, y).score_samples(features)
    with (
        mock.patch.object(_chunks, "CHUNK_ELEMENTS", 130),
        mock.patch("skood.detectors.head.base.BLOCK_ELEMENTS", 40),
    ):
        parts = detector.fit(features, y).score_samples(features)
    np.testing.assert_allclose(parts, whole, rtol=1e-12)
