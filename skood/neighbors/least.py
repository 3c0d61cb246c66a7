"""The least distances of some rows to many others, chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from skood.features import LayerFeatures
from skood.features.chunks import merged_statistics
from skood.neighbors.space import Floats, Points

__all__ = ["Nearest", "least_squares"]


@dataclass(frozen=True, eq=False)
class Nearest:
    """The least squared distances of some queries to rows; merges by the least.

    Parameters
    ----------
    squares : ndarray of shape (queries, k)
        In ascending order; infinite where there were fewer rows.
    """

    squares: Floats

    @classmethod
    def of(
        cls,
        chunk: LayerFeatures,
        *,
        queries: Floats,
        centre: Floats,
        unit: bool,
        k: int,
    ) -> Nearest:
        """Return those to the rows of a chunk of one block, by products.

        Parameters
        ----------
        chunk : LayerFeatures
            The rows.
        queries : ndarray of shape (m, d)
            Points, less the centre.
        centre : ndarray of shape (d,)
            Near all of them, so that little is lost in the difference of products.
        unit : bool
            Whether rows are scaled to length one.
        k : int
            How many are wanted.
        """
        found = cls(np.full((len(queries), k), np.inf))
        lengths = (queries**2).sum(axis=1)[:, None]
        for _, block in Points(np.asarray(chunk), unit).blocks():
            rows = block - centre
            squares = lengths - 2 * (queries @ rows.T) + (rows**2).sum(axis=1)
            found = found.merge(cls(np.maximum(squares, 0)))
        return found

    def merge(self, other: Nearest) -> Nearest:
        """Return the least of both sets of rows."""
        both = np.concatenate([self.squares, other.squares], axis=1)
        return Nearest(np.sort(both, axis=1)[:, : self.squares.shape[1]])


def least_squares(
    queries: Floats, features: LayerFeatures, unit: bool, k: int
) -> Floats:
    """Return the k least squared distances of some points to rows of one block.

    Parameters
    ----------
    queries : ndarray of shape (m, d)
        Points, near to which the rows are.
    features : LayerFeatures
        The rows.
    unit : bool
        Whether rows are scaled to length one.
    k : int
        How many are wanted.

    Returns
    -------
    ndarray of shape (m, k)
        In ascending order; infinite where there are fewer rows.
    """
    centre = queries.mean(axis=0)
    nearest = partial(
        Nearest.of, queries=queries - centre, centre=centre, unit=unit, k=k
    )
    return merged_statistics(nearest, features).squares
