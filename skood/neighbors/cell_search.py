"""Search among rows in cells, by faiss, and how many neighbours it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.neighbors.cells import Cells
from skood.neighbors.differences import pair_squares
from skood.neighbors.space import Floats, Points

__all__ = ["CellSearch", "Known", "with_probes"]

QUERIES = 4096

WANTED = 0.95
"""The recall from which on no more cells are looked into."""

GAIN = 0.005
"""Twice as many cells are looked into only if that adds so much to the recall."""

Numbers = NDArray[np.intp]
PointsAt = Callable[[Numbers], Floats]
"""From numbers of rows to the rows as they are compared."""


class CellSearch:
    """Rows that are searched for the k-th nearest of each query, most of them unseen.

    Faiss names candidates in the cells of the nearest centroids; these are measured in
    float64, by differences from the rows, or from what their codes stand for.

    Parameters
    ----------
    cells : Cells
    unit : bool
        Scale queries to length one first.
    rows : Points or None
        The rows; None where they are kept as codes.
    """

    def __init__(self, cells: Cells, unit: bool, rows: Points | None) -> None:
        self._cells, self._unit = cells, unit
        self._points: Any = _Decoded(cells) if rows is None else rows
        self._index = _index(cells, rows)

    def kth_distances(
        self, queries: NDArray[Any], k: int, device: str = "cpu"
    ) -> Floats:
        """Return the distance of each query to the k-th nearest row that is found.

        Parameters
        ----------
        queries : ndarray of shape (m, d)
            Finite.
        k : int
            From 1 to n.
        device : str, default="cpu"
            Ignored: the search is on the CPU.

        Returns
        -------
        ndarray of shape (m,)
        """
        blocks = Points(queries, self._unit).blocks(QUERIES)
        found = [self._kth(block, k) for _, block in blocks]
        return np.concatenate(found) if found else np.empty(0)

    def _kth(self, points: Floats, k: int) -> Floats:
        rows = self.found(points, min(k + k // 8 + 16, len(self._cells)))
        squares = np.full(rows.shape, np.inf)
        there = np.nonzero(rows >= 0)
        with np.errstate(over="ignore"):
            squares[there] = pair_squares(
                points, self._points, there[0], rows[there], self._cells.exponent
            )
            kth = np.partition(squares, k - 1, axis=1)[:, k - 1]
            return np.sqrt(kth) * 2.0**self._cells.exponent

    def found(self, points: Floats, count: int, probes: int | None = None) -> Numbers:
        """Return the numbers of the rows found for points, -1 where there are fewer.

        Where the cells looked into have not enough rows, all are.

        Parameters
        ----------
        points : ndarray of shape (m, d)
        count : int
            How many are wanted.
        probes : int, optional
            Cells to look into, if not those of the cells.
        """
        x = self._cells.coordinates(points)
        rows = self._searched(x, count, probes or self._cells.probes)
        few = (rows < 0).any(axis=1)
        if few.any():
            rows[few] = self._searched(x[few], count, len(self._cells.centroids))
        return rows

    def _searched(self, x: NDArray[np.float32], count: int, probes: int) -> Numbers:
        import faiss

        options = faiss.SearchParametersIVF()
        options.nprobe = probes
        found: Numbers = self._index.search(x, count, params=options)[1]
        return found


@dataclass(frozen=True, eq=False)
class Known:
    """Rows whose neighbours are known.

    Parameters
    ----------
    points : ndarray of shape (m, d)
        As they are compared.
    rows : ndarray of int, shape (m,)
        Their own numbers: a row is no neighbour of itself.
    squares : ndarray of shape (m,)
        The squared distance to the k-th nearest other row.
    k : int
        As in :meth:`CellSearch.kth_distances`.
    """

    points: Floats
    rows: Numbers
    squares: Floats
    k: int

    def recall(self, search: CellSearch, probes: int, points_at: PointsAt) -> float:
        """Return the share of the k nearest rows that a search finds."""
        found = search.found(self.points, self.k + 1, probes)
        others = found != self.rows[:, None]
        # Who does not find itself is asked for one neighbour too many.
        others[others.all(axis=1), -1] = False
        asked, places = np.nonzero(others & (found >= 0))
        difference = self.points[asked] - points_at(found[asked, places])
        squares = np.square(difference).sum(axis=1)
        # What is known comes of products, which lose digits where rows are near.
        centred = self.points - self.points.mean(axis=0)
        slack = 1e-9 * self.squares + 1e-12 * np.square(centred).sum(axis=1)
        near = squares <= (self.squares + slack)[asked]
        return float(near.sum() / (len(self.rows) * self.k))


def with_probes(
    cells: Cells, search: CellSearch, known: Known, points_at: PointsAt
) -> tuple[Cells, float]:
    """Return cells with the number to look into, and the recall that this gives.

    It is doubled until the recall is 0.95, or grows no more.

    Parameters
    ----------
    cells : Cells
    search : CellSearch
        Among them.
    known : Known
        Rows of the cells.
    points_at : callable
        From numbers of rows to the rows as they are.
    """
    probes, recall = 1, known.recall(search, 1, points_at)
    while recall < WANTED and probes < len(cells.centroids):
        more = min(2 * probes, len(cells.centroids))
        found = known.recall(search, more, points_at)
        if found < recall + GAIN and probes >= 8:
            break
        probes, recall = more, found
    return replace(cells, probes=probes), recall


class _Decoded:
    """Codes, as the points that they stand for."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells

    def __getitem__(self, rows: Numbers) -> Floats:
        return self._cells.decoded(rows)


def _index(cells: Cells, rows: Points | None) -> Any:
    """Return faiss's index of the rows, made of what is known of them."""
    import faiss

    n_cells, width = cells.centroids.shape
    nearest = faiss.IndexFlatL2(width)
    nearest.add(cells.centroids)
    index: Any
    if rows is None:
        assert cells.codebooks is not None
        index = faiss.IndexIVFPQ(nearest, width, n_cells, len(cells.codebooks), 8)
        index.by_residual = False
        faiss.copy_array_to_vector(cells.codebooks.ravel(), index.pq.centroids)
    else:
        index = faiss.IndexIVFFlat(nearest, width, n_cells)
    index.is_trained = True
    for number, members in cells.members():
        numbers = np.ascontiguousarray(members, dtype=np.int64)
        bytes_of = np.ascontiguousarray(_bytes(cells, rows, members))
        pointers = faiss.swig_ptr(numbers), faiss.swig_ptr(bytes_of)
        index.invlists.add_entries(number, len(members), *pointers)
    index.ntotal = len(cells)
    return index


def _bytes(cells: Cells, rows: Points | None, members: Numbers) -> NDArray[np.uint8]:
    """Return what the index keeps of some rows."""
    if rows is None:
        assert cells.rows.codes is not None
        return cells.rows.codes[members]
    return cells.coordinates(rows[members]).view(np.uint8)
