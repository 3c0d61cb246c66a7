"""The most active units of each row."""

from __future__ import annotations

from typing import Any

import numpy as np

from skood.numerics.device import array_namespace
from skood.numerics.rows import row_sums

__all__ = ["largest_sum", "n_kept", "positive", "smallest_kept"]


def n_kept(n_units: int, percentile: float) -> int:
    """Return the units above a row's percentile, one at least."""
    return max(1, n_units - round(n_units * percentile / 100))


def positive(h: Any) -> Any:
    """Return the activations with zero for those below it."""
    return array_namespace(h).clip(h, 0, None)


def largest_sum(h: Any, count: int) -> Any:
    """Return the sum of the largest entries of each row in float64, shape (n,)."""
    return row_sums(_upper(h, count))


def smallest_kept(h: Any, count: int) -> Any:
    """Return the least of the largest entries of each row, shape (n,)."""
    return array_namespace(h).min(_upper(h, count), axis=1)


def _upper(h: Any, count: int) -> Any:
    if isinstance(h, np.ndarray):
        return np.partition(h, h.shape[1] - count, axis=1)[:, -count:]
    return h.topk(count, dim=1).values
