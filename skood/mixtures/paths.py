"""Paths through the components of consecutive layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.numerics.device import array_namespace, like, to_numpy
from skood.numerics.fixed_blocks import filled, filled_rows, product, whole

SMOOTHING = 1e-8
"""Added to every count: a component without rows goes everywhere alike."""


@dataclass(frozen=True, eq=False)
class TransitionCounts:
    """How often rows go from each component of a layer to each of the next.

    Parameters
    ----------
    counts : list of ndarray of shape (K of layer l, K of layer l + 1)
        One for each pair of consecutive layers.
    """

    counts: list[NDArray[np.float64]]

    @classmethod
    def of(cls, shares: Sequence[Any]) -> TransitionCounts:
        """Return the counts of rows.

        Parameters
        ----------
        shares : sequence of array of shape (n, K)
            For each layer, how much of each row belongs to each component.

        Returns
        -------
        TransitionCounts
        """
        return cls([to_numpy(one.T @ other) for one, other in pairwise(shares)])

    def merge(self, other: TransitionCounts) -> TransitionCounts:
        """Return the counts of both sets of rows."""
        pairs = zip(self.counts, other.counts, strict=True)
        return TransitionCounts([one + another for one, another in pairs])

    def probabilities(self) -> list[NDArray[np.float64]]:
        """Return the transition matrices; their rows sum to one."""
        smooth = [counts + SMOOTHING for counts in self.counts]
        return [counts / counts.sum(axis=1, keepdims=True) for counts in smooth]


def assigned(shares: Any) -> Any:
    """Return 1 where a row's component is the likeliest, else 0, shape (n, K)."""
    xp = array_namespace(shares)
    numbers = xp.arange(shares.shape[1], device=shares.device)
    return xp.astype(xp.argmax(shares, axis=1)[:, None] == numbers, shares.dtype)


def log_likelihood(
    emissions: Sequence[Any], transitions: Sequence[NDArray[np.float64]]
) -> Any:
    """Return the log of the summed probability of all paths.

    The recursion runs on scaled probabilities: each row is shifted to a largest entry
    of one, and a step is one matrix product. Nothing that matters underflows, since no
    transition is impossible: every sum has a term of at least the smallest transition
    probability, and what is lost beside it is below the type's smallest number.

    Parameters
    ----------
    emissions : sequence of array of shape (n, K)
        Log densities of the layers, log weights included where they count.
    transitions : sequence of ndarray of shape (K, K of the next layer)
        Positive transition probabilities.

    Returns
    -------
    array of shape (n,)
    """
    xp = array_namespace(emissions[0])
    forward = emissions[0]
    level = 0.0
    for emission, transition in zip(emissions[1:], transitions, strict=True):
        shares, peaks = _scaled(forward)
        forward = xp.log(_moved(shares, transition)) + emission
        level = level + peaks
    shares, peaks = _scaled(forward)
    return xp.log(xp.sum(shares, axis=1)) + peaks + level


def likeliest_path(
    emissions: Sequence[NDArray[np.float64]],
    transitions: Sequence[NDArray[np.float64]],
) -> NDArray[np.intp]:
    """Return the most probable component of each layer, together (Viterbi).

    Parameters
    ----------
    emissions : sequence of ndarray of shape (n, K)
        Log densities of the layers, log weights included where they count.
    transitions : sequence of ndarray of shape (K, K of the next layer)
        Positive transition probabilities.

    Returns
    -------
    ndarray of int, shape (n, L)
    """
    best, steps = emissions[0], []
    for emission, transition in zip(emissions[1:], transitions, strict=True):
        reached = np.full(emission.shape, -np.inf)
        origin = np.zeros(emission.shape, dtype=np.intp)
        for component, row in enumerate(np.log(transition)):
            candidate = best[:, component, None] + row
            better = candidate > reached
            reached = np.where(better, candidate, reached)
            origin[better] = component
        best = reached + emission
        steps.append(origin)
    path = [best.argmax(axis=1)]
    for origin in reversed(steps):
        path.append(origin[np.arange(len(origin)), path[-1]])
    return np.column_stack(path[::-1])


def _moved(shares: Any, transition: NDArray[np.float64]) -> Any:
    """Return ``shares @ transition``, each row alike in every batch."""
    rows = filled_rows(shares, whole(shares.shape[1]))
    moved = product(rows, like(filled(transition), rows))
    return moved[: shares.shape[0], : transition.shape[1]] + 0  # contiguous again


def _scaled(logs: Any) -> tuple[Any, Any]:
    """Return exp(logs - their row's largest), and that."""
    xp = array_namespace(logs)
    peaks = xp.max(logs, axis=1)
    return xp.exp(logs - peaks[:, None]), peaks
