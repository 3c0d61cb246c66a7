"""Means and squared deviations of units, merged without cancellation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.numerics.device import to_numpy

__all__ = ["Spread"]


@dataclass(frozen=True, eq=False)
class Spread:
    """Rows, the units' means and their sums of squared deviations.

    Parameters
    ----------
    count : int
        Rows.
    mean, squares : ndarray of shape (d,)
        Of each unit.
    """

    count: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, h: Any) -> Spread:
        """Return the spread of some rows, NumPy or torch in float64."""
        mean = h.mean(0)
        squares = ((h - mean) ** 2).sum(0)
        return cls(len(h), to_numpy(mean), to_numpy(squares))

    def merge(self, other: Spread) -> Spread:
        """Return the spread of both sets of rows (Chan, Golub and LeVeque 1979)."""
        count = self.count + other.count
        shift = other.mean - self.mean
        share = other.count / count
        between = shift**2 * self.count * share
        mean = self.mean + shift * share
        return Spread(count, mean, self.squares + other.squares + between)
