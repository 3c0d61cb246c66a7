"""Counts of values in bins: of each unit over rows, or of each row over units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.numerics.device import array_namespace, like
from skood.numerics.graph import places
from skood.numerics.rows import cache_blocks

__all__ = ["BinCounts", "places_among", "row_counts"]

MOST_CELLS = 1 << 14
"""Beyond which their table would not stay in the cache."""


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

    def merge(self, other: BinCounts) -> BinCounts:
        """Return the counts of both sets of rows."""
        return BinCounts(self.n_rows + other.n_rows, self.counts + other.counts)


def row_counts(x: Any, limits: NDArray[np.float64], n_bins: int) -> Any:
    """Return how many values of each row are in equal bins between limits, (n, bins).

    Values beyond the limits are in none.
    """
    found = [_row_counts(block, limits, n_bins) for block in cache_blocks(x)]
    return array_namespace(x).concat(found)


def _row_counts(x: Any, limits: NDArray[np.float64], n_bins: int) -> Any:
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
    return counts.reshape(len(x), n_bins + 1)[:, :n_bins].astype(np.float64)


def places_among(x: Any, cuts: NDArray[np.float64]) -> Any:
    """Return how many cuts each entry has reached, as ``searchsorted`` from the right.

    On the CPU the entries are first put into equal cells, so narrow that no two cuts
    share one: a single comparison is left to do, which is several times faster.
    """
    if not isinstance(x, np.ndarray):
        return places(cuts, x)
    width = np.diff(cuts).min(initial=1.0) / 2
    n_cells = int((cuts[-1] - cuts[0]) / width) + 2
    if n_cells > MOST_CELLS:
        return np.searchsorted(cuts, x, side="right")
    # Rounding moves no entry past another: cuts in cells below are reached.
    cells = np.arange(n_cells)
    below = np.searchsorted(_cells(cuts, cuts[0], width, n_cells), cells)
    found = below.take(_cells(x, cuts[0], width, n_cells))
    found += x >= np.append(cuts, np.nan).take(found)  # which nothing reaches
    return found


def _cells(x: Any, low: float, width: float, n_cells: int) -> NDArray[np.intp]:
    """Return the cell of each entry, the outermost for what is beyond them."""
    cells = x - low
    cells /= width
    return np.clip(cells, 0, n_cells - 1, out=cells).astype(np.intp)
