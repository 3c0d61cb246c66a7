"""Scores of different detectors on one scale, that of in-distribution rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtri, ndtri_exp

__all__ = ["Comparable"]

Floats = NDArray[np.float64]

TAIL = 0.05
"""The share of held-out rows below which the tail is a curve, not steps."""

FEWEST = 5
"""The tail is made of so many rows at least."""

LIKE_NORMAL = 0.4
"""The mean excess over the 5 % quantile, in deviations, of a normal distribution."""

TIE = 1e-6
"""Scores that differ by less of their spread are one value, as rounding makes them."""

LARGEST = np.finfo(np.float64).max / 1e10


@dataclass(frozen=True, eq=False)
class Comparable:
    r"""A detector's scores relative to those of in-distribution rows new to it.

    Parameters
    ----------
    mean, deviation : float
        Of the held-out scores.
    values, shares : ndarray of shape (k,)
        The distinct held-out scores in ascending order, and the share of scores below
        each, with half of its ties.
    edge, edge_share, decay : float
        Below ``edge`` the share of rows with a score of at most s is
        :math:`edge\_share \cdot e^{-(edge - s) / decay}`, so that scores below all
        held-out ones do not tie.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.ensemble.comparable import Comparable
    >>> scale = Comparable.of(np.arange(1000.0))
    >>> scale.gaussian(np.array([499.5, 158.2, -1e3, -1e4])).round(1)
    array([  0. ,  -1. ,  -9.1, -28.3])
    """

    mean: float
    deviation: float
    values: Floats
    shares: Floats
    edge: float
    edge_share: float
    decay: float

    @classmethod
    def of(cls, scores: Floats) -> Comparable:
        """Return the scale of held-out scores.

        Parameters
        ----------
        scores : ndarray of shape (n,)
            None of them NaN.

        Returns
        -------
        Comparable
        """
        ordered = np.sort(_finite(scores))
        values, shares, counts = _steps(ordered)
        tail = min(max(TAIL, FEWEST / len(ordered)), 0.5)
        place = int(np.searchsorted(np.cumsum(counts), tail * len(ordered)))
        deviation = _deviation(ordered)
        decay = LIKE_NORMAL * deviation
        if place > 0:
            decay = float(
                np.average(values[place] - values[:place], weights=counts[:place])
            )
        return cls(
            float(ordered.mean()),
            deviation,
            values,
            shares,
            float(values[place]),
            float(shares[place]),
            decay,
        )

    @property
    def constant(self) -> bool:
        """Whether all held-out rows have the same score, which tells nothing."""
        return len(self.values) == 1

    def standardised(self, scores: Floats) -> Floats:
        """Return (score - mean) / deviation, 0 under a constant score."""
        if self.constant:
            return np.zeros(len(scores))
        return (_finite(scores) - self.mean) / self.deviation

    def gaussian(self, scores: Floats) -> Floats:
        """Return the normal quantiles of the shares of rows that score lower."""
        if self.constant:
            return np.zeros(len(scores))
        finite = _finite(scores)
        inside = ndtri(np.interp(finite, self.values, self.shares))
        excess = np.maximum(self.edge - finite, 0.0) / max(self.decay, 1e-300)
        log_share = np.log(self.edge_share) - np.minimum(excess, LARGEST)
        return np.where(finite < self.edge, ndtri_exp(log_share), inside)

    def log_p_values(self, scores: Floats) -> Floats:
        """Return the logarithm of the share of rows that score lower."""
        return np.asarray(log_ndtr(self.gaussian(scores)))


def _finite(scores: Floats) -> Floats:
    return np.clip(np.asarray(scores, dtype=np.float64), -LARGEST, LARGEST)


def _deviation(scores: Floats) -> float:
    """Return the standard deviation, also of scores whose squares are no numbers."""
    size = float(np.abs(scores).max())
    return size * float((scores / size).std()) if size > 0 else 0.0


def _steps(ordered: Floats) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Return the distinct values, the shares below with half of ties, and counts."""
    low, high = np.quantile(ordered, [0.25, 0.75])
    size = np.abs(ordered)
    least = TIE * np.maximum(high - low, TIE * np.maximum(size[1:], size[:-1]))
    begins = np.concatenate([[True], np.diff(ordered) > least])
    counts = np.bincount(np.cumsum(begins) - 1)
    values = np.add.reduceat(ordered / len(ordered), np.flatnonzero(begins))
    values = values / (counts / len(ordered))
    return values, (np.cumsum(counts) - counts / 2) / len(ordered), counts
