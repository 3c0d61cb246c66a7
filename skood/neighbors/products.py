"""The largest inner products with known rows: found in float32, made in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.neighbors.candidates import ProductSearch
from skood.neighbors.space import (
    FLOOR,
    GROUP,
    NOWHERE,
    Floats,
    SearchSpace,
    row_lengths,
)
from skood.numerics.rows import row_dots

__all__ = ["LargestProducts"]

PAIR_ELEMENTS = 1 << 17
"""Numbers of the pairs that are multiplied at a time: 1 MB."""


class LargestProducts:
    """Rows that are searched for the largest inner products with each query.

    Candidates come from float32 products with a bound on their error, as in
    :class:`~skood.neighbors.bank.NeighborBank`; those that may be among the largest are
    multiplied again in float64. Where the bound does not prove that all of these are
    candidates, the query is multiplied with every row.

    Parameters
    ----------
    rows : ndarray of float64, shape (n, d)
        Kept, not copied; what is prepared takes half as much memory.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.neighbors.products import LargestProducts
    >>> search = LargestProducts(np.array([[0.0, 1.0], [3.0, 0.0], [6.0, 8.0]]))
    >>> products, columns = search(np.array([[1.0, 0.0]]), 1)
    >>> products, columns
    (array([[6.]]), array([[2]]))
    """

    def __init__(self, rows: Floats) -> None:
        n, d = rows.shape
        lengths = row_lengths(rows)
        self._rows, self._scale = rows, float(lengths.max()) or 1.0
        filled = np.zeros((-(-n // GROUP) * GROUP, d + 2), dtype=np.float32)
        np.divide(rows, self._scale, out=filled[:n, :d], casting="same_kind")
        filled[:n, d + 1], filled[n:, d + 1] = FLOOR, NOWHERE
        self._space = SearchSpace(np.zeros(d), 0, filled, lengths / self._scale)
        filled[:n, d] = self._space.error * self._space.lengths
        self._search = ProductSearch(self._space)
        self._room = self._search.room(0)

    def __call__(self, queries: Floats, k: int) -> tuple[Floats, NDArray[np.intp]]:
        """Return the k largest products of each query, and their rows, in no order.

        Parameters
        ----------
        queries : ndarray of float64, shape (m, d)
            No longer than about 1.
        k : int
            From 1 to n.

        Returns
        -------
        products : ndarray of shape (m, k)
            Of float64; that of a pair does not depend on the pairs beside it.
        columns : ndarray of int, shape (m, k)
        """
        lengths = row_lengths(queries)
        n, found = len(self._rows), self._space.queries(queries, lengths)
        count = min(n, k + k // 8 + 16)
        if len(self._room) < len(queries):
            self._room = np.empty((len(queries), len(self._space.rows)), np.float32)
        above, columns = self._search(found, count, self._room)
        doubt = self._space.error * lengths[:, None] * self._space.lengths[columns]
        below = above - 2 * (doubt + FLOOR)
        least = np.partition(below, count - k, axis=1)[:, [count - k]]
        asked, places = np.nonzero(above >= least)
        products = np.full(above.shape, -np.inf)
        products[asked, places] = self._products(queries, asked, columns[asked, places])
        products, columns = _largest(products, columns, k)
        unproven = above.min(axis=1) >= least[:, 0]
        if count < n and unproven.any():
            every = queries[unproven] @ self._rows.T
            all_columns = np.broadcast_to(np.arange(n), every.shape)
            products[unproven], columns[unproven] = _largest(every, all_columns, k)
        return products, columns

    def _products(
        self, queries: Floats, asked: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> Floats:
        """Return the products of pairs of a query and a row."""
        products = np.empty(len(asked))
        step = max(1, PAIR_ELEMENTS // max(queries.shape[1], 1))
        for start in range(0, len(asked), step):
            part = slice(start, start + step)
            products[part] = row_dots(queries[asked[part]], self._rows[columns[part]])
        return products


def _largest(
    products: Floats, columns: NDArray[np.intp], k: int
) -> tuple[Floats, NDArray[np.intp]]:
    """Return the k largest entries of each row and what stands in their columns."""
    best: Any = np.argpartition(products, -k, axis=1)[:, -k:]
    return (
        np.take_along_axis(products, best, axis=1),
        np.take_along_axis(columns, best, axis=1),
    )
