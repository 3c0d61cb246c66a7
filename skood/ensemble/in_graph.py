"""Members' scores on one scale and their combination, as tensors for a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.polynomial import Chebyshev
from numpy.typing import NDArray
from scipy.special import ndtri_exp

from skood.ensemble.comparable import LARGEST, Comparable
from skood.ensemble.rules import SMALLEST
from skood.numerics.device import array_namespace, like
from skood.numerics.graph import places

__all__ = ["combined_in_graph"]

Floats = NDArray[np.float64]

LOG_2_PI = float(np.log(2 * np.pi))
MIDDLE, FAR = float(np.sqrt(2 * np.log(2))), 8.0
"""Between them a polynomial gives the normal quantile, beyond an expansion does."""

DEGREE = 24
STEPS = 6


def combined_in_graph(
    scales: Sequence[Comparable], scores: Any, rule: str, scale: str, weights: Any
) -> Any:
    """Return one score a row of the members' own scores.

    Parameters
    ----------
    scales : sequence of Comparable
        Of the members.
    scores : tensor of shape (n, members)
        Their own scores.
    rule : str
        How they are combined; not looked at where there are weights.
    scale : str
        ``"z"`` or ``"gaussian"``.
    weights : ndarray of shape (members,) or None
        Of a mean.

    Returns
    -------
    tensor of shape (n,)

    Raises
    ------
    TypeError
        For p-values of scores that are standardised, not turned into shares.
    """
    if weights is None and rule in _RULES:
        if scale == "z":
            raise TypeError(
                f"combine={rule!r} with scale='z' has no graph to export: it takes "
                "the logarithm of the normal distribution. Take scale='auto'."
            )
        return _RULES[rule](_beside(scales, scores, _log_share))
    made = _beside(scales, scores, _standardised if scale == "z" else _gaussian)
    xp = array_namespace(made)
    if weights is not None:
        return xp.sum(made * like(weights, made), axis=1)
    if rule == "min":
        return xp.min(made, axis=1)
    return xp.sum(made, axis=1) / made.shape[1] ** 0.5


def _beside(scales: Sequence[Comparable], scores: Any, made: Any) -> Any:
    xp = array_namespace(scores)
    finite = xp.clip(scores, -LARGEST, LARGEST)
    columns = [made(scale, finite[:, j]) for j, scale in enumerate(scales)]
    return xp.stack(columns, axis=1)


# One member ------------------------------------------------------------------------


def _standardised(scale: Comparable, scores: Any) -> Any:
    if scale.constant:
        return 0 * scores
    return (scores - scale.mean) / scale.deviation


def _log_shares(scale: Comparable, scores: Any) -> tuple[Any, Any]:
    """Return the logarithms of the shares of rows that score lower, and do not."""
    xp = array_namespace(scores)
    low, high = scale.values[:-1], scale.values[1:]
    number = xp.clip(places(scale.values, scores) - 1, 0, len(low) - 1)
    begin, end = like(low, scores)[number], like(high, scores)[number]
    part = xp.clip((scores - begin) / (end - begin), 0, 1)
    first = like(scale.shares[:-1], scores)[number]
    last = like(scale.shares[1:], scores)[number]
    share = first + part * (last - first)
    excess = xp.clip(scale.edge - scores, 0, None) / max(scale.decay, 1e-300)
    log_share = float(np.log(scale.edge_share)) - xp.clip(excess, None, LARGEST)
    below = scores < scale.edge
    return xp.where(below, log_share, xp.log(share)), xp.log(1 - share)


def _log_share(scale: Comparable, scores: Any) -> Any:
    if scale.constant:
        return 0 * scores + float(np.log(0.5))
    return _log_shares(scale, scores)[0]


def _gaussian(scale: Comparable, scores: Any) -> Any:
    """Return the normal quantiles of the shares of rows that score lower."""
    if scale.constant:
        return 0 * scores
    xp = array_namespace(scores)
    below, above = _log_shares(scale, scores)
    lower = below <= above
    quantile = _upper_quantile(xp.where(lower, below, above))
    return xp.where(lower, -quantile, quantile)


def _upper_quantile(log_share: Any) -> Any:
    """Return z with log P(Z > z) as given, at most log 1/2."""
    xp = array_namespace(log_share)
    t = xp.sqrt(-2 * log_share)
    return xp.where(t < FAR, _near(xp.clip(t, MIDDLE, FAR)), _far(xp.clip(t, FAR, None)))


def _near(t: Any) -> Any:
    """Return a Chebyshev series of the quantile in sqrt(-2 log share)."""

    def quantile(t: Floats) -> Floats:
        return -ndtri_exp(np.minimum(-(t**2) / 2, -np.log(2)))

    series = Chebyshev.interpolate(quantile, DEGREE, domain=[MIDDLE, FAR])
    x = (2 * t - MIDDLE - FAR) / (FAR - MIDDLE)
    later = last = 0 * x
    for coefficient in series.coef[:0:-1]:  # Clenshaw's recursion
        later, last = 2 * x * later - last + float(coefficient), later
    return x * later - last + float(series.coef[0])


def _far(t: Any) -> Any:
    """Return the quantile by the asymptotic expansion of the normal tail."""
    xp = array_namespace(t)
    square = t * t - LOG_2_PI - 2 * xp.log(t)
    for _ in range(STEPS):
        v = 1 / square
        tail = 1 - v * (1 - 3 * v * (1 - 5 * v * (1 - 7 * v)))
        square = t * t - LOG_2_PI - xp.log(square) + 2 * xp.log(tail)
    return xp.sqrt(square)


# Rules without weights, of the logarithms of p-values -------------------------------


def _fisher(log_p: Any) -> Any:
    return array_namespace(log_p).sum(log_p, axis=1)


def _simes(log_p: Any) -> Any:
    m = log_p.shape[1]
    ordered = log_p.sort(dim=1).values
    return (ordered + like(np.log(m / np.arange(1, m + 1)), log_p)).amin(dim=1)


def _cauchy(log_p: Any) -> Any:
    xp = array_namespace(log_p)
    angle = np.pi * xp.exp(xp.clip(log_p, SMALLEST, None))
    statistic = xp.mean(xp.cos(angle) / xp.sin(angle), axis=1)
    beyond = xp.mean(xp.clip(log_p - SMALLEST, None, 0), axis=1)
    size = xp.abs(statistic)
    root = (1 + xp.clip(size, None, 1e100) ** 2) ** 0.5
    large = size > 1e100
    arsinh = xp.log(xp.where(large, 2 * size, size + root))
    return beyond - xp.sign(statistic) * arsinh


def _harmonic(log_p: Any) -> Any:
    xp = array_namespace(log_p)
    top = xp.max(-log_p, axis=1)
    total = xp.sum(xp.exp(-log_p - top[:, None]), axis=1)
    return float(np.log(log_p.shape[1])) - top - xp.log(total)


_RULES = {
    "fisher": _fisher,
    "simes": _simes,
    "cauchy": _cauchy,
    "harmonic": _harmonic,
}
