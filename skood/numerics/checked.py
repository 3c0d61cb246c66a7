"""Scores, p-values and rates as callers give them, checked."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import column_or_1d

from skood.numerics.arrays import as_array

__all__ = [
    "checked_numbers",
    "checked_p_values",
    "checked_rate",
    "checked_scores",
    "refuse_nan",
]

Floats = NDArray[np.float64]


def checked_numbers(values: ArrayLike, name: str) -> Floats:
    """Return one number a row, in float64.

    Raises
    ------
    ValueError
        If it is not of one dimension (or one column).
    """
    numbers: Floats = column_or_1d(as_array(values, name, np.float64))
    return numbers


def checked_scores(values: ArrayLike, name: str) -> Floats:
    """Return one score a row, in float64.

    Raises
    ------
    ValueError
        If some are NaN.
    """
    scores = checked_numbers(values, name)
    refuse_nan(scores, f"{name} has")
    return scores


def refuse_nan(
    scores: NDArray[Any],
    whose: str,
    *,
    what: str = "",
    mend: str = "Look at the rows that the detector could not score.",
) -> None:
    """Raise ValueError if some scores are NaN.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)
        One number a row.
    whose : str
        How the message begins: ``"y_score has"``, ``"ECOD gave"``.
    what : str, optional
        What is counted: ``"scores"``.
    mend : str, optional
        How the message ends.

    Raises
    ------
    ValueError
        With the number of NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.numerics.checked import refuse_nan
    >>> refuse_nan(np.array([1.0, np.nan]), "ECOD gave", what="scores", mend="Why?")
    Traceback (most recent call last):
    ...
    ValueError: ECOD gave 1 NaN of 2 scores; a NaN cannot be compared. Why?
    """
    n_nan = int(np.isnan(scores).sum())
    if n_nan:
        counted = f"{n_nan} NaN of {len(scores)} {what}".rstrip()
        raise ValueError(f"{whose} {counted}; a NaN cannot be compared. {mend}")


def checked_p_values(values: ArrayLike, name: str = "p_values") -> Floats:
    """Return one p-value a row, in float64.

    Raises
    ------
    ValueError
        If one is not in [0, 1].
    """
    p = checked_numbers(values, name)
    wrong = np.flatnonzero(~((p >= 0) & (p <= 1)))
    if len(wrong):
        raise ValueError(
            f"{name} has {p[wrong[0]]} at row {wrong[0]}: a p-value lies in [0, 1]."
        )
    return p


def checked_rate(value: Any, name: str) -> float:
    """Return a share above 0 and below 1.

    Raises
    ------
    ValueError
        If it is not.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not 0 < float(value) < 1:
        raise ValueError(f"{name}={value!r}: give a share in (0, 1), as 0.1 for 10 %.")
    return float(value)
