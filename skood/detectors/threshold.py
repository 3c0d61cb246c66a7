"""The threshold that a false-alarm rate asks for, and what it cannot promise."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from skood.numerics.ranks import rank_for_rate, rows_for_rate

__all__ = [
    "ROUNDING",
    "THRESHOLD_ROWS",
    "NotFiniteError",
    "threshold_for",
    "threshold_rows",
]

ROUNDING = 1e-12
"""Scores that differ by less than this part are equal: another fit may round so."""

THRESHOLD_ROWS = 10_000
"""At most so many rows set the threshold: its rate is then known to 0.25 points."""


class NotFiniteError(ValueError):
    """Scores of in-distribution rows are no finite numbers."""


def threshold_rows(n_rows: int) -> NDArray[np.intp]:
    """Return the rows that set the threshold: all, or a seeded sample of 10,000."""
    if n_rows <= THRESHOLD_ROWS:
        return np.arange(n_rows)
    rng = np.random.default_rng(0)
    return np.sort(rng.choice(n_rows, THRESHOLD_ROWS, replace=False))


def threshold_for(scores: NDArray[np.float64], rate: float) -> float:
    r"""Return the score below which a share of new rows lies, at most.

    It is the k-th smallest of the n scores with
    :math:`k = \lfloor rate \, (n + 1) \rfloor`: a new row that is exchangeable with
    them lies below it with probability :math:`k / (n + 1)`.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Of rows as if they were new; none of them NaN.
    rate : float
        The share, in (0, 1).

    Returns
    -------
    float

    Warns
    -----
    UserWarning
        If n rows cannot give the rate (the lowest score is returned, and the rate is
        1 / (n + 1)), or scores that tie at the threshold make it much lower.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.detectors.threshold import threshold_for
    >>> threshold_for(np.arange(199.0), 0.05)
    9.0
    """
    n = len(scores)
    rank = rank_for_rate(n, rate)
    if rank == 0:
        warnings.warn(
            f"contamination={rate} takes {rows_for_rate(rate)} in-distribution rows to "
            f"set the threshold, and there are {n}: the threshold is the lowest of "
            f"their scores, below which {1 / (n + 1):.1%} of new rows lie. Give more "
            "rows, or raise contamination.",
            UserWarning,
            stacklevel=2,
        )
        return float(scores.min())
    offset = float(np.partition(scores, rank - 1)[rank - 1])
    _warn_of_ties(scores, offset, rank, rate)
    return offset


def _warn_of_ties(
    scores: NDArray[np.float64], offset: float, rank: int, rate: float
) -> None:
    """Warn if equal scores at the threshold, all inliers, leave few below it."""
    near = ROUNDING * abs(offset)
    below = int((scores < offset - near).sum())
    tied = int((scores <= offset + near).sum()) - below
    if tied < 3 or below >= 0.8 * rank:  # two may be equal by accident
        return
    n = len(scores)
    warnings.warn(
        f"contamination={rate}: {tied} of the {n} scores that set the threshold tie "
        f"at it, and ties are inliers, so that {below / n:.1%} of new rows will be "
        f"rejected (the next possible rate is {(below + tied) / n:.1%}). A finer score "
        "breaks the ties; a constant score tells nothing.",
        UserWarning,
        stacklevel=3,
    )
