"""What the formulas of this room do with each row."""

from __future__ import annotations

from typing import Any

import numpy as np

from skood.numerics.device import array_namespace

__all__ = ["best_logit", "cosines", "lengths", "nonzero", "row_dots", "softmax"]


def lengths(x: Any) -> Any:
    """Return the Euclidean length of each row, shape (n,)."""
    return array_namespace(x).linalg.vector_norm(x, axis=1)


def nonzero(divisor: Any) -> Any:
    """Return a divisor with ones for zeros: what is divided by zero stays as it is."""
    return array_namespace(divisor).where(divisor == 0, 0 * divisor + 1, divisor)


def best_logit(z: Any) -> Any:
    """Return the largest logit of each row, shape (n,)."""
    return array_namespace(z).max(z, axis=1)


def softmax(z: Any) -> Any:
    """Return the probabilities of logits, shape (n, C)."""
    xp = array_namespace(z)
    weights = xp.exp(z - best_logit(z)[:, None])
    return weights / xp.sum(weights, axis=1)[:, None]


def cosines(x: Any, y: Any) -> Any:
    """Return the cosine of each row of x with that row of y; 0 with a row of zeros."""
    return row_dots(x, y) / nonzero(lengths(x) * lengths(y))


def row_dots(x: Any, y: Any) -> Any:
    """Return the inner product of each row of x with that row of y, shape (n,)."""
    if isinstance(x, np.ndarray):
        return np.einsum("ij,ij->i", x, y)
    return array_namespace(x).linalg.vecdot(x, y)
