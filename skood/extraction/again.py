"""The first rows a second time, which should have the same features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from skood.features.names import Key

__all__ = ["unlike_before"]

TOLERANCE = 0.05
"""Relative; half precision and dynamic quantisation round by a few thousandths."""


def unlike_before(first: Mapping[Key, Any], blocks: Mapping[Key, Any]) -> str | None:
    """Return what is to be said of rows that have other features the second time.

    Parameters
    ----------
    first : mapping of (layer, statistic) to array of shape (rows, columns)
        Features of the first rows, by a forward of them alone.
    blocks : mapping of (layer, statistic) to array of shape (n, columns)
        Features of all rows.

    Returns
    -------
    str or None
        None where they agree.
    """
    apart = {key: _difference(values, blocks[key]) for key, values in first.items()}
    worst = max(apart, key=lambda key: apart[key], default=None)
    if worst is None or apart[worst] <= TOLERANCE:
        return None
    return (
        f"the first rows have other features the second time ({'/'.join(worst)}: by "
        f"{apart[worst]:.0%} of their size): the network or preprocess draws at random "
        "in evaluation mode (dropout that is always on?), keeps a memory of earlier "
        "inputs, or lets the rows of a batch look at each other. What a row gets then "
        "depends on chance, or on its neighbours."
    )


def _difference(before: Any, block: Any) -> float:
    """Return how far rows are from what they were, relative to their length."""
    now = np.asarray(block[: len(before)], dtype=np.float64)
    then = np.asarray(before, dtype=np.float64)
    finite = np.isfinite(now) & np.isfinite(then)
    if not np.array_equal(now[~finite], then[~finite], equal_nan=True):
        return np.inf
    difference = float(np.linalg.norm(now[finite] - then[finite]))
    return difference / (float(np.linalg.norm(now[finite])) or 1.0)
