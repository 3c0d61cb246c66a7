"""Counts of values in bins: of each unit over rows, or of each row over units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.numerics.device import array_namespace, like

__all__ = ["BinCounts", "row_counts"]


@dataclass(frozen=True, eq=False)
class BinCounts:
    """Counts of some rows, which add up.

    Parameters
    ----------
    n_rows : int
        How many rows.
    counts : ndarray
        Of any shape.
    """

    n_rows: int
    counts: NDArray[np.float64]

    @classmethod
    def of_units(cls, places: NDArray[np.intp], n_bins: int) -> BinCounts:
        """Return how often each unit is in each bin, counts of shape (d, bins).

        ``places``, of shape (n, d), has the bins.
        """
        n, width = places.shape
        numbers = places + n_bins * np.arange(width)
        counts = np.bincount(numbers.ravel(), minlength=width * n_bins)
        return cls(n, counts.reshape(width, n_bins).astype(np.float64))

    def merge(self, other: BinCounts) -> BinCounts:
        """Return the counts of both sets of rows."""
        return BinCounts(self.n_rows + other.n_rows, self.counts + other.counts)


def row_counts(x: Any, limits: NDArray[np.float64], n_bins: int) -> Any:
    """Return how many values of each row are in equal bins between limits, (n, bins).

    Values beyond the limits are in none.
    """
    low, high = limits
    step = (high - low) / n_bins if high > low else 1.0
    if not isinstance(x, np.ndarray):
        xp = array_namespace(x)
        inside = xp.astype(xp.clip((x - low) / step, 0, n_bins - 1), xp.int64)
        inside = xp.where((x < low) | (x > high), n_bins + 0 * inside, inside)
        none = 0 * x[:, :1] + like(np.zeros((1, n_bins + 1)), x)
        return none.scatter_add(1, inside, 0 * x + 1)[:, :n_bins]
    inside = np.clip((x - low) / step, 0, n_bins - 1).astype(np.intp)
    inside[(x < low) | (x > high)] = n_bins
    numbers = inside + (n_bins + 1) * np.arange(len(x))[:, None]
    counts = np.bincount(numbers.ravel(), minlength=len(x) * (n_bins + 1))
    kept: Any = counts.reshape(len(x), n_bins + 1)[:, :n_bins]
    return kept.astype(np.float64)
