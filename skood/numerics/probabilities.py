"""Probabilities of logits without loss at either end."""

from __future__ import annotations

from typing import Any

import numpy as np

from skood.numerics.device import array_namespace
from skood.numerics.graph import ascending
from skood.numerics.rows import exponentials, less_best, row_sums

__all__ = ["behind_best", "largest_softmax", "log_softmax", "softmax"]


def softmax(logits: Any) -> Any:
    """Return the probabilities, (n, C), in float64."""
    _, behind = less_best(logits)
    weights = exponentials(behind)
    weights /= row_sums(weights)[:, None]
    return weights


def log_softmax(logits: Any) -> Any:
    """Return the logarithms of the probabilities, (n, C), in float64.

    That of a probability near 1 is precise too: it is the sum of the others that
    counts.
    """
    behind, others = behind_best(logits)
    behind -= array_namespace(others).log1p(row_sums(others))[:, None]
    return behind


def largest_softmax(logits: Any, count: int) -> tuple[Any, Any]:
    """Return the largest p of each row and 1 - p to full precision, (n, count) each.

    The largest of all comes last, the others in any order; all C where there are fewer
    than ``count``. Only the last p can be near 1: its counterpart is the sum of the
    others.
    """
    xp = array_namespace(logits)
    n_left_out = max(logits.shape[1] - count, 0)
    ordered = xp.astype(_largest_last(logits, n_left_out), xp.float64)
    weights = exponentials(ordered - ordered[:, -1:])
    others = row_sums(weights[:, :-1])
    total = (1 + others)[:, None]
    kept = weights[:, n_left_out:]
    rest = total - kept
    rest[:, -1] = others
    return kept / total, rest / total


def _largest_last(x: Any, n_left_out: int) -> Any:
    """Return each row with its smallest entries first and the very largest last."""
    if not isinstance(x, np.ndarray):
        return ascending(x)
    x = np.partition(x, n_left_out, axis=1)
    rows, best = np.arange(len(x)), n_left_out + x[:, n_left_out:].argmax(axis=1)
    x[rows, best], x[:, -1] = x[:, -1], x[rows, best]
    return x


def behind_best(logits: Any) -> tuple[Any, Any]:
    """Return each logit less its row's largest, in float64, and their exponentials.

    That of the largest itself, 1, is left out: zero stands for it, so that sums over
    the others keep their digits where they are small.
    """
    xp = array_namespace(logits)
    _, behind = less_best(logits)
    others = xp.exp(behind)
    others[xp.arange(behind.shape[0]), xp.argmax(logits, axis=1)] = 0
    return behind, others
