"""Detectors that learn from logits, and the small ends of probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import weibull_min

from skood import (
    DOCTOR,
    GEN,
    MSP,
    Energy,
    Entropy,
    JointEnergy,
    KLMatching,
    MaxLogit,
    OpenMax,
    TemperatureScaledMSP,
)
from skood.detectors.logits._weibull import weibull_fits
from skood.detectors.logits.kl_matching import _nearest
from skood.detectors.logits.temperature import Slope, _root
from skood.numerics.probabilities import largest_softmax, log_softmax


@pytest.fixture
def labelled():
    rng = np.random.default_rng(0)
    y = np.arange(600) % 5
    return 3 * (rng.normal(size=(600, 5)) + 2 * np.eye(5)[y]), y


@pytest.mark.parametrize(
    "learned", [KLMatching(), OpenMax(), TemperatureScaledMSP()], ids=repr
)
def test_what_learns_is_not_fitted_in_portions(learned):
    assert not hasattr(learned, "partial_fit")
    assert hasattr(Energy(), "partial_fit")


@pytest.mark.parametrize("factor", [0.1, 1.0, 40.0])
def test_the_temperature_takes_out_a_factor_of_the_logits(labelled, factor):
    logits, y = labelled
    one = TemperatureScaledMSP().fit(logits, y)
    many = TemperatureScaledMSP().fit(factor * logits, y)
    np.testing.assert_allclose(many.temperature_, factor * one.temperature_, rtol=1e-9)
    np.testing.assert_allclose(
        many.score_samples(factor * logits), one.score_samples(logits), rtol=1e-9
    )


def test_labels_that_hardly_fit_move_the_temperature_and_no_rate():
    # Fits without some rows have temperatures of 44 or 205, and scores as far apart.
    rejected = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        logits, new = rng.normal(size=(2, 2_000, 4))
        y = rng.integers(0, 4, len(logits))
        logits[np.arange(len(y)), y] += 0.05
        detector = TemperatureScaledMSP(contamination=0.2).fit(logits, y)
        rejected.append((detector.predict(new) == -1).mean())
    assert 0.18 < np.mean(rejected) < 0.22
    assert np.ptp(rejected) < 0.08


def test_a_temperature_is_found_where_all_is_right():
    y = np.arange(60) % 3
    logits = 5 * np.eye(3)[y] + 0.1 * np.random.default_rng(0).normal(size=(60, 3))
    detector = TemperatureScaledMSP().fit(logits, y)
    assert 0 < detector.temperature_ < np.inf
    assert detector.score_samples(logits).max() < 1


def test_labels_in_another_order_are_noticed(labelled):
    logits, y = labelled
    with pytest.raises(ValueError, match="number the labels as the columns are"):
        TemperatureScaledMSP().fit(logits, (y + 2) % 5)


def test_names_are_columns_that_are_predicted_for_them(labelled):
    logits, y = labelled
    names = np.array(["ape", "bee", "cat", "dog", "eel"])[y]
    for learned in (TemperatureScaledMSP(), OpenMax()):
        expected = learned.fit(logits, y).score_samples(logits)
        np.testing.assert_array_equal(
            learned.fit(logits, names).score_samples(logits), expected
        )
    few = y < 4
    found = TemperatureScaledMSP().fit(logits[few], names[few]).temperature_
    assert found == TemperatureScaledMSP().fit(logits[few], y[few]).temperature_


def test_labels_are_asked_for(labelled):
    with pytest.raises(ValueError, match="y is None"):
        TemperatureScaledMSP().fit(labelled[0])


def test_a_class_that_is_never_predicted_has_no_template(labelled):
    logits, _ = labelled
    never = np.column_stack([logits, np.full(len(logits), -40.0)])
    detector = KLMatching().fit(never)
    assert detector.log_templates_.shape == (5, 6)
    assert np.isfinite(detector.score_samples(never)).all()


def test_templates_are_mean_probabilities(labelled):
    logits, _ = labelled
    detector = KLMatching().fit(logits)
    np.testing.assert_allclose(np.exp(detector.log_templates_).sum(axis=1), 1)


def test_weibull_fits_are_those_of_scipy():
    rng = np.random.default_rng(0)
    tails = np.sort(3 + rng.gamma(2, size=(4, 20)))
    shapes, scales = weibull_fits(tails)
    for tail, shape, scale in zip(tails, shapes, scales, strict=True):
        expected, _, size = weibull_min.fit(tail, floc=0)
        np.testing.assert_allclose([shape, scale], [expected, size], rtol=1e-3)
        own = weibull_min.logpdf(tail, shape, scale=scale).sum()
        assert own >= weibull_min.logpdf(tail, expected, scale=size).sum() - 1e-9


def test_classes_of_few_rows_take_the_distances_of_all():
    tails = np.array([[5.0, 4.0, 3.0, 2.0], [3.0, -1, -1, -1]])
    shapes, scales = weibull_fits(tails)
    assert np.isfinite([shapes, scales]).all()
    with pytest.raises(ValueError, match="no 3 that differ"):
        weibull_fits(np.array([[2.0, 2.0, 2.0]]))


def test_probabilities_near_one_keep_their_digits():
    logits = np.array([[0.0, -50.0, -60.0]])
    p, rest = largest_softmax(logits, 3)
    np.testing.assert_allclose(rest[0, -1], np.exp(-50) + np.exp(-60), rtol=1e-12)
    np.testing.assert_allclose(log_softmax(logits)[0, 0], -np.exp(-50), rtol=1e-4)
    assert p[0, -1] == 1


@pytest.mark.parametrize("detector", [GEN(), Entropy(), DOCTOR()], ids=repr)
def test_sure_predictions_do_not_tie(detector):
    ahead = np.linspace(40, 60, 50)
    logits = np.column_stack([ahead, np.zeros(50), np.zeros(50)])
    scores = detector.fit(logits).score_samples(logits)
    assert (np.diff(scores) > 0).all()


@pytest.mark.parametrize(
    "detector", [GEN(), Entropy(), DOCTOR(), KLMatching(), MSP()], ids=repr
)
def test_a_constant_added_to_a_row_is_no_matter(labelled, detector):
    logits, _ = labelled
    shifts = np.random.default_rng(1).normal(scale=100, size=(600, 1))
    detector.fit(logits)
    np.testing.assert_allclose(
        detector.score_samples(logits + shifts),
        detector.score_samples(logits),
        rtol=1e-6,
        atol=1e-12,
    )


@pytest.mark.parametrize(
    "detector", [GEN(), Entropy(), DOCTOR(), KLMatching(), OpenMax()], ids=repr
)
def test_one_column_of_logits_is_refused(detector):
    with pytest.raises(ValueError, match="the logits have one column"):
        detector.fit(np.arange(50.0)[:, None])


@pytest.mark.parametrize("detector", [MaxLogit(), JointEnergy()], ids=repr)
def test_one_column_of_scores_is_taken(detector):
    detector.fit(np.arange(50.0)[:, None])


EVERY = [GEN(), Entropy(), DOCTOR(), JointEnergy(), KLMatching(), OpenMax()]


@pytest.mark.parametrize("detector", [*EVERY, TemperatureScaledMSP()], ids=repr)
def test_tensors_score_as_arrays_do(labelled, detector):
    logits, y = labelled
    detector.fit(logits, y)
    found = detector._logit_scores(torch.tensor(logits))
    np.testing.assert_allclose(
        np.asarray(found), detector.score_samples(logits), rtol=1e-10
    )


def test_three_distances_that_differ_are_enough_for_a_class():
    tails = np.array([[1.0, 2.0, 4.0, 0.0], [3.0, 3.5, 0.0, 0.0]])
    shapes, scales = weibull_fits(tails)
    # scipy's optimiser stops early: its result is a little less likely than ours.
    shape, _, scale = weibull_min.fit(tails[0, :3], floc=0)
    np.testing.assert_allclose([shapes[0], scales[0]], [shape, scale], rtol=1e-3)
    pooled = tails[tails > 0]
    shape, _, scale = weibull_min.fit(pooled, floc=0)
    np.testing.assert_allclose([shapes[1], scales[1]], [shape, scale], rtol=1e-3)


def test_a_slope_that_does_not_rise_yet_is_gone_up_by_doubling():
    def slope(place):
        return Slope(place - 3.0, 0.0 if place < 1 else 1.0)

    assert _root(slope) == pytest.approx(3.0)


def test_a_class_of_one_row_has_that_row_as_its_mean(labelled):
    logits, y = labelled
    right = logits.argmax(axis=1) == y
    rows = np.flatnonzero(right & ((y > 0) | (np.cumsum(right & (y == 0)) == 1)))
    detector = OpenMax().fit(logits[rows], y[rows], threshold_data=logits)
    (alone,) = rows[y[rows] == 0]
    np.testing.assert_allclose(detector.means_[0], logits[alone])


def test_templates_that_float32_cannot_tell_apart_are_told_apart():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(10), size=300)
    log_q = np.log(rng.dirichlet(np.ones(10), size=1)) * (
        1 + 1e-9 * rng.normal(size=(7, 10))
    )
    products = p @ log_q.T
    in_float32 = p.astype(np.float32) @ log_q.astype(np.float32).T
    assert (in_float32.argmax(axis=1) != products.argmax(axis=1)).any()
    found = _nearest(p, log_q, p.astype(np.float32))
    np.testing.assert_array_equal(found, products.argmax(axis=1))
