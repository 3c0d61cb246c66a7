"""Probabilities of logits without loss at either end."""

from __future__ import annotations

from typing import Any

from skood.numerics.device import array_namespace
from skood.numerics.graph import ascending

__all__ = ["log_softmax", "softmax", "sorted_softmax"]


def softmax(logits: Any) -> Any:
    """Return the probabilities, (n, C), in float64."""
    xp = array_namespace(logits)
    weights = xp.exp(_behind(logits))
    return weights / xp.sum(weights, axis=1)[:, None]


def log_softmax(logits: Any) -> Any:
    """Return the logarithms of the probabilities, (n, C), in float64.

    That of a probability near 1 is precise too: it is the sum of the others that
    counts.
    """
    xp = array_namespace(logits)
    behind = _behind(logits)
    others = xp.exp(behind)
    others[xp.arange(behind.shape[0]), xp.argmax(behind, axis=1)] = 0
    return behind - xp.log1p(xp.sum(others, axis=1))[:, None]


def sorted_softmax(logits: Any) -> tuple[Any, Any]:
    """Return p in ascending order, and 1 - p to full precision, both (n, C).

    Only the largest p can be near 1: its counterpart is the sum of the others.
    """
    xp = array_namespace(logits)
    weights = xp.exp(ascending(_behind(logits)))
    total = xp.sum(weights, axis=1)[:, None]
    rest = total - weights
    rest[:, -1] = xp.sum(weights[:, :-1], axis=1)
    return weights / total, rest / total


def _behind(logits: Any) -> Any:
    xp = array_namespace(logits)
    logits = xp.astype(logits, xp.float64)
    return logits - xp.max(logits, axis=1)[:, None]
