"""Rows in cells, perhaps as codes: what a search needs that looks at few of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.neighbors.space import Floats, Points

__all__ = ["LEAST_CODED", "TRAINED_ON", "CellRows", "Cells"]

TRAINED_ON = 1 << 15
"""Rows, at most, that centroids and codes are learned from."""

CODE_COLUMNS = 4
"""Columns that share a byte of a row's code: a sixteenth of what float32 takes."""

CODE_VALUES = 256

LEAST_CODED = CODE_VALUES
"""Rows below which there is nothing to learn codes from."""

ROWS_A_CENTROID = 39
"""Of the rows that centroids are learned from, so many for each."""

LARGEST = 1e15
"""Coordinates are cut off here, whose squares float32 still holds."""

PASSES = 10
"""Of k-means."""


@dataclass(frozen=True, eq=False)
class CellRows:
    """The cell of each of some rows, and its code; merges in the order of the rows.

    Parameters
    ----------
    numbers : ndarray of int32, shape (n,)
        The cells.
    codes : ndarray of uint8, shape (n, m), or None
        The code of each group of columns; None where rows are kept as they are.
    """

    numbers: NDArray[np.int32]
    codes: NDArray[np.uint8] | None

    @classmethod
    def joined(cls, parts: list[CellRows]) -> CellRows:
        """Return the rows of all parts."""
        codes = [part.codes for part in parts if part.codes is not None]
        numbers = np.concatenate([part.numbers for part in parts])
        return cls(numbers, np.concatenate(codes) if codes else None)


@dataclass(frozen=True, eq=False)
class Cells:
    r"""Centroids, the cell that each row is in, and how codes become rows.

    Coordinates are :math:`(x - c) / 2^e` in float32, with columns of zeros up to a
    whole number of groups where rows have codes.

    Parameters
    ----------
    centre : ndarray of shape (d,)
        c.
    exponent : int
        e.
    centroids : ndarray of float32, shape (cells, columns)
        In coordinates.
    codebooks : ndarray of float32, shape (m, 256, columns / m), or None
        What each code of each group of columns stands for.
    rows : CellRows
        Of the rows that are searched.
    probes : int
        The cells that a search looks into, those of the nearest centroids.
    """

    centre: Floats
    exponent: int
    centroids: NDArray[np.float32]
    codebooks: NDArray[np.float32] | None
    rows: CellRows
    probes: int = 1

    @classmethod
    def learned(cls, sample: Points, n_rows: int, coded: bool) -> Cells:
        """Return the cells of some rows, in which no row is yet.

        Parameters
        ----------
        sample : Points
            At most so many as ``TRAINED_ON``.
        n_rows : int
            Rows that will be searched: there are about four cells for the root of it.
        coded : bool
            Whether rows get codes.
        """
        import faiss

        x, cells = cls._framed(sample, coded)
        wanted = min(round(4 * n_rows**0.5), len(x) // ROWS_A_CENTROID)
        options = {"niter": PASSES, "seed": 0, "min_points_per_centroid": 1}
        kmeans = faiss.Kmeans(x.shape[1], max(1, wanted), **options)
        kmeans.train(x)
        cells = replace(cells, centroids=np.array(kmeans.centroids))
        if not coded:
            return cells
        quantizer = faiss.ProductQuantizer(x.shape[1], x.shape[1] // CODE_COLUMNS, 8)
        quantizer.cp.niter, quantizer.cp.min_points_per_centroid = PASSES, 1
        quantizer.train(x)
        shape = quantizer.M, CODE_VALUES, CODE_COLUMNS
        codebooks = faiss.vector_to_array(quantizer.centroids).reshape(shape)
        return replace(cells, codebooks=codebooks)

    @classmethod
    def _framed(cls, sample: Points, coded: bool) -> tuple[NDArray[np.float32], Cells]:
        """Return the coordinates of some rows, and cells without centroids."""
        n, d = sample.rows.shape
        centre, largest = np.zeros(d), 0.0
        for _, block in sample.blocks():
            largest = max(largest, float(np.abs(block).max(initial=0)))
            centre += block.sum(axis=0) / n
        exponent = int(np.clip(np.frexp(largest)[1], -1000, 1000))
        width = -(-d // CODE_COLUMNS) * CODE_COLUMNS if coded else d
        nothing = CellRows(np.zeros(0, np.int32), None)
        cells = cls(centre, exponent, np.zeros((0, width), np.float32), None, nothing)
        parts = [cells.coordinates(block) for _, block in sample.blocks()]
        return np.concatenate(parts), cells

    def __len__(self) -> int:
        return len(self.rows.numbers)

    def coordinates(self, points: Floats) -> NDArray[np.float32]:
        """Return the coordinates of points of shape (n, d)."""
        scale, d = 2.0**-self.exponent, points.shape[1]
        x = np.zeros((len(points), self.centroids.shape[1]), dtype=np.float32)
        with np.errstate(over="ignore"):
            moved = points * scale - self.centre * scale
        x[:, :d] = np.clip(moved, -LARGEST, LARGEST)
        return x

    def placed(self, points: Points) -> CellRows:
        """Return the cells of rows, and their codes if they have any."""
        import faiss

        nearest = faiss.IndexFlatL2(self.centroids.shape[1])
        nearest.add(self.centroids)
        quantizer = None if self.codebooks is None else self.quantizer()
        parts = []
        for _, block in points.blocks():
            x = self.coordinates(block)
            numbers = nearest.search(x, 1)[1][:, 0].astype(np.int32)
            codes = None if quantizer is None else quantizer.compute_codes(x)
            parts.append(CellRows(numbers, codes))
        return CellRows.joined(parts)

    def quantizer(self) -> Any:
        """Return faiss's product quantizer of the codebooks."""
        import faiss

        assert self.codebooks is not None
        m, _, width = self.codebooks.shape
        quantizer = faiss.ProductQuantizer(m * width, m, 8)
        faiss.copy_array_to_vector(self.codebooks.ravel(), quantizer.centroids)
        return quantizer

    def decoded(self, rows: Any) -> Floats:
        """Return the points that the codes of some rows stand for, in float64."""
        assert self.codebooks is not None
        assert self.rows.codes is not None
        codes = self.rows.codes[rows]
        groups = self.codebooks[np.arange(codes.shape[1]), codes.astype(np.intp)]
        x = groups.reshape(len(codes), -1)[:, : len(self.centre)].astype(np.float64)
        return x * 2.0**self.exponent + self.centre

    def part(self, rows: NDArray[np.intp]) -> Cells:
        """Return the same cells with some of the rows."""
        codes = None if self.rows.codes is None else self.rows.codes[rows]
        return replace(self, rows=CellRows(self.rows.numbers[rows], codes))

    def members(self) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Yield the cells that have rows, each with the rows' numbers."""
        order = np.argsort(self.rows.numbers, kind="stable")
        numbers, starts = np.unique(self.rows.numbers[order], return_index=True)
        yield from zip(numbers.tolist(), np.split(order, starts[1:]), strict=True)
