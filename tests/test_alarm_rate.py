"""AlarmRateMonitor: the capital, the level, the interval, the state."""

from __future__ import annotations

import joblib
import numpy as np
import pytest
import skops.io
from hypothesis import given
from hypothesis import strategies as st
from references import conformal as reference
from scipy.stats import binom, binomtest
from sklearn.base import clone

import skood
from skood import AlarmRateMonitor, Mahalanobis
from skood.calibration.alarm_rate import ODDS, anytime_interval, exact_interval

FLAGS = st.lists(st.sampled_from([-1, 1]), min_size=1, max_size=12)


def flags(rng, rate, n):
    return np.where(rng.random(n) < rate, -1, 1)


@given(FLAGS, st.floats(0.01, 0.9), st.booleans())
def test_capital_is_the_mean_of_all_bets_from_all_times(stream, high, both):
    low = high / 2 if both else 0.0
    monitor = AlarmRateMonitor(0.5).fit()
    monitor.reference_ = np.array([low, high])
    monitor.reset()
    found = []
    for flag in stream:
        monitor.update([flag])
        found.append(monitor.log_martingale_)
    expected = reference.rate_capital([f == -1 for f in stream], low, high, ODDS)
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-9)


@given(st.lists(st.integers(0, 300), max_size=3))
def test_stream_may_be_cut_anywhere(cuts):
    stream = flags(np.random.default_rng(0), 0.2, 300)
    whole, pieces = (AlarmRateMonitor(0.05).fit() for _ in range(2))
    whole.update(stream)
    for part in np.split(stream, sorted(cuts)):
        pieces.update(part)
    assert pieces.log_martingale_ == pytest.approx(whole.log_martingale_, rel=1e-9)
    for name in ("alarm_at_", "n_rows_", "n_flagged_"):
        assert getattr(pieces, name) == getattr(whole, name)


@pytest.mark.parametrize("promised", [True, False])
def test_false_alarms_are_at_most_the_level(promised):
    level, rate, repetitions = 0.1, 0.05, 150
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(repetitions):
        if promised:
            monitor = AlarmRateMonitor(rate, level).fit()
        else:
            monitor = AlarmRateMonitor(level=level).fit(flags(rng, rate, 500))
        alarms += monitor.update(flags(rng, rate, 1000))
    assert alarms <= binom.ppf(0.999, repetitions, level)
    assert alarms > 0 or not promised  # what the reference leaves open is taken off


def test_a_rate_below_the_promised_one_is_kept_to():
    """Also one that changes with what was flagged before."""
    rng, alarms = np.random.default_rng(1), 0
    for _ in range(100):
        monitor, last = AlarmRateMonitor(0.1, 0.1).fit(), 1
        draws = rng.random(300)
        stream = []
        for draw in draws:
            last = -1 if draw < (0.1 if last == 1 else 0.02) else 1
            stream.append(last)
        alarms += monitor.update(stream)
    assert alarms <= binom.ppf(0.999, 100, 0.1)


@pytest.mark.parametrize("then", [0.15, 0.0])
def test_both_changes_of_a_known_rate_raise_the_alarm(then):
    rng = np.random.default_rng(2)
    monitor = AlarmRateMonitor().fit(flags(rng, 0.05, 3000))
    assert not monitor.update(flags(rng, 0.05, 1000))
    assert monitor.update(flags(rng, then, 1500))
    assert 1000 <= monitor.alarm_at_ < 2000
    first = monitor.alarm_at_
    assert monitor.update(flags(rng, 0.05, 10))
    assert monitor.alarm_at_ == first


def test_a_lower_rate_than_promised_is_no_alarm():
    assert not AlarmRateMonitor(0.05).fit().update(np.ones(5000))


@pytest.mark.parametrize(("k", "n"), [(0, 20), (3, 20), (20, 20), (50, 1000)])
def test_reference_is_the_exact_interval(k, n):
    expected = binomtest(k, n).proportion_ci(0.995, "exact")
    assert exact_interval(k, n, 0.005) == pytest.approx((expected.low, expected.high))
    given_flags = np.repeat([-1, 1], [k, n - k])
    monitor = AlarmRateMonitor(level=0.01).fit(given_flags)
    assert monitor.reference_.tolist() == [*exact_interval(k, n, 0.005)]


@pytest.mark.parametrize(("k", "n"), [(0, 0), (0, 9), (9, 9), (3, 50)])
def test_interval_holds_the_rates_that_no_bet_has_refuted(k, n):
    low, high = anytime_interval(k, n, 0.1)
    rates = np.linspace(0, 1, 2001)[1:-1]
    # The likelihood averaged over Beta(1/2, 1/2), by the trapezoid rule in the angle.
    angles = (np.arange(20_000) + 0.5) * np.pi / 2 / 20_000
    p = np.sin(angles) ** 2
    average = np.mean(p**k * (1 - p) ** (n - k))
    kept = average / (rates**k * (1 - rates) ** (n - k)) < 10
    np.testing.assert_array_equal(kept, (rates > low) & (rates < high))


def test_intervals_hold_together():
    rng, missed = np.random.default_rng(3), 0
    for _ in range(60):
        monitor, wrong = AlarmRateMonitor(0.5).fit(), False
        for _ in range(15):
            monitor.update(flags(rng, 0.2, 20))
            low, high = monitor.rate_interval(0.8)
            wrong |= not low <= 0.2 <= high
        missed += wrong
    assert missed <= binom.ppf(0.999, 60, 0.2)


def test_goes_on_from_every_kind_of_file(tmp_path):
    rng = np.random.default_rng(4)
    monitor = AlarmRateMonitor().fit(flags(rng, 0.05, 1000))
    monitor.update(flags(rng, 0.05, 200))
    joblib.dump(monitor, tmp_path / "monitor.joblib")
    skood.save(monitor, tmp_path / "monitor")
    again = [
        joblib.load(tmp_path / "monitor.joblib"),
        skood.load(tmp_path / "monitor"),
        skops.io.loads(skops.io.dumps(monitor), trusted=skood.trusted_types()),
    ]
    second = flags(rng, 0.2, 300)
    monitor.update(second)
    assert monitor.alarm_
    for one in again:
        one.update(second)
        assert one.alarm_at_ == monitor.alarm_at_
        assert one.log_martingale_ == monitor.log_martingale_


def test_over_a_detector():
    rng = np.random.default_rng(5)
    detector = Mahalanobis().fit(rng.normal(size=(500, 3)))
    monitor = AlarmRateMonitor().fit(detector.predict(rng.normal(size=(500, 3))))
    assert not monitor.update(detector.predict(rng.normal(size=(300, 3))))
    assert monitor.update(detector.predict(1.6 * rng.normal(size=(300, 3))))
    assert clone(monitor).get_params() == {"max_rate": None, "level": 0.01}


@pytest.mark.parametrize(
    ("monitor", "given", "message"),
    [
        (AlarmRateMonitor(), None, "no flags: give the rate"),
        (AlarmRateMonitor(0.05), [1], "some flags: give the rate"),
        (AlarmRateMonitor(), [0, 1], "wanted is what predict returns"),
        (AlarmRateMonitor(1.5), None, "'max_rate' parameter"),
        (AlarmRateMonitor(0.1, level=0), None, "'level' parameter"),
    ],
)
def test_what_is_wrong_is_said(monitor, given, message):
    with pytest.raises(ValueError, match=message):
        monitor.fit(given)


def test_the_confidence_is_checked():
    with pytest.raises(ValueError, match="confidence=1: give a number"):
        AlarmRateMonitor(0.1).fit().rate_interval(1)


def test_a_stream_of_nothing_changes_nothing():
    monitor = AlarmRateMonitor(0.1).fit()
    assert not monitor.update([])
    assert monitor.log_martingale_ == 0.0
    assert monitor.rate_interval().tolist() == [0.0, 1.0]
