"""Where candidates are searched: centred and scaled rows, in float32, with bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.numerics.rows import unit_rows

__all__ = ["GROUP", "Floats", "Points", "SearchSpace"]

Floats = NDArray[np.float64]

GROUP = 16
"""The rows are filled up to a multiple of this, which the search takes at once."""

BLOCK_ELEMENTS = 1 << 20
"""Numbers that are taken to float64 at a time: 8 MB."""

UNIT_32 = 2.0**-24
UNIT_64 = 2.0**-53

FLOOR = 1e-36
"""What float32 may lose where products are too small for it."""

NOWHERE = -1e37
"""The nearness of what fills up the rows."""


@dataclass(frozen=True, eq=False)
class Points:
    """Rows as they are compared: in float64, of length one if that is wanted.

    A row gives the same point whatever rows are beside it.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Of float32 or float64.
    unit : bool
        Whether rows are scaled to length one; a row of zeros stays.
    """

    rows: NDArray[Any]
    unit: bool

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> Floats:
        # In C order: sums over other strides round otherwise.
        values = np.array(self.rows[key], dtype=np.float64, order="C")
        return unit_rows(values) if self.unit else values

    def blocks(self, rows: int | None = None) -> Iterator[tuple[slice, Floats]]:
        """Yield the points of a block of rows after another, with its slice."""
        step = rows or max(1, BLOCK_ELEMENTS // max(self.rows.shape[1], 1))
        for start in range(0, len(self), step):
            part = slice(start, start + step)
            yield part, self[part]


@dataclass(frozen=True, eq=False)
class SearchSpace:
    r"""Rows prepared so that one product bounds how near they are, from above.

    Coordinates are :math:`(x - c) / 2^e`, with the mean c of the rows and e so that no
    row's entry is above two. The nearness of a row b to a query q is :math:`q \cdot b -
    \lVert b \rVert^2 / 2`, largest for the nearest row. Two more columns add
    :math:`-\lVert b \rVert^2 / 2` and the most by which float32 can be wrong,
    :math:`\epsilon (\lVert q \rVert \lVert b \rVert + \lVert b \rVert^2)`, so that the
    product is at least the true nearness and at most twice that bound above it:
    :math:`\epsilon` is (d + 16) roundings of 2^-24 and 5 % more, for a sum of d + 2
    products in any order (Higham, "Accuracy and stability of numerical algorithms",
    2nd ed., Eq. 3.5), entries and squares that are rounded, and terms of second order
    up to d = 800,000.

    Parameters
    ----------
    centre : ndarray of shape (d,)
        c.
    exponent : int
        e.
    rows : ndarray of float32, shape (n or up to 15 more, d + 2)
        Coordinates and the two columns.
    lengths : ndarray of shape (n,)
        The rows' lengths in these coordinates.
    """

    centre: Floats
    exponent: int
    rows: NDArray[np.float32]
    lengths: Floats

    @classmethod
    def of(cls, points: Points) -> SearchSpace:
        """Return the space of some rows."""
        n, d = points.rows.shape
        largest, total = 0.0, np.zeros(d)
        for _, block in points.blocks():
            largest = max(largest, float(np.abs(block).max(initial=0)))
            total += block.sum(axis=0) / n
        exponent = int(np.clip(np.frexp(largest)[1], -1000, 1000))
        rows = np.zeros((-(-n // GROUP) * GROUP, d + 2), dtype=np.float32)
        rows[n:, d + 1] = NOWHERE
        space = cls(total, exponent, rows, np.empty(n))
        for part, block in points.blocks():
            x = space.coordinates(block)
            length = row_lengths(x)
            rows[part, :d][: len(x)] = x
            rows[part, d][: len(x)] = space.error * length
            rows[part, d + 1][: len(x)] = (space.error - 0.5) * length**2 + FLOOR
            space.lengths[part] = length
        return space

    @property
    def error(self) -> float:
        """The bound epsilon on float32's relative error."""
        return 1.05 * (self.rows.shape[1] + 14) * UNIT_32

    @property
    def radius(self) -> float:
        """The largest length of a row."""
        return float(self.lengths.max())

    def coordinates(self, points: Floats) -> Floats:
        """Return the coordinates of points of shape (m, d), in float64."""
        scale = 2.0**-self.exponent
        return points * scale - self.centre * scale

    def queries(self, coordinates: Floats, lengths: Floats) -> NDArray[np.float32]:
        """Return what the rows are multiplied with, of shape (m, d + 2)."""
        d = coordinates.shape[1]
        queries = np.ones((len(coordinates), d + 2), dtype=np.float32)
        queries[:, :d] = coordinates
        queries[:, d] = lengths
        return queries

    def doubt(self, lengths: Floats, columns: NDArray[np.intp]) -> Floats:
        """Return by how much nearness may be below the product, of shape (m, c)."""
        own = self.lengths[columns]
        return 2 * (self.error * own * (lengths[:, None] + own) + FLOOR)

    def rounding(self, lengths: Floats) -> Floats:
        """Return what float64 may be wrong by in half a squared distance, (m,)."""
        d = self.rows.shape[1]
        return (d + 16) * UNIT_64 * (lengths + self.radius) ** 2


def row_lengths(x: Floats) -> Floats:
    """Return the rows' Euclidean lengths."""
    return np.sqrt(np.einsum("ij,ij->i", x, x))
