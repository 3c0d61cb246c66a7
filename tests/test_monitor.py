"""ShiftMonitor: exact p-values, the level, the state."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from references import conformal as reference
from scipy.stats import kstest
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import KFold
from sklearn.utils.estimator_checks import parametrize_with_checks

import skood
from skood import KNN, Mahalanobis
from skood.calibration import ConformalDetector, ShiftMonitor
from skood.calibration.monitor import online_p_values


@parametrize_with_checks(
    [ShiftMonitor(Mahalanobis()), ShiftMonitor(Mahalanobis(), cv=0.5)]
)
@pytest.mark.filterwarnings("ignore:classes with one row only")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.fixture
def monitor():
    X = np.random.default_rng(0).normal(size=(500, 3))
    return ShiftMonitor(Mahalanobis()).fit(X)


@given(
    st.lists(st.integers(-3, 3), max_size=8),
    st.lists(st.integers(-3, 3), min_size=1, max_size=12),
    st.integers(0, 2**32 - 1),
)
def test_p_values_are_randomised_ranks_among_all_so_far(known, stream, seed):
    draws = 1 - np.random.default_rng(seed).random(len(stream))
    found = online_p_values(
        np.sort(np.array(known, float)), np.array(stream, float), draws
    )
    np.testing.assert_allclose(found, reference.online_p_values(known, stream, draws))


def test_p_values_of_exchangeable_rows_are_uniform_and_independent():
    """Even with few calibration rows and heavy ties, where plain ranks would not be."""
    rng = np.random.default_rng(0)
    firsts, pairs = [], []
    for _ in range(2000):
        scores = rng.integers(0, 4, size=6).astype(float)
        p = online_p_values(np.sort(scores[:3]), scores[3:], 1 - rng.random(3))
        firsts.append(p[0])
        pairs.append((p[1] - 0.5) * (p[2] - 0.5))
    assert kstest(firsts, "uniform").pvalue > 0.001
    assert abs(np.mean(pairs)) < 4 * np.std(pairs) / np.sqrt(len(pairs))


def test_false_alarms_are_at_most_the_level():
    """On scores alone: over and over a stream like the calibration rows."""
    rng = np.random.default_rng(0)
    monitor = ShiftMonitor(KNN(1), 0.1).fit(rng.normal(size=(60, 1)))
    alarms = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        monitor.calibration_scores_ = np.sort(rng.normal(size=50))
        monitor._seed = seed
        monitor.reset()
        path = monitor._mixture.after(monitor._next_p_values(rng.normal(size=400)))
        alarms += path.max() >= np.log(10)
    assert alarms / 300 <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 300)
    assert alarms > 0


@pytest.mark.parametrize("shift", [2.0, -2.0])
def test_both_kinds_of_shift_raise_the_alarm_soon(shift):
    """Scores too low, and scores too high (rows nearer to the centre than usual)."""
    rng = np.random.default_rng(1)
    monitor = ShiftMonitor(Mahalanobis()).fit(rng.normal(size=(1000, 5)))
    assert not monitor.update(rng.normal(size=(200, 5)))
    spread = 2.0 if shift > 0 else 0.4
    assert monitor.update(rng.normal(0, spread, size=(100, 5)))
    assert 200 <= monitor.alarm_at_ < 260


def test_alarm_stays_and_its_row_is_the_first(monitor):
    rng = np.random.default_rng(2)
    assert monitor.update(rng.normal(3, 1, size=(40, 3)))
    first = monitor.alarm_at_
    crossed = np.flatnonzero(monitor.log_martingale_ >= np.log(100))
    assert first == crossed[0]
    assert monitor.update(rng.normal(size=(400, 3)))
    assert monitor.alarm_at_ == first
    assert len(monitor.log_martingale_) == len(monitor.p_values_) == 440


@given(st.lists(st.integers(0, 700), max_size=3))
def test_stream_may_be_cut_anywhere(cuts):
    rng = np.random.default_rng(0)
    X, stream = rng.normal(size=(200, 2)), rng.normal(0.3, 1, size=(700, 2))
    whole, pieces = (ShiftMonitor(Mahalanobis()).fit(X) for _ in range(2))
    whole.update(stream)
    for part in np.split(stream, sorted(cuts)):
        if len(part):
            pieces.update(part)
    np.testing.assert_array_equal(pieces.p_values_, whole.p_values_)
    np.testing.assert_allclose(
        pieces.log_martingale_, whole.log_martingale_, rtol=1e-9, atol=1e-9
    )
    assert pieces.alarm_at_ == whole.alarm_at_


def test_reset_forgets_the_stream(monitor):
    stream = np.random.default_rng(3).normal(1, 1, size=(300, 3))
    monitor.update(stream)
    before = monitor.log_martingale_
    assert monitor.reset() is monitor
    assert (monitor.alarm_, monitor.alarm_at_, len(monitor.p_values_)) == (
        False,
        None,
        0,
    )
    monitor.update(stream)
    np.testing.assert_array_equal(monitor.log_martingale_, before)


def test_goes_on_from_a_file(monitor):
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=(2, 100, 3))
    monitor.update(first)
    again = pickle.loads(pickle.dumps(monitor))
    for one in (monitor, again):
        one.update(second)
    np.testing.assert_array_equal(again.log_martingale_, monitor.log_martingale_)


def test_over_scores_alone(monitor):
    rng = np.random.default_rng(5)
    stream = rng.normal(0.3, 1, size=(120, 3))
    monitor.update(stream)
    detector, known = monitor.detector_, monitor.calibration_scores_
    alone = ShiftMonitor().fit(rng.permutation(known))
    for part in np.array_split(detector.score_samples(stream), 7):
        alone.update(part)
    np.testing.assert_allclose(
        alone.log_martingale_, monitor.log_martingale_, rtol=1e-9
    )
    again = ShiftMonitor().fit(known[:, None], np.zeros(len(known)))
    again.update(detector.score_samples(stream)[:, None])
    np.testing.assert_array_equal(again.p_values_, alone.p_values_)


def test_scores_of_outliers_calibrate_nothing():
    scores, y = np.arange(10.0), np.repeat([0, -1], [6, 4])
    assert ShiftMonitor().fit(scores, y).calibration_scores_.tolist() == [*range(6)]


def test_scores_are_checked():
    with pytest.raises(ValueError, match="1 NaN of 2"):
        ShiftMonitor().fit([0.0, np.nan])
    with pytest.raises(ValueError, match="1d array"):
        ShiftMonitor().fit([0.0, 1.0]).update(np.zeros((2, 2)))


def test_scores_of_any_kind_of_file_go_on(tmp_path):
    rng = np.random.default_rng(6)
    alone = ShiftMonitor().fit(rng.normal(size=500))
    alone.update(rng.normal(size=50))
    skood.save(alone, tmp_path / "monitor")
    again = skood.load(tmp_path / "monitor")
    for one in (alone, again):
        one.update(np.linspace(-2, 1, 80))
    np.testing.assert_array_equal(again.log_martingale_, alone.log_martingale_)


def test_around_a_calibrated_and_a_fitted_detector():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(600, 2)), np.repeat([0, -1], [550, 50])
    calibrated = ConformalDetector(IsolationForest(random_state=0)).fit(X[:300])
    monitor = ShiftMonitor(calibrated, cv="prefit").fit(X[300:], y[300:])
    assert monitor.detector_ is calibrated
    assert len(monitor.calibration_scores_) == 250
    assert not monitor.update(rng.normal(size=(50, 2)))
    assert monitor.update(rng.normal(4, 1, size=(50, 2)))


def test_long_streams_do_not_overflow(monitor):
    stream = np.tile([[9.0, 9.0, 9.0]], (5000, 1))
    assert monitor.update(stream)
    assert np.isfinite(monitor.log_martingale_).all()


def test_folds_are_refused():
    with pytest.raises(ValueError, match="holds out one set of rows"):
        ShiftMonitor(Mahalanobis(), cv=5).fit(np.random.default_rng(0).random((50, 2)))
    with pytest.raises(ValueError, match="holds out one set of rows"):
        ShiftMonitor(Mahalanobis(), cv=KFold(2)).fit(
            np.random.default_rng(0).random((50, 2))
        )


def test_level_is_checked():
    with pytest.raises(ValueError, match="'level' parameter"):
        ShiftMonitor(Mahalanobis(), level=1.0).fit(np.zeros((9, 2)))


def test_plot(monitor):
    plt = pytest.importorskip("matplotlib.pyplot")
    monitor.update(np.random.default_rng(0).normal(2, 1, size=(60, 3)))
    display = monitor.plot()
    assert display.alarm_at == monitor.alarm_at_
    plt.close("all")
