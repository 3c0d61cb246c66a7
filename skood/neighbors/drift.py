"""What a bank of some rows says beside a bank of all: how far its scores drift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from skood.features import LayerFeatures
from skood.neighbors.space import Floats, Points

__all__ = ["DRIFT_ROWS", "Nearest", "drift"]

DRIFT_ROWS = 256
"""So many rows, drawn with a seed, are compared with all others."""


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


def drift(kept: NDArray[np.float64], whole: NDArray[np.float64]) -> dict[str, float]:
    """Return how scores by the rows that are kept differ from those by all rows.

    Parameters
    ----------
    kept, whole : ndarray of shape (m,)
        The scores of the same rows.

    Returns
    -------
    dict of str to float
        ``"rank_correlation"`` (Spearman's): 1 where all rows stand in the same order.
        ``"shift"``: the mean difference, in standard deviations of ``whole``.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.neighbors.drift import drift
    >>> found = drift(np.array([0.0, 1, 2]), np.array([1.0, 2, 3]))
    >>> round(found["rank_correlation"], 6), round(found["shift"], 3)
    (1.0, -1.225)
    """
    spread = float(whole.std())
    shift = float((kept - whole).mean())
    if spread == 0 or kept.std() == 0:
        return {"rank_correlation": np.nan, "shift": 0.0 if shift == 0 else np.nan}
    rank_correlation = float(spearmanr(kept, whole).statistic)
    return {"rank_correlation": rank_correlation, "shift": shift / spread}
