"""The logarithm of a sum of exponentials, row by row."""

from __future__ import annotations

from typing import Any

from skood.numerics.device import array_namespace
from skood.numerics.rows import exponentials, less_best, row_sums


def log_sum_exp(x: Any, temperature: float = 1.0) -> Any:
    """Return T log(sum(exp(row / T))) of each row, in float64.

    Parameters
    ----------
    x : array of shape (n, d)
        Finite; NumPy or torch, float32 or float64.
    temperature : float, default=1.0
        T, positive.

    Returns
    -------
    array of float64, shape (n,)
        At least the row's maximum, and at most T log(d) more.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.numerics.logsumexp import log_sum_exp
    >>> log_sum_exp(np.array([[1000.0, 1000.0]]))
    array([1000.69314718])
    """
    top, below = less_best(x)
    if temperature != 1:
        below = below / temperature
    sums = row_sums(exponentials(below))
    return top + temperature * array_namespace(x).log(sums)
