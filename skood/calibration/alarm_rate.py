"""An alarm when more rows of a stream are flagged than there should be."""

from __future__ import annotations

from math import log
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import betaln, xlog1py, xlogy
from scipy.stats import beta
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, column_or_1d

from skood._learning import Learning
from skood._sklearn_compat import Interval, fit_context
from skood._version import Stamped
from skood.calibration.betting import ChangeMixture
from skood.numerics.arrays import as_array

__all__ = ["AlarmRateMonitor"]

Floats = NDArray[np.float64]

ODDS = np.array([1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0])
"""By how much a bet takes the odds of an alarm to have changed."""


class AlarmRateMonitor(Stamped, Learning, BaseEstimator):
    r"""A running test that the share of flagged rows is still what it was.

    A threshold is set for a rate of false alarms. This monitor watches the flags that
    a service gives, and raises one alarm when their rate has left the reference: the
    rate that was promised, or that of rows which the detector was checked on. The
    probability that it is *ever* raised while the rate stays within the reference,
    however long the stream and whenever one looks, is at most `level`.

    The reference is an interval of rates [low, high]. A bet takes the rate to be
    q > high, and multiplies its capital by q / high at a flagged row and by
    (1 - q) / (1 - high) at any other; no such bet is expected to gain while each
    row is flagged with a probability of at most high, given those before it. Bets on
    q < low mirror that. The capital is spread over sizes and times of the change (see
    :class:`~skood.calibration.betting.ChangeMixture`), and the alarm is raised when
    its sum reaches 1 / level (Ville's inequality).

    The rate of flags is the rate of *false* alarms as far as the rows are
    in-distribution. Give it those that somebody has looked at and found to be so, and
    it watches the false alarms alone; give it all, and outliers that become more
    frequent raise it too. Unlike :class:`ShiftMonitor` it needs no scores, does not
    take a slow change up into what it compares with, and keeps a state of a few
    numbers.

    Parameters
    ----------
    max_rate : float, optional
        The rate that is promised, in (0, 1), such as ``false_alarm_bound_`` of a
        :class:`ConformalDetector`: only a higher rate raises the alarm. None: the rate
        of the reference rows given to ``fit``, and a lower rate raises it too.
    level : float, default=0.01
        Probability of a false alarm of this monitor, ever, in (0, 1): of streams, not
        of rows. See :term:`level`. Without a `max_rate` half of it goes to what the
        reference rows leave open.

    Attributes
    ----------
    reference_ : ndarray of shape (2,)
        The rates that raise no alarm: low and high. Of reference rows, the
        Clopper-Pearson interval at confidence 1 - level / 2.
    n_rows_ : int
        Rows of the stream so far.
    n_flagged_ : int
        How many of them were flagged.
    log_martingale_ : float
        Natural logarithm of the capital.
    alarm_ : bool
        Whether the capital has ever reached what the level asks for.
    alarm_at_ : int or None
        The row of the stream, counted from 0, at which it first did.

    Raises
    ------
    ValueError
        In ``fit``: neither a `max_rate` nor reference rows, or both; in ``fit`` and
        ``update``: flags that are not +1 or -1.

    See Also
    --------
    ShiftMonitor : Watches the scores, where a shift shows before it reaches the flags.
    TargetRateThreshold : A threshold whose rate is promised.

    References
    ----------
    Robbins, "Statistical methods related to the law of the iterated logarithm", Annals
    of Mathematical Statistics 41, 1970 (mixtures). Waudby-Smith and Ramdas, "Estimating
    means of bounded random variables by betting", JRSS B 86, 2024. Clopper and Pearson,
    "The use of confidence or fiducial limits", Biometrika 26, 1934.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import AlarmRateMonitor
    >>> rng = np.random.default_rng(0)
    >>> def flags(rate, n):
    ...     return np.where(rng.random(n) < rate, -1, 1)
    >>> monitor = AlarmRateMonitor().fit(flags(0.05, 2000))
    >>> monitor.reference_.round(3)
    array([0.042, 0.071])
    >>> monitor.update(flags(0.05, 1000))
    False
    >>> monitor.update(flags(0.15, 500))
    True
    >>> monitor.rate_interval(0.95).round(3)
    array([0.06 , 0.113])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "max_rate": [Interval(Real, 0, 1, closed="neither"), None],
        "level": [Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(self, max_rate: float | None = None, level: float = 0.01) -> None:
        self.max_rate = max_rate
        self.level = level

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, flags: ArrayLike | None = None, y: Any = None) -> AlarmRateMonitor:
        """Set what the stream is compared with.

        Parameters
        ----------
        flags : array-like of shape (n_samples,), optional
            What the detector's ``predict`` says of in-distribution rows that it has not
            seen: -1 for those flagged, else +1. Not with a `max_rate`.
        y : ignored
            As scikit-learn's estimators have it.

        Returns
        -------
        AlarmRateMonitor
            Itself, before the first row of a stream.
        """
        if (flags is None) == (self.max_rate is None):
            raise ValueError(
                f"max_rate={self.max_rate!r} and fit got "
                f"{'no' if flags is None else 'some'} flags: give the rate that is "
                "promised, or the flags of reference rows, and not both."
            )
        with self._learning():
            if self.max_rate is not None:
                low, high, level = 0.0, self.max_rate, self.level
            else:
                flagged, level = _flagged(flags), self.level / 2
                low, high = exact_interval(int(flagged.sum()), len(flagged), level)
            self.reference_ = np.array([low, high])
            self._limit = -log(level)
            self._remember_parameters()
            self.reset()
        return self

    def reset(self) -> AlarmRateMonitor:
        """Forget the stream, as if just fitted.

        Returns
        -------
        AlarmRateMonitor
            Itself.
        """
        check_is_fitted(self, "reference_")
        n_bets = len(log_factors(*self.reference_)[0])
        self._mixture = ChangeMixture(0, np.full((n_bets, 1), -np.inf))
        self.n_rows_ = 0
        self.n_flagged_ = 0
        self.log_martingale_ = 0.0
        self.alarm_ = False
        self.alarm_at_: int | None = None
        return self

    def update(self, flags: ArrayLike) -> bool:
        """Take in the flags of the next rows of the stream.

        Parameters
        ----------
        flags : array-like of shape (n_samples,)
            -1 for rows that were flagged, else +1, in the order of the stream. It does
            not matter how the stream is cut into calls.

        Returns
        -------
        bool
            Whether the alarm has been raised, now or before.
        """
        check_is_fitted(self)
        flagged = _flagged(flags)
        at_flag, at_other = log_factors(*self.reference_)
        path = self._mixture.after_gains(np.where(flagged, at_flag, at_other))
        crossed = np.flatnonzero(path >= self._limit)
        if len(crossed) and not self.alarm_:
            self.alarm_, self.alarm_at_ = True, self.n_rows_ + int(crossed[0])
        self.n_rows_ += len(flagged)
        self.n_flagged_ += int(flagged.sum())
        if len(path):
            self.log_martingale_ = float(path[-1])
        return self.alarm_

    def rate_interval(self, confidence: float = 0.95) -> Floats:
        r"""Return the rates that the stream so far leaves possible.

        If each row is flagged with the same probability, given those before it, all
        the intervals that are ever returned contain it, with the confidence: one may
        look after every row. They are the rates p at which the likelihood, averaged
        over the Beta(1/2, 1/2) distribution, is less than :math:`1 / (1 - confidence)`
        times that of p (Robbins 1970).

        Parameters
        ----------
        confidence : float, default=0.95
            In (0, 1).

        Returns
        -------
        ndarray of shape (2,)
            Low and high.
        """
        check_is_fitted(self)
        if not 0 < confidence < 1:
            raise ValueError(f"confidence={confidence!r}: give a number in (0, 1).")
        return anytime_interval(self.n_flagged_, self.n_rows_, 1 - confidence)


def log_factors(low: float, high: float) -> tuple[Floats, Floats]:
    """Return the logarithm by which each bet's capital grows at a row.

    Parameters
    ----------
    low, high : float
        The rates that raise no alarm.

    Returns
    -------
    flagged, other : ndarray of shape (bets, 1)
        At a row that is flagged, and at any other; no bets on less than 0 or more
        than 1.
    """
    pairs = [(high, ODDS)] if high < 1 else []
    pairs += [(low, 1 / ODDS)] if low > 0 else []
    flagged, other = [np.zeros(0)], [np.zeros(0)]
    for rate, change in pairs:
        odds = change * rate / (1 - rate)
        flagged.append(np.log(odds / (1 + odds) / rate))
        other.append(-np.log1p(odds) - np.log1p(-rate))
    return np.concatenate(flagged)[:, None], np.concatenate(other)[:, None]


def exact_interval(k: int, n: int, level: float) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of a rate, k times in n.

    Parameters
    ----------
    k, n : int
        How often, of how many.
    level : float
        Probability of missing the rate, on both sides together.

    Returns
    -------
    low, high : float
    """
    low = float(beta.ppf(level / 2, k, n - k + 1)) if k else 0.0
    high = float(beta.isf(level / 2, k + 1, n - k)) if k < n else 1.0
    return low, high


def anytime_interval(k: int, n: int, level: float) -> Floats:
    """Return the rates that a bet on all rates leaves at each time, k times in n.

    Parameters
    ----------
    k, n : int
        How often, of how many.
    level : float
        Probability of ever missing the rate.

    Returns
    -------
    ndarray of shape (2,)
    """
    if n == 0:
        return np.array([0.0, 1.0])
    against = betaln(k + 0.5, n - k + 0.5) - betaln(0.5, 0.5) + log(level)

    def excess(rate: float) -> float:
        return float(against - xlogy(k, rate) - xlog1py(n - k, -rate))

    tiny = np.finfo(np.float64).tiny
    low = brentq(excess, tiny, k / n) if k else 0.0
    high = brentq(excess, k / n, 1 - 2.0**-53) if k < n else 1.0
    return np.array([low, high])


def _flagged(flags: ArrayLike | None) -> NDArray[np.bool_]:
    values = column_or_1d(as_array(flags, "flags"))
    if len(values) and not np.isin(values, (-1, 1)).all():
        raise ValueError(
            f"flags has {np.unique(values)[:5].tolist()}: wanted is what predict "
            "returns, -1 for rows that are flagged and 1 for all others."
        )
    return np.asarray(values == -1)
