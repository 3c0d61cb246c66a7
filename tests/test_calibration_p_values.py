"""Ranks, p-values and selections against plain loops and exact probabilities."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from references import conformal as reference
from scipy.stats import beta

from skood import KNN, NAP, ConformalDetector, FeatureNorm
from skood.calibration import (
    conditional_p_values,
    conformal_e_values,
    conformal_p_values,
    discoveries,
    e_discoveries,
    likelihood_ratios,
    weighted_conformal_p_values,
)
from skood.calibration.betting import POWERS, ChangeMixture
from skood.calibration.p_values import Reference
from skood.numerics.ranks import rank_for_rate, rows_for_rate

SCORES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=20)
P_VALUES = st.lists(st.floats(1e-6, 1), min_size=1, max_size=20)


@pytest.mark.parametrize("n", [1, 18, 19, 20, 99, 100, 199, 1000])
@pytest.mark.parametrize("percent", [1, 5, 7, 10, 29, 50])
def test_rank_is_the_largest_that_keeps_the_rate(n, percent):
    k = rank_for_rate(n, percent / 100)
    assert Fraction(k, n + 1) <= Fraction(percent, 100) < Fraction(k + 1, n + 1)


@pytest.mark.parametrize("n", [20, 59, 100, 400])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_rank_at_a_confidence_is_the_largest_that_keeps_it(n, confidence, rate):
    k = rank_for_rate(n, rate, confidence)
    expected = rank_for_rate(n, rate)
    held = [
        rank
        for rank in range(1, n + 1)
        if rank <= expected and beta.cdf(rate, rank, n + 1 - rank) >= confidence
    ]
    assert k == max(held, default=0)


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.03, 0.05, 1 / 3, 0.5])
@pytest.mark.parametrize("confidence", [None, 0.5, 0.95])
def test_rows_for_rate_is_the_smallest_number_that_does(rate, confidence):
    n = rows_for_rate(rate, confidence)
    assert rank_for_rate(n, rate, confidence) > 0
    assert n == 1 or rank_for_rate(n - 1, rate, confidence) == 0


@given(SCORES, SCORES)
def test_p_values_count_scores_up_to_the_row(known, new):
    expected = [reference.p_value(known, score) for score in new]
    assert conformal_p_values(known, new).tolist() == expected


@given(st.lists(SCORES, min_size=1, max_size=4), st.data())
def test_reference_counts_each_row_under_the_detector_that_did_not_see_it(held, data):
    new = data.draw(st.lists(st.floats(-6, 6), min_size=len(held), max_size=len(held)))
    classes = [np.zeros(len(part), dtype=int) for part in held]
    known = Reference.of([np.array(part) for part in held], classes)
    counts = known.counts_below([np.array([score]) for score in new])
    assert known.p_values(counts)[0, 0] == reference.cross_p_value(held, new)


def test_every_class_is_compared_with_its_own_rows():
    scores = [np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0])]
    known = Reference.of(scores, [np.array([0, 1, 1]), np.array([0, 1])])
    assert known.sizes.tolist() == [2, 3]
    counts = known.counts_below([np.array([2.5]), np.array([9.0])])
    assert counts.tolist() == [[2], [2]]
    assert known.p_values(counts).ravel().tolist() == [1.0, 0.75]


def test_bounds_of_the_three_methods():
    one = Reference([[np.arange(199.0)]])
    assert one.false_alarm_bound(0.05) == 10 / 200
    five = Reference([[np.arange(40.0)] * 5])
    # Vovk and Wang: 2 a + 2 (1 - a) (K - 1) / (n + K), at a = k / (n + 1)
    a = 10 / 201
    assert five.false_alarm_bound(0.05) == pytest.approx(2 * a + 2 * (1 - a) * 4 / 205)
    each = Reference([[np.zeros(1)] * 199])
    # Barber et al.: 2 a - 1 / (n + 1)
    assert each.false_alarm_bound(0.05) == pytest.approx(2 * 0.05 - 1 / 200)


def test_jackknife_bound_cannot_be_exceeded_by_any_detector():
    """At most (2 k - 1) of n + 1 rows can have a p-value up to k / (n + 1)."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = int(rng.integers(2, 12))
        # wins[i, j]: row i scores above row j under the detector without both
        wins = np.triu(rng.random((n + 1, n + 1)) < rng.random(), 1)
        wins |= np.tril(~wins.T, -1)
        p = (1 + wins.sum(axis=1)) / (n + 1)
        for k in range(1, n + 1):
            assert (p <= k / (n + 1) + 1e-12).sum() <= max(2 * k - 1, 0)


@given(P_VALUES, st.sampled_from([0.05, 0.1, 0.3]))
def test_discoveries_are_those_of_the_step_up_procedures(p_values, fdr):
    bh = reference.benjamini_hochberg(p_values, fdr)
    assert discoveries(p_values, fdr).tolist() == bh
    by = reference.benjamini_yekutieli(p_values, fdr)
    assert discoveries(p_values, fdr, "by").tolist() == by


def test_discoveries_at_exactly_the_bound():
    # 3/100 <= 0.1 * 3/10 holds, and must hold in floating point.
    p = [0.03, 0.03, 0.03, *[1.0] * 7]
    assert discoveries(p, 0.1).sum() == 3


def test_no_rows_no_discoveries():
    assert discoveries([], 0.1).tolist() == []


@pytest.mark.parametrize("n", [2, 3, 10, 25])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
def test_conditional_p_values_hold_at_once_with_exactly_the_confidence(n, confidence):
    bounds = conditional_p_values(np.arange(1, n + 1) / (n + 1), n, confidence)
    assert reference.probability_below(bounds) == pytest.approx(confidence)


def test_conditional_p_values_are_larger_and_keep_the_order():
    plain = np.arange(1, 101) / 100
    conditional = conditional_p_values(plain, 99, 0.9)
    assert (conditional >= plain).all()
    assert (np.diff(conditional) >= 0).all()
    assert conditional[-1] == 1


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=12))
def test_mixture_is_the_sum_over_times_and_bets(p_values):
    expected = reference.log_mixture(p_values, POWERS.ravel())
    found = ChangeMixture().after(np.array(p_values))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(0, 40))
def test_mixture_does_not_depend_on_how_the_stream_is_cut(p_values, cut):
    p = np.array(p_values)
    whole, pieces = ChangeMixture(), ChangeMixture()
    parts = np.concatenate([pieces.after(p[:cut]), pieces.after(p[cut:])])
    np.testing.assert_allclose(parts, whole.after(p), rtol=1e-9, atol=1e-9)
    assert np.isfinite(parts).all()


def test_mixture_is_a_martingale():
    """The expected capital after a uniform p-value is the capital before."""
    history = np.array([0.3, 0.01, 0.02, 0.9])
    before = ChangeMixture().after(history)[-1]

    def capital(p):
        return np.exp(ChangeMixture().after(np.append(history, p))[-1] - before)

    # Half an integral each from 0 and from 1, in v with v**10 the distance to the end:
    # the powers are steep there.
    def near(v):
        return (capital(v**10) + capital(1 - v**10)) * 10 * v**9

    points, weights = np.polynomial.legendre.leggauss(100)
    v = 0.5**0.1 * (points + 1) / 2
    expected = 0.5**0.1 / 2 * weights @ [near(x) for x in v]
    assert expected == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("score", [-0.3, 2.5e4, -1e-30, 0.0])
def test_rounding_of_a_batch_moves_no_p_value(score):
    known = np.sort(np.r_[np.full(10, score), np.linspace(-1e5, 1e5, 20)])
    noise = 1 + np.array([-1e-7, 0, 1e-7])
    assert len(set(conformal_p_values(known, score * noise))) == 1
    found = Reference([[known]]).counts_below([score * noise])
    np.testing.assert_array_equal(found, (known <= score).sum())
    assert conformal_p_values(known, [-np.inf, np.inf]).tolist() == [1 / 31, 1]


def test_duplicates_have_one_p_value_alone_and_in_company():
    rng = np.random.default_rng(0)
    X = np.r_[rng.normal(size=(270, 40)), np.tile(rng.normal(size=(1, 40)), (30, 1))]
    X = X.astype(np.float32)
    for detector in (KNN(5), FeatureNorm(), NAP(statistic="avg")):
        conformal = ConformalDetector(detector).fit(X)
        alone = conformal.p_values(X[-1:])
        for batch in (X[::-1], np.asfortranarray(X)[::-1], X[-7:]):
            rows = np.flatnonzero((batch == X[-1]).all(axis=1))
            np.testing.assert_array_equal(
                conformal.p_values(batch)[rows], np.full(len(rows), alone[0])
            )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conformal_p_values([1, np.nan], [0]), "calibration_scores has 1 NaN"),
        (lambda: conformal_p_values([1, 2], [np.nan]), "^scores has 1 NaN of 1"),
        (lambda: conformal_p_values([], [0.0]), "calibration_scores is empty"),
        (
            lambda: weighted_conformal_p_values([1, 2], [np.nan], [1, 1], [1]),
            "^scores has 1 NaN",
        ),
        (lambda: discoveries([0.1, np.nan], 0.1), "p_values has nan at row 1"),
        (lambda: discoveries([0.1, 1.5], 0.1), r"p_values has 1\.5 at row 1"),
        (lambda: discoveries([0.1], 5), r"fdr=5: give a share in \(0, 1\)"),
        (lambda: conformal_e_values([-0.1], 0.1), "at row 0: a p-value"),
        (lambda: e_discoveries([np.nan, 3], 0.1), "e_values has NaN or values below 0"),
        (lambda: e_discoveries([3.0], 0), "fdr=0: give a share"),
        (lambda: conditional_p_values([0.5], 99, 1.0), r"confidence=1\.0: give"),
        (lambda: conditional_p_values([0.5], 1, 0.9), "n_calibration=1: give"),
        (lambda: conditional_p_values([0.001], 99, 0.9), "none is below 1 / 100"),
        (lambda: likelihood_ratios(np.ones((3, 1)), np.ones((0, 1))), "X_now has no"),
    ],
)
def test_what_is_no_score_p_value_or_rate_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
