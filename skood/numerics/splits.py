"""Rows held out of a fit: a share, or folds."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skood.numerics.seeds import RandomStateLike, stream_seed

__all__ = ["Rows", "Split", "folds", "held_out_splits", "nested_splits", "share"]

Rows = NDArray[np.intp]
Split = tuple[Rows, Rows]
"""Rows to fit on, and rows held out."""

HELD_OUT_SHARE = 0.2
"""The share that is held out where one is enough."""

MANY_ROWS = 5_000
"""From so many rows on, one share sets a threshold to a third of a point."""

FEW_ROWS = 2_000
"""Up to so many rows a fit without a fifth of them may be another detector."""


def held_out_splits(
    n_rows: int, classes: ArrayLike | None = None, *, at_most: int | None = None
) -> list[Split]:
    """Return (fitted, held out) rows from which a threshold for new rows comes.

    From 5,000 rows on a fifth is held out once; below, every row is held out once, in
    5 folds, and up to 2,000 rows in 10, so that each fit is close to that of all rows.

    Parameters
    ----------
    n_rows : int
        At least 2.
    classes : array-like of shape (n_rows,), optional
        Rows are drawn within classes.
    at_most : int, optional
        Hold out no more than so many rows of many.

    Returns
    -------
    list of (ndarray of int, ndarray of int)
        Seeded: the same at every call.

    Raises
    ------
    ValueError
        If there is one row only.

    Examples
    --------
    >>> from skood.numerics.splits import held_out_splits
    >>> [len(held_out_splits(n)) for n in (7, 2000, 4999, 5000)]
    [7, 10, 5, 1]
    """
    if n_rows < 2:
        raise ValueError(
            f"n_samples={n_rows}: a threshold for new rows takes rows that are held "
            "out of a fit, and so at least 2 in-distribution rows."
        )
    if n_rows >= MANY_ROWS:
        held_out = [_one_share(n_rows, classes, HELD_OUT_SHARE, at_most)]
    else:
        count = 10 if n_rows <= FEW_ROWS else 5
        held_out = folds(n_rows, min(count, n_rows), classes)
    return _with_the_others(n_rows, held_out)


def nested_splits(
    n_rows: int, classes: ArrayLike | None = None, *, at_most: int | None = None
) -> tuple[list[Split], list[Split]]:
    """Return splits that fit on 0.8 of the rows, and splits that fit on 0.9.

    Both hold out the same rows: each once in 5 and in 10 folds, or from 5,000 rows on
    a tenth, which the coarse split has beside another tenth.

    Parameters
    ----------
    n_rows : int
        At least 10.
    classes : array-like of shape (n_rows,), optional
        Rows are drawn within classes.
    at_most : int, optional
        Hold out no more than so many rows of many.

    Returns
    -------
    coarse, fine : list of (ndarray of int, ndarray of int)
        (fitted, held out) rows; seeded.

    Examples
    --------
    >>> from skood.numerics.splits import nested_splits
    >>> coarse, fine = nested_splits(100)
    >>> len(coarse), len(coarse[0][0]), len(fine), len(fine[0][0])
    (5, 80, 10, 90)
    """
    if n_rows < MANY_ROWS:
        halves = folds(n_rows, 10, classes)
        pairs = zip(halves[::2], halves[1::2], strict=True)
        wholes = [np.sort(np.concatenate(pair)) for pair in pairs]
        return _with_the_others(n_rows, wholes), _with_the_others(n_rows, halves)
    whole = _one_share(n_rows, classes, HELD_OUT_SHARE, at_most)
    half = whole[::2]
    ((fewer, _),) = _with_the_others(n_rows, [whole])
    return [(fewer, half)], _with_the_others(n_rows, [half])


def _one_share(
    n_rows: int, classes: ArrayLike | None, size: float, at_most: int | None
) -> Rows:
    wanted = size if at_most is None else at_most / n_rows
    return share(n_rows, min(size, wanted), classes)


def _with_the_others(n_rows: int, held_out: list[Rows]) -> list[Split]:
    everything = np.arange(n_rows)
    return [(np.setdiff1d(everything, rows), rows) for rows in held_out]


def folds(
    n_rows: int,
    n_folds: int,
    classes: ArrayLike | None = None,
    random_state: RandomStateLike = 0,
) -> list[Rows]:
    """Return the rows of each fold, drawn at random, within classes if given.

    Parameters
    ----------
    n_rows : int
        Rows in all.
    n_folds : int
        From 2 to `n_rows`.
    classes : array-like of shape (n_rows,), optional
        Each class is spread over the folds as evenly as it goes; none is too small.
    random_state : int, RandomState instance or None, default=0
        Seeds the draw.

    Returns
    -------
    list of ndarray of int
        In ascending order; together, all rows.

    Raises
    ------
    ValueError
        If there are fewer rows than folds.

    Examples
    --------
    >>> from skood.numerics.splits import folds
    >>> [len(rows) for rows in folds(7, 3)]
    [3, 2, 2]
    """
    if not 2 <= n_folds <= n_rows:
        raise ValueError(
            f"{n_folds} folds of n_samples={n_rows} in-distribution rows: a fold takes "
            "a row, and there are two folds at least."
        )
    order = _drawn(n_rows, classes, random_state)
    return [np.sort(order[first::n_folds]) for first in range(n_folds)]


def share(
    n_rows: int,
    size: float,
    classes: ArrayLike | None = None,
    random_state: RandomStateLike = 0,
) -> Rows:
    """Return a share of the rows, drawn at random, within classes if given.

    Parameters
    ----------
    n_rows : int
        Rows in all.
    size : float
        In (0, 1). At least one row is drawn, and one is left.
    classes : array-like of shape (n_rows,), optional
        Each class gives its share, to a row, and keeps one row at least.
    random_state : int, RandomState instance or None, default=0
        Seeds the draw.

    Returns
    -------
    ndarray of int
        In ascending order.

    Examples
    --------
    >>> from skood.numerics.splits import share
    >>> len(share(50, 0.2))
    10
    """
    order = _drawn(n_rows, classes, random_state)
    if classes is None:
        return np.sort(order[: int(np.clip(round(size * n_rows), 1, n_rows - 1))])
    _, sizes = np.unique(np.asarray(classes), return_counts=True)
    taken = np.minimum(np.rint(size * sizes).astype(np.intp), sizes - 1)
    if not taken.any():
        taken[sizes.argmax()] = 1
    groups = np.split(order, np.cumsum(sizes)[:-1])
    drawn = [rows[:count] for rows, count in zip(groups, taken, strict=True)]
    return np.sort(np.concatenate(drawn))


def _drawn(
    n_rows: int, classes: ArrayLike | None, random_state: RandomStateLike
) -> Rows:
    """Return the rows in random order, one class after the other if given."""
    order = np.random.default_rng(stream_seed(random_state)).permutation(n_rows)
    if classes is None:
        return order
    _, numbers = np.unique(np.asarray(classes), return_inverse=True)
    return order[np.argsort(numbers[order], kind="stable")]
