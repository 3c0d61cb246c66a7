"""Scores of rows by detectors that have not seen them, for an honest threshold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.detectors.threshold import ROUNDING, THRESHOLD_ROWS
from skood.numerics.splits import Rows, Split, held_out_splits, nested_splits

__all__ = ["ScoresOf", "few_rows_a_column", "held_out_scores"]

ScoresOf = Callable[[Rows, Rows], NDArray[np.float64]]
"""From the rows to fit on and the rows held out to the scores of these."""

LOW_SHARE = 0.2
"""The scores whose move counts for a threshold among them."""

MANY_COLUMNS = 10
"""With fewer rows a column, a fit on a few rows less is another detector."""


def few_rows_a_column(n_rows: int, n_columns: int) -> bool:
    """Return whether detectors change with a tenth of their rows."""
    return 10 <= n_rows < MANY_COLUMNS * n_columns


def held_out_scores(
    scores_of: ScoresOf, n_rows: int, n_columns: int, classes: NDArray[Any] | None
) -> tuple[Rows, NDArray[np.float64]]:
    """Return rows, and their scores by detectors that were not fitted on them.

    Such a detector has seen fewer rows than the one that is used. Where rows are few
    for the columns, that makes new rows score higher than these: the lower scores move
    as the share fitted on grows from 0.8 to 0.9. They are taken to move as much again
    on the way to 1 where columns outnumber rows, whose span then grows with each row,
    and else half as far, as errors do that fall with the rows beyond the columns.

    Parameters
    ----------
    scores_of : callable
        Fits on some rows and scores others.
    n_rows, n_columns : int
        Of what is fitted.
    classes : ndarray of shape (n_rows,), optional
        Rows are drawn within classes.

    Returns
    -------
    rows : ndarray of int
        Those that were held out, in order: all, or a share of many.
    scores : ndarray of float64
        Theirs.
    """
    if not few_rows_a_column(n_rows, n_columns):
        splits = held_out_splits(n_rows, classes, at_most=THRESHOLD_ROWS)
        return _out_of(splits, scores_of)
    coarse, fine = nested_splits(n_rows, classes, at_most=THRESHOLD_ROWS)
    rows, scores = _out_of(fine, scores_of)
    with np.errstate(invalid="ignore"):
        moved = scores - _out_of(coarse, scores_of)[1]
    low = np.isfinite(moved) & (scores <= np.quantile(scores, LOW_SHARE))
    shift = float(np.median(moved[low])) if low.any() else 0.0
    return rows, scores + (shift if n_rows <= n_columns else shift / 2)


def _out_of(
    splits: list[Split], scores_of: ScoresOf
) -> tuple[Rows, NDArray[np.float64]]:
    scores = np.concatenate([scores_of(kept, held_out) for kept, held_out in splits])
    rows = np.concatenate([held_out for _, held_out in splits])
    order = np.argsort(rows)
    # Equal scores stay equal and inliers, however the fit that is used rounds them.
    return rows[order], scores[order] - ROUNDING * np.abs(scores[order])
