"""Weibull distributions of the classes' largest distances, by maximum likelihood."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["weibull_fits"]

STEPS = 200
"""Halvings of the interval of the shape's logarithm: more than float64 has digits."""


def weibull_fits(
    tails: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return shapes and scales of the Weibull distributions of the rows of an array.

    With location 0: what ``scipy.stats.weibull_min.fit(row, floc=0)`` looks for, to
    full precision and for all rows at once. The shape k solves

        sum(x^k log x) / sum(x^k) - 1 / k = mean(log x),

    whose left side increases in k; the scale is the k-th power mean.

    Parameters
    ----------
    tails : ndarray of shape (C, n_tail)
        Distances; what is not positive does not count. A row with less than 3 that
        count, or no two that differ, is fitted by those of all rows.

    Returns
    -------
    shapes, scales : ndarray of shape (C,)

    Raises
    ------
    ValueError
        If all rows together have no 3 distances, of which two differ.
    """
    counted = [row[row > 0] for row in tails]
    pooled = np.concatenate(counted)
    if not _fittable(pooled):
        raise ValueError(
            f"there are {len(pooled)} positive distances of rows to the mean logits of "
            "their class, and no 3 that differ: OpenMax needs more rows of a class."
        )
    fits = np.array([_fit(x if _fittable(x) else pooled) for x in counted])
    return fits[:, 0].copy(), fits[:, 1].copy()


def _fittable(x: NDArray[np.float64]) -> bool:
    return len(x) >= 3 and bool(x.max() > x.min() * (1 + 1e-9))


def _fit(x: NDArray[np.float64]) -> tuple[float, float]:
    logs = np.log(x / x.max())

    def excess(shape: float) -> float:
        weights = np.exp(shape * logs)
        return float(weights @ logs / weights.sum() - 1 / shape - logs.mean())

    low, high = -50.0, 50.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(np.exp(middle)) < 0 else (low, middle)
    shape = float(np.exp((low + high) / 2))
    return shape, float(x.max() * np.mean(np.exp(shape * logs)) ** (1 / shape))
