"""Angles between rows and the mean directions of classes, which break NAP's ties."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.numerics.device import to_numpy
from skood.numerics.rows import unit_rows

__all__ = ["class_angles"]

BLOCK_ELEMENTS = 1 << 20
"""Numbers that are worked on at a time: 8 MB."""

SMALLEST_SQUARE = 1e-9
"""Squared length of a sum of directions below which it points nowhere."""

Floats = NDArray[np.float64]
Classes = NDArray[np.intp]


def class_angles(
    x: Any, sums: Floats, lookup: Classes | None, own: Classes | None = None
) -> Floats:
    """Return (1 - cosine) / 2 of rows and their class's, or the nearest, mean.

    That of a row does not depend on the rows beside it.

    Parameters
    ----------
    x : array of shape (n, d)
        Activations, NumPy or torch.
    sums : ndarray of shape (C, d)
        Over each class of its rows, scaled to length one.
    lookup : ndarray of int, shape (n,), or None
        The class of each, -1 for one that points nowhere; None takes the nearest.
    own : ndarray of int, shape (n,), optional
        The classes of training rows, each of which is then taken off its sum.

    Returns
    -------
    ndarray of shape (n,)
        From 0 to 1; 1/2 where there is no direction.
    """
    rows = to_numpy(x)
    squares = (sums**2).sum(axis=1)
    angles = np.empty(len(rows))
    step = max(1, BLOCK_ELEMENTS // max(*sums.shape, 1))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        # In C order: sums over other strides round otherwise.
        unit = unit_rows(np.array(rows[part], dtype=np.float64, order="C"))
        block = _Block(unit, sums, squares, None if own is None else own[part])
        cosine = block.largest() if lookup is None else block.of(lookup[part])
        angles[part] = (1 - np.clip(cosine, -1, 1)) / 2
    return angles


class _Block:
    """Rows of length one, beside the sums."""

    def __init__(
        self, unit: Floats, sums: Floats, squares: Floats, own: Classes | None
    ) -> None:
        self.unit, self.sums, self.squares, self.own = unit, sums, squares, own

    def of(self, lookup: Classes) -> Floats:
        """Return the cosine of each row and the class given."""
        cosines = self._pairs(np.arange(len(lookup)), np.maximum(lookup, 0))
        return np.where(lookup >= 0, cosines, 0.0)

    def largest(self) -> Floats:
        """Return the largest cosine of each row."""
        rows = np.arange(len(self.unit))
        known = self.squares > SMALLEST_SQUARE
        lengths = np.sqrt(np.where(known, self.squares, 1.0))
        about = self.unit @ (self.sums * (known / lengths)[:, None]).T
        if self.own is not None:
            about[rows, self.own] = self._pairs(rows, self.own)
        # Products round with their batch: what may be the largest is taken by itself.
        doubt = 4 * (self.unit.shape[1] + 16) * np.finfo(np.float64).eps
        asked, classes = np.nonzero(about >= about.max(axis=1, keepdims=True) - doubt)
        cosines = self._pairs(asked, classes)
        return np.maximum.reduceat(cosines, np.searchsorted(asked, rows))

    def _pairs(self, rows: Classes, classes: Classes) -> Floats:
        unit = self.unit[rows]
        products = (unit * self.sums[classes]).sum(axis=1)
        squares = self.squares[classes]
        if self.own is not None:
            mine = self.own[rows] == classes
            length = np.where(mine, (unit * unit).sum(axis=1), 0.0)
            squares = squares + length - 2 * np.where(mine, products, 0.0)
            products = products - length
        known = squares > SMALLEST_SQUARE
        return np.divide(
            products, np.sqrt(squares), out=np.zeros_like(products), where=known
        )
