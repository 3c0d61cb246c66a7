"""Distances from differences of rows, in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skood.neighbors.space import UNIT_64, Floats, Points, SearchSpace, row_lengths

__all__ = ["kth_by_differences", "pair_squares", "squares_within"]

PAIR_ELEMENTS = 1 << 20
"""Numbers that are subtracted at a time: 8 MB."""

PRODUCT_ELEMENTS = 1 << 22
"""Entries of one block of float64 products: 32 MB."""

QUERIES = 512
"""Queries that float64 products are made of at a time."""


def pair_squares(
    queries: Floats,
    points: Points,
    asked: NDArray[np.intp],
    columns: NDArray[np.intp],
    exponent: int,
) -> Floats:
    """Return squared distances of pairs, over 4 to the power of ``exponent``.

    Parameters
    ----------
    queries : ndarray of shape (m, d)
    points : Points
        n of them.
    asked, columns : ndarray of int, shape (p,)
        The pairs: numbers of queries and of points.
    exponent : int
        A power of two changes no digit, and keeps the squares within float64.

    Returns
    -------
    ndarray of shape (p,)
        That of a pair does not depend on the pairs beside it.
    """
    squares = np.empty(len(asked))
    scale = 2.0**-exponent
    step = max(1, PAIR_ELEMENTS // max(queries.shape[1], 1))
    for start in range(0, len(asked), step):
        part = slice(start, start + step)
        difference = queries[asked[part]] * scale
        difference -= points[columns[part]] * scale
        squares[part] = _row_squares(difference)
    return squares


def kth_by_differences(points: Points, queries: Floats, k: int) -> Floats:
    """Return each query's distance to its k-th nearest point, row by row.

    Parameters
    ----------
    points : Points
        n of them.
    queries : ndarray of shape (m, d)
        Of any finite size: each is compared at its own scale.
    k : int
        From 1 to n.

    Returns
    -------
    ndarray of shape (m,)
        Infinite where it is beyond float64.
    """
    distances = np.empty(len(queries))
    for row, query in enumerate(queries):
        exponent = int(np.clip(np.frexp(np.abs(query).max())[1] + 1, -1000, 1023))
        scale = 2.0**-exponent
        squares = np.concatenate(
            [_row_squares(query * scale - b * scale) for _, b in points.blocks()]
        )
        kth = np.sqrt(np.partition(squares, k - 1)[k - 1])
        with np.errstate(over="ignore"):
            distances[row] = np.ldexp(kth, exponent)
    return distances


def squares_within(
    points: Points, space: SearchSpace, queries: Floats, least: Floats, k: int
) -> Floats:
    """Return squared distances to the k-th nearest point, in the space's coordinates.

    Float64 products rule out what cannot be among the k nearest; all else is measured.

    Parameters
    ----------
    points : Points
        n of them.
    space : SearchSpace
        Theirs.
    queries : ndarray of shape (m, d)
    least : ndarray of shape (m,)
        No larger than the nearness of each query's k-th nearest point.
    k : int
        From 1 to n.

    Returns
    -------
    ndarray of shape (m,)
    """
    parts = [
        _squares_within(points, space, queries[top : top + QUERIES], floor, k)
        for top, floor in zip(
            range(0, len(queries), QUERIES),
            np.split(least, range(QUERIES, len(least), QUERIES)),
            strict=True,
        )
    ]
    return np.concatenate(parts)


def _squares_within(
    points: Points, space: SearchSpace, queries: Floats, least: Floats, k: int
) -> Floats:
    m, d = queries.shape
    coordinates = space.coordinates(queries)
    lengths = row_lengths(coordinates)
    rounding = space.rounding(lengths)
    half = 0.5 * lengths**2
    best = np.full((m, k), np.inf)
    unit = (d + 16) * UNIT_64
    for part, block in points.blocks(max(1, PRODUCT_ELEMENTS // max(QUERIES, d))):
        own = space.lengths[part]
        above = coordinates @ space.coordinates(block).T
        above += unit * np.outer(lengths, own) + (unit - 0.5) * own**2
        asked, places = np.nonzero(above >= least[:, None])
        squares = pair_squares(
            queries, points, asked, places + part.start, space.exponent
        )
        best = _smallest(best, asked, squares)
        # What is farther than k rows measured so far is not measured.
        least = np.maximum(least, half - 0.5 * best[:, -1] - 2 * rounding)
    return best[:, -1]


def _smallest(best: Floats, asked: NDArray[np.intp], squares: Floats) -> Floats:
    """Return the k smallest of each row of ``best`` and what is new for it, sorted."""
    m, k = best.shape
    rows = np.concatenate([np.repeat(np.arange(m), k), asked])
    values = np.concatenate([best.ravel(), squares])
    order = np.lexsort((values, rows))
    firsts = np.searchsorted(rows[order], np.arange(m))
    return values[order[firsts[:, None] + np.arange(k)]]


def _row_squares(difference: Floats) -> Floats:
    # No einsum: from 8,193 columns on, its sums depend on the rows beside a row.
    return np.square(difference).sum(axis=1)
