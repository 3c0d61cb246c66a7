"""Members' scores on one scale and their combination, as tensors for a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.polynomial import Chebyshev, chebyshev
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

DEGREE, STEPS = 20, 3
"""With them both are right to eight digits."""


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
        return _RULES[rule](_log_shares(scales, scores)[0])
    xp = array_namespace(scores)
    made = (_standardised if scale == "z" else _gaussian)(scales, scores)
    if weights is not None:
        return xp.sum(made * like(weights, made), axis=1)
    if rule == "min":
        return xp.min(made, axis=1)
    return xp.sum(made, axis=1) / made.shape[1] ** 0.5


# The members' scores on one scale ---------------------------------------------------


def _finite(scores: Any) -> Any:
    return array_namespace(scores).clip(scores, -LARGEST, LARGEST)


def _standardised(scales: Sequence[Comparable], scores: Any) -> Any:
    means = np.array([scale.mean for scale in scales])
    factors = [0.0 if scale.constant else 1 / scale.deviation for scale in scales]
    centred = _finite(scores) - like(means, scores)
    return centred * like(np.array(factors), scores)


def _gaussian(scales: Sequence[Comparable], scores: Any) -> Any:
    """Return the normal quantiles of the shares of rows that score lower."""
    xp = array_namespace(scores)
    below, above = _log_shares(scales, scores)
    lower = below <= above
    quantile = _upper_quantile(xp.where(lower, below, above))
    return xp.where(lower, -quantile, quantile)


def _log_shares(scales: Sequence[Comparable], scores: Any) -> tuple[Any, Any]:
    """Return the logarithms of the shares of rows that score lower, and do not."""
    xp, finite = array_namespace(scores), _finite(scores)
    pairs = [_log_share(scale, finite[:, j]) for j, scale in enumerate(scales)]
    below, above = (xp.stack(columns, axis=1) for columns in zip(*pairs, strict=True))
    return below, above


def _log_share(scale: Comparable, scores: Any) -> tuple[Any, Any]:
    """Return both of one member."""
    xp = array_namespace(scores)
    if scale.constant:
        half = 0 * scores + float(np.log(0.5))
        return half, half
    low, high = scale.values[:-1], scale.values[1:]
    number = places(scale.values[1:-1], scores)
    begin, end = like(low, scores)[number], like(high, scores)[number]
    part = xp.clip((scores - begin) / (end - begin), 0, 1)
    first = like(scale.shares[:-1], scores)[number]
    last = like(scale.shares[1:], scores)[number]
    share = first + part * (last - first)
    excess = xp.clip(scale.edge - scores, 0, None) / max(scale.decay, 1e-300)
    log_share = float(np.log(scale.edge_share)) - xp.clip(excess, None, LARGEST)
    below = scores < scale.edge
    share = xp.where(below, xp.exp(log_share), share)
    return xp.where(below, log_share, xp.log(share)), xp.log1p(-share)


def _upper_quantile(log_share: Any) -> Any:
    """Return z with log P(Z > z) as given, at most log 1/2."""
    xp = array_namespace(log_share)
    t = xp.sqrt(-2 * log_share)
    return xp.where(
        t < FAR, _near(xp.clip(t, MIDDLE, FAR)), _far(xp.clip(t, FAR, None))
    )


def _near(t: Any) -> Any:
    """Return the quantile by a polynomial in sqrt(-2 log share)."""
    domain = [MIDDLE, FAR]
    series = Chebyshev.interpolate(_quantile, DEGREE, domain=domain)
    first, *others = chebyshev.cheb2poly(series.coef)[::-1].tolist()
    x = (2 * t - MIDDLE - FAR) / (FAR - MIDDLE)
    total = first * x
    for coefficient in others[:-1]:
        total = (total + coefficient) * x
    return total + others[-1]


def _quantile(t: Floats) -> Floats:
    return np.asarray(-ndtri_exp(np.minimum(-(t**2) / 2, -np.log(2))))


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
