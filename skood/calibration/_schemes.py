"""Which rows each conformal method holds out."""

from __future__ import annotations

from math import ceil
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import LeaveOneOut

from skood.calibration._held_out import Labelled, Split, splits_of
from skood.numerics.ranks import rows_for_rate
from skood.numerics.seeds import RandomStateLike
from skood.numerics.splits import HELD_OUT_SHARE

FOLDS = 5

LARGEST_SHARE = 0.5
"""More than that is not held out unasked: what is left has to fit the detector."""


def conformal_splits(
    method: str,
    cv: Any,
    data: Labelled,
    *,
    stratified: bool,
    random_state: RandomStateLike,
) -> list[Split]:
    """Return the (fitted, held out) rows of a conformal method.

    Raises
    ------
    ValueError
        If `cv` does not suit the method.
    """
    _check_kind(method, cv)
    if method == "jackknife+":
        return [
            (data.inliers[train], data.inliers[test])
            for train, test in LeaveOneOut().split(data.inliers)
        ]
    default = HELD_OUT_SHARE if method == "split" else FOLDS
    splits = splits_of(
        default if cv is None else cv,
        data,
        stratified=stratified,
        random_state=random_state,
    )
    _check_splits(method, cv, splits)
    return splits


def default_share(alpha: float, sizes: NDArray[np.intp]) -> float:
    """Return the share to hold out of classes of these sizes.

    A fifth, or as much more as `alpha` needs in the smallest class, up to a half.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.calibration._schemes import default_share
    >>> [default_share(0.05, np.array([n])) for n in (200, 50, 38, 20)]
    [0.2, 0.38, 0.5, 0.5]
    """
    needed = rows_for_rate(alpha) / max(int(sizes.min()), 1)
    return float(np.clip(needed, HELD_OUT_SHARE, LARGEST_SHARE))


def too_few(
    alpha: float,
    sizes: NDArray[np.intp],
    names: NDArray[Any] | None,
    scheme: str,
) -> str | None:
    """Return what is wrong where some class has so few rows that nothing is flagged.

    Parameters
    ----------
    alpha : float
        The level.
    sizes : ndarray of shape (classes,)
        The number of held-out rows of each class.
    names : ndarray of shape (classes,), optional
        The classes' labels; None when there are no classes.
    scheme : str
        What held them out.

    Returns
    -------
    str or None
        None where there are enough.
    """
    worst = int(sizes.argmin())
    n, needed = int(sizes[worst]), rows_for_rate(alpha)
    if n >= needed:
        return None
    what = "rows" if names is None else f"rows of class {names.tolist()[worst]!r}"
    return (
        f"alpha={alpha} takes {needed} held-out in-distribution {what}; {scheme} holds "
        f"out n_samples={n}, and with so few nothing can ever be flagged. Give "
        f"{ceil(needed / max(n, 1))} times as many rows, hold out more (method='cross' "
        "holds out each row once), or raise alpha."
    )


def _check_kind(method: str, cv: Any) -> None:
    whole, number = isinstance(cv, Integral), isinstance(cv, Real)
    if method == "jackknife+" and cv is not None:
        raise ValueError(
            f"cv={cv!r}: method='jackknife+' holds out one row at a time and takes no "
            "cv. For folds use method='cross'."
        )
    if method == "split" and whole:
        raise ValueError(
            f"cv={cv!r}: method='split' holds out one set of rows. Give a share in (0, "
            "1), one split or 'prefit'; for folds use method='cross'."
        )
    if method == "cross" and (
        cv == "prefit" if isinstance(cv, str) else number > whole
    ):
        raise ValueError(
            f"cv={cv!r}: method='cross' fits a detector a fold. Give a number of folds "
            "or a splitter; for one held-out set use method='split'."
        )


def _check_splits(method: str, cv: Any, splits: list[Split]) -> None:
    if method == "split":
        if len(splits) != 1:
            raise ValueError(
                f"cv={cv!r} gives {len(splits)} splits, but method='split' holds out "
                "one set of rows. For folds use method='cross'."
            )
        return
    held_out = np.concatenate([test for _, test in splits])
    if len(splits) < 2 or len(np.unique(held_out)) < len(held_out):
        raise ValueError(
            f"cv={cv!r} gives {len(splits)} splits with {len(held_out)} held-out rows, "
            f"{len(np.unique(held_out))} of them different; method='cross' takes at "
            "least two folds, with every row held out once at most."
        )
