"""Limits, smoothing and divergence of histograms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.numerics.device import array_namespace, like

__all__ = ["Range", "divergence", "smoothed"]


@dataclass(frozen=True, eq=False)
class Range:
    """The extremes of some values.

    Parameters
    ----------
    limits : ndarray of shape (sets, 2)
        The smallest and largest value of each set.
    """

    limits: NDArray[np.float64]

    @classmethod
    def of(cls, arrays: Iterable[NDArray[np.float64]]) -> Range:
        """Return the extremes of all values of all arrays, as one set."""
        each = np.array([(array.min(), array.max()) for array in arrays])
        return cls(np.array([[each[:, 0].min(), each[:, 1].max()]]))

    def merge(self, other: Range) -> Range:
        """Return the extremes of both."""
        low = np.minimum(self.limits[:, 0], other.limits[:, 0])
        high = np.maximum(self.limits[:, 1], other.limits[:, 1])
        return Range(np.column_stack([low, high]))


def smoothed(histograms: Any, width: int) -> Any:
    """Return the running means over ``width`` bins, the outermost bins repeated.

    Of an even number of bins, the place is left of the middle.
    """
    if not isinstance(histograms, np.ndarray):
        means = smoothed(np.eye(histograms.shape[1]), width)
        return histograms @ like(means, histograms)
    before = (width - 1) // 2
    padded = np.pad(histograms, ((0, 0), (before, width - 1 - before)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis=1)
    return np.asarray(windows.mean(axis=2))


def divergence(known: NDArray[np.float64], rows: Any, floor: float) -> Any:
    """Return the symmetric Kullback-Leibler divergence of each row, shape (n,).

    ``floor`` is added to every bin, and the bins then made to add up to 1.
    """
    xp = array_namespace(rows)
    p = like((known + floor) / (known + floor).sum(), rows)
    q = (rows + floor) / xp.sum(rows + floor, axis=1)[:, None]
    return xp.sum((p - q) * xp.log(p / q), axis=1)
