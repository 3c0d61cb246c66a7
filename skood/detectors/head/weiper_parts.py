"""Limits, smoothing and divergence of histograms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


def smoothed(histograms: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Return the running means over ``width`` bins, the outermost bins repeated.

    Of an even number of bins, the place is left of the middle.
    """
    before = (width - 1) // 2
    padded = np.pad(histograms, ((0, 0), (before, width - 1 - before)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis=1)
    return np.asarray(windows.mean(axis=2))


def divergence(
    known: NDArray[np.float64], rows: NDArray[np.float64], floor: float
) -> NDArray[np.float64]:
    """Return the symmetric Kullback-Leibler divergence of each row, shape (n,).

    ``floor`` is added to every bin, and the bins then made to add up to 1.
    """
    p = (known + floor) / (known + floor).sum()
    q = (rows + floor) / (rows + floor).sum(axis=1, keepdims=True)
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=1))
