"""Known rows, and the distance of others to their k-th nearest."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.neighbors.candidates import FaissSearch, ProductSearch, TorchSearch
from skood.neighbors.differences import kth_by_differences, pair_squares, squares_within
from skood.neighbors.space import Floats, Points, SearchSpace, row_lengths

__all__ = ["NeighborBank"]

FAR = 2.0**30
"""Radii of the bank from its centre beyond which a query is compared row by row."""


class NeighborBank:
    """Rows that are searched for the k-th nearest of each query.

    The search is exact: candidates come from float32 products of centred rows, with a
    bound on their error. Those that may be the k-th are measured by differences in
    float64; where the bound does not prove that the k-th is among the candidates, the
    query is searched again with float64 products, and all rows that may be nearer are
    measured. So a query's answer depends neither on the queries beside it nor on the
    library that multiplies.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        float32 or float64; kept, not copied. The prepared rows take as much memory as
        float32 rows do.
    unit : bool, default=False
        Scale rows and queries to length one first.
    backend : {"exact", "faiss"}, default="exact"
        What finds the candidates.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.neighbors import NeighborBank
    >>> bank = NeighborBank(np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]))
    >>> bank.kth_distances(np.array([[0.0, 0.0]]), 2)
    array([5.])
    """

    def __init__(
        self, rows: NDArray[Any], *, unit: bool = False, backend: str = "exact"
    ) -> None:
        self._points = Points(rows, unit)
        self._space = SearchSpace.of(self._points)
        self._backend = backend
        self._searches: dict[str, Any] = {}

    def kth_distances(
        self, queries: NDArray[Any], k: int, device: str = "cpu"
    ) -> Floats:
        """Return the Euclidean distance of each query to its k-th nearest row.

        Parameters
        ----------
        queries : ndarray of shape (m, d)
            Finite.
        k : int
            From 1 to n.
        device : str, default="cpu"
            Where products are made.

        Returns
        -------
        ndarray of shape (m,)
            Of float64 differences; infinite where float64 has no such number.
        """
        search = self._search(device)
        blocks = Points(queries, self._points.unit).blocks(search.step)
        find = partial(search, room=search.room(len(queries)))
        found = [self._kth(block, k, find) for _, block in blocks]
        return np.concatenate(found) if found else np.empty(0)

    def _kth(self, points: Floats, k: int, find: Any) -> Floats:
        distances = np.empty(len(points))
        with np.errstate(over="ignore"):
            coordinates = self._space.coordinates(points)
            lengths = row_lengths(coordinates)
        far = ~(lengths <= FAR * max(self._space.radius, 1.0))
        if far.any():
            distances[far] = kth_by_differences(self._points, points[far], k)
            points, coordinates, lengths = (
                values[~far] for values in (points, coordinates, lengths)
            )
        if len(points):
            squares = self._kth_squares(points, coordinates, lengths, k, find)
            scale = 2.0**self._space.exponent
            distances[~far] = np.sqrt(squares) * scale
        return distances

    def _kth_squares(
        self, points: Floats, coordinates: Floats, lengths: Floats, k: int, find: Any
    ) -> Floats:
        n = len(self._points)
        count = min(n, k + k // 8 + 16)
        queries = self._space.queries(coordinates, lengths)
        above, columns = find(queries, count)
        below = above - self._space.doubt(lengths, columns)
        # Twice: once for the row measured, once for that it is compared with.
        slack = 2 * self._space.rounding(lengths)[:, None]
        least = np.partition(below, count - k, axis=1)[:, [count - k]] - slack
        most = np.partition(above, count - k, axis=1)[:, [count - k]] + slack
        nearer = below > most
        asked, places = np.nonzero((above >= least) & ~nearer)
        squares = np.full(above.shape, np.inf)
        squares[asked, places] = pair_squares(
            points, self._points, asked, columns[asked, places], self._space.exponent
        )
        ranks = k - 1 - nearer.sum(axis=1)
        squares.sort(axis=1)
        found = np.take_along_axis(squares, ranks[:, None], axis=1)[:, 0]
        proven = above.min(axis=1) < least[:, 0] if count < n else ranks >= 0
        if not proven.all():
            again = ~proven
            found[again] = squares_within(
                self._points, self._space, points[again], least[again, 0], k
            )
        return found

    def _search(self, device: str) -> Any:
        """Return what finds candidates there, made when it is first asked for."""
        where = "faiss" if self._backend == "faiss" else device
        if where not in self._searches:
            if where == "faiss":
                self._searches[where] = FaissSearch(self._space)
            elif where == "cpu":
                self._searches[where] = ProductSearch(self._space)
            else:
                self._searches[where] = TorchSearch(self._space, where)
        return self._searches[where]
