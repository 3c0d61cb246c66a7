"""The rows with the largest products: NumPy on the CPU, torch elsewhere, or faiss."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.neighbors.space import GROUP, Floats, SearchSpace

__all__ = ["FaissSearch", "ProductSearch", "TorchSearch"]

PRODUCT_ELEMENTS = 1 << 25
"""Entries of one block of products, 128 MB in float32: with half of it, all takes 5 %
longer, with room anew for each block 20 %."""

DEVICE_ELEMENTS = 1 << 26
"""The same on an accelerator: 256 MB."""

FAISS_QUERIES = 4096
"""Faiss takes ten times as long for queries in blocks of a hundred."""

Found = tuple[Floats, NDArray[np.intp]]


class ProductSearch:
    """Products with all rows, of which the largest are found group by group.

    The maxima of groups of 16 come first. No more groups than rows are wanted can hold
    one of them, so that only a few groups are looked into.

    Parameters
    ----------
    space : SearchSpace

    Attributes
    ----------
    step : int
        How many queries to give at a time.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._rows = space.rows
        self._n = len(space.lengths)
        self.step = max(1, PRODUCT_ELEMENTS // len(space.rows))

    def room(self, n_queries: int) -> NDArray[np.float32]:
        """Return room for products, to be used for one block after another."""
        shape = min(n_queries, self.step), len(self._rows)
        return np.empty(shape, dtype=np.float32)

    def __call__(self, queries: NDArray[np.float32], count: int, room: Any) -> Found:
        """Return the ``count`` largest products of each query and their rows.

        Parameters
        ----------
        queries : ndarray of float32, shape (m, d + 2)
        count : int
            From 1 to n.
        room : ndarray
            Of :meth:`room`, for as many queries at least.

        Returns
        -------
        products : ndarray of shape (m, count)
            In no order; all other rows have no larger one.
        columns : ndarray of int, shape (m, count)
        """
        products = room[: len(queries)]
        np.matmul(queries, self._rows.T, out=products)
        n_groups = len(self._rows) // GROUP
        if n_groups < 2 * count:
            columns = _largest(products[:, : self._n], count)
            return _taken(products, columns).astype(float), columns
        # Neighbours in memory are in different groups: the maximum is then of rows.
        maxima = products.reshape(len(queries), GROUP, n_groups).max(axis=1)
        groups = _largest(maxima, count)
        members = groups[:, None, :] + n_groups * np.arange(GROUP)[:, None]
        members = members.reshape(len(queries), -1)
        inside = _taken(products, members)
        best = _largest(inside, count)
        return _taken(inside, best).astype(float), _taken(members, best)


class TorchSearch:
    """The same on a torch device, which keeps a copy of the rows.

    Parameters
    ----------
    space : SearchSpace
    device : str
    """

    def __init__(self, space: SearchSpace, device: str) -> None:
        import torch

        self._rows = torch.as_tensor(space.rows[: len(space.lengths)], device=device)
        self.step = max(1, DEVICE_ELEMENTS // len(space.rows))

    def room(self, n_queries: int) -> None:
        """Return nothing: the library makes its own."""

    def __call__(self, queries: NDArray[np.float32], count: int, room: Any) -> Found:
        """Return what :class:`ProductSearch` does."""
        import torch

        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")  # the bound is for float32
        try:
            products = torch.as_tensor(queries, device=self._rows.device) @ self._rows.T
        finally:
            torch.set_float32_matmul_precision(precision)
        found = products.topk(count, dim=1)
        return (
            found.values.cpu().numpy().astype(float),
            found.indices.cpu().numpy().astype(np.intp),
        )


class FaissSearch:
    """The same by faiss's flat index of inner products.

    Parameters
    ----------
    space : SearchSpace
    """

    def __init__(self, space: SearchSpace) -> None:
        import faiss

        self._index = faiss.IndexFlatIP(space.rows.shape[1])
        self._index.add(space.rows[: len(space.lengths)])
        self.step = FAISS_QUERIES

    def room(self, n_queries: int) -> None:
        """Return nothing: the library makes its own."""

    def __call__(self, queries: NDArray[np.float32], count: int, room: Any) -> Found:
        """Return what :class:`ProductSearch` does."""
        products, columns = self._index.search(queries, count)
        return products.astype(float), columns.astype(np.intp)


def _largest(values: NDArray[Any], count: int) -> NDArray[np.intp]:
    """Return the columns of the largest entries of each row, in no order."""
    if count == values.shape[1]:
        return np.tile(np.arange(count), (len(values), 1))
    place = values.shape[1] - count
    return np.argpartition(values, place, axis=1)[:, place:]


def _taken(values: NDArray[Any], columns: NDArray[np.intp]) -> NDArray[Any]:
    """Return the entries of each row in its columns; values are in C order."""
    firsts = values.shape[1] * np.arange(len(values))
    return values.take(columns + firsts[:, None])
