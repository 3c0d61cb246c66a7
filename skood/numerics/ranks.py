"""How many of n held-out scores may lie below a threshold, and how many are needed."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor, log1p

from scipy.stats import binom


def rank_for_rate(n: int, rate: float, confidence: float | None = None) -> int:
    r"""Return k so that the k-th smallest of n held-out scores is the threshold.

    A new row that is exchangeable with the n scores falls below the k-th smallest with
    probability at most :math:`k / (n + 1)`, so :math:`k = \lfloor rate (n + 1) \rfloor`
    keeps the rate in expectation over the held-out rows. The rate of one given set of
    held-out rows is below a Beta(k, n + 1 - k) variable; with a `confidence` k is also
    so small that this variable is at most the rate with that probability.

    Parameters
    ----------
    n : int
        Number of held-out scores.
    rate : float
        Share of in-distribution data that may fall below, in (0, 1).
    confidence : float, optional
        In (0, 1).

    Returns
    -------
    int
        From 0 (no threshold keeps the rate) to n.

    References
    ----------
    Wilks, "Determination of sample sizes for setting tolerance limits", Annals of
    Mathematical Statistics 12, 1941. Vovk, "Conditional validity of inductive conformal
    predictors", ACML 2012, Proposition 2.

    Examples
    --------
    >>> from skood.numerics.ranks import rank_for_rate
    >>> rank_for_rate(199, 0.05), rank_for_rate(199, 0.05, confidence=0.95)
    (10, 5)
    """
    # The rate as it is written: in floating point 0.29 * 100 is below 29.
    expected = floor(Fraction(str(float(rate))) * (n + 1))
    if confidence is None:
        return expected
    # P(Beta(k, n + 1 - k) <= rate) = P(Binomial(n, rate) >= k)
    return min(expected, int(binom.ppf(1 - confidence, n, rate)))


def rows_for_rate(rate: float, confidence: float | None = None) -> int:
    """Return how many held-out scores are needed to keep a rate at all.

    Parameters
    ----------
    rate : float
        Share of in-distribution data that may fall below, in (0, 1).
    confidence : float, optional
        In (0, 1).

    Returns
    -------
    int
        The smallest n for which :func:`rank_for_rate` is not zero.

    Examples
    --------
    >>> from skood.numerics.ranks import rows_for_rate
    >>> rows_for_rate(0.05), rows_for_rate(0.05, confidence=0.95)
    (19, 59)
    """
    n = ceil(1 / Fraction(str(float(rate)))) - 1
    if confidence is not None:
        n = max(n, ceil(log1p(-confidence) / log1p(-rate)))
    while rank_for_rate(n, rate, confidence) == 0:  # rounding of the logarithms
        n += 1
    return n
