"""What a search is asked for by default: how many neighbours, and of what rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.neighbors.space import Points

__all__ = ["check_sizes", "default_neighbors", "is_table"]

MOST_NEIGHBORS = 50
FEWEST_NEIGHBORS = 5

FEW_COLUMNS = 16
"""Fewer than so many columns are no embedding."""

DEAD = 1000.0
"""A column whose spread is so many times less than others' counts for nothing."""

CENTRED = 0.1
"""Means within so many standard deviations of zero were taken off on purpose."""


def default_neighbors(n_rows: int, class_sizes: NDArray[np.intp] | None = None) -> int:
    """Return how many neighbours to ask for.

    A tenth of the rows of a class of median size, at least 5 and at most 50; 5 where
    there are no classes, since kinds of rows may then be of any size. Then no more than
    half of such a class, or half of all rows: the k-th neighbour of an inlier is still
    of its kind.

    Parameters
    ----------
    n_rows : int
        In-distribution rows, at least 2.
    class_sizes : ndarray of int, optional
        Rows of each class.

    Returns
    -------
    int

    Examples
    --------
    >>> from skood.neighbors import default_neighbors
    >>> default_neighbors(50_000), default_neighbors(6)
    (5, 3)
    >>> default_neighbors(5000, [50] * 100), default_neighbors(50_000, [5000] * 10)
    (5, 50)
    """
    if class_sizes is None or len(class_sizes) < 2:
        return max(1, min(FEWEST_NEIGHBORS, n_rows // 2))
    size = int(np.median(class_sizes))
    wanted = min(max(size // 10, FEWEST_NEIGHBORS), MOST_NEIGHBORS)
    return max(1, min(wanted, size // 2))


def is_table(rows: NDArray[Any]) -> bool:
    """Return whether rows look like a table of measurements, not like an embedding.

    The lengths of an embedding's rows tell little of what they mean. Those of a table
    do: scaled to length one, rows that differ in size alone are the same. A table is
    what has one of these signs:

    * fewer than 16 columns that count in a distance: those whose standard deviation is
      at least a thousandth of that of the widest (the 95 % quantile). Where units
      differ, a few columns drown the others; an embedding, too, has units that are
      dead or next to it, often more than half, but many that are not;
    * a column of whole numbers only that is not constant: flags, codes or counts;
    * centred columns: half of those that count have a mean within a tenth of the
      standard deviation of zero, as after ``StandardScaler``. Directions from zero mean
      nothing then.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        In-distribution rows.

    Returns
    -------
    bool

    Examples
    --------
    >>> import numpy as np
    >>> from skood.neighbors import is_table
    >>> rng = np.random.default_rng(0)
    >>> embedding = np.maximum(rng.normal(size=(500, 64)), 0)
    >>> is_table(embedding), is_table(embedding - embedding.mean(axis=0))
    (False, True)
    """
    if rows.shape[1] < FEW_COLUMNS:
        return True
    # In units of the largest entry, so that no square is too large or too small.
    largest = max(
        float(np.abs(block).max()) for _, block in Points(rows, False).blocks()
    )
    if largest == 0:
        return True
    n, d = rows.shape
    whole = np.ones(d, dtype=bool)
    mean, square = np.zeros(d), np.zeros(d)
    for _, block in Points(rows, False).blocks():
        whole &= (block == np.rint(block)).all(axis=0)
        mean += (block / largest).sum(axis=0) / n
    for _, block in Points(rows, False).blocks():
        square += ((block / largest - mean) ** 2).sum(axis=0) / n
    spread = np.sqrt(square)
    varies = spread > 1e-12 * np.abs(mean)  # rounding makes constants vary
    if not varies.any() or whole[varies].any():
        return True
    counts = varies & (DEAD * spread >= np.quantile(spread[varies], 0.95))
    if np.count_nonzero(counts) < FEW_COLUMNS:
        return True
    return bool(np.median(np.abs(mean[counts]) / spread[counts]) <= CENTRED)


def check_sizes(rows: NDArray[Any], name: str) -> None:
    """Raise ValueError where distances between rows are beyond float64.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Of float32 or float64.
    name : str
        What they are, for the message.
    """
    limit = np.finfo(np.float64).max / (4 * np.sqrt(rows.shape[1]))
    for _, block in Points(rows, False).blocks():
        largest = np.abs(block).max(axis=0)
        column = int(largest.argmax())
        if largest[column] > limit:
            raise ValueError(
                f"{name} has an entry of size {largest[column]:.3g} in column "
                f"{column}: distances between rows of entries above {limit:.3g} are "
                "beyond float64. Divide the column, or use normalize=True."
            )
