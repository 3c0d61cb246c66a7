"""Training rows that are kept to be compared with, and the comparison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval

from skood._device import array_namespace, to_numpy
from skood.detectors.head.base import HeadDetector

if TYPE_CHECKING:
    from skood.detectors.training import Training

__all__ = ["BankDetector", "balanced_rows", "top_mean"]


@dataclass(frozen=True, eq=False)
class Stack:
    """Rows of several arrays, in order.

    Parameters
    ----------
    parts : tuple of tuple of ndarray
        Of each block, one array each of what is kept.
    """

    parts: tuple[tuple[NDArray[np.float64], ...], ...]

    def merge(self, other: Stack) -> Stack:
        """Return the rows of both."""
        return Stack(self.parts + other.parts)


class BankDetector(HeadDetector):
    """Base class of detectors that compare rows with training rows.

    Parameters
    ----------
    bank_size : int, default=10000
        At most so many training rows are kept; None keeps all. Classes (of ``y``, if
        given) have equal shares as far as they have the rows.
    random_state : int, default=0
        Seed of which rows are kept.
    """

    bank_size: int | None = 10_000
    random_state: int = 0

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "bank_size": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": [Interval(Integral, 0, None, closed="left")],
    }

    def _kept(
        self, training: Training, of: Callable[[Any, Any], tuple[Any, ...]]
    ) -> list[NDArray[np.float64]]:
        """Return what ``of(h, z)`` gives for the rows of the bank, one row each."""
        rows = balanced_rows(training, self.bank_size, self.random_state)
        self._bank_rows = len(rows)
        stack = self._gathered(
            lambda h, z, _: Stack((tuple(to_numpy(x) for x in of(h, z)),)),
            training.part(rows),
        )
        return [np.concatenate(arrays) for arrays in zip(*stack.parts, strict=True)]

    def _numbers_a_row(self, width: int) -> int:
        return max(super()._numbers_a_row(width), getattr(self, "_bank_rows", 0))

    def _check_neighbours(self, n_neighbors: int, n_rows: int) -> None:
        if n_rows < n_neighbors:
            raise ValueError(
                f"n_neighbors={n_neighbors} but the bank has n_samples={n_rows} rows: "
                "fit more in-distribution rows, or take fewer neighbours."
            )


def balanced_rows(training: Training, size: int | None, seed: int) -> NDArray[np.intp]:
    """Return the numbers of at most ``size`` rows, drawn evenly from the classes."""
    n = len(training)
    if size is None or n <= size:
        return np.arange(n)
    drawn = np.random.default_rng(seed).permutation(n)
    classes = training.class_numbers[drawn]
    by_class = np.argsort(classes, kind="stable")
    counts = np.bincount(classes)
    place = np.empty(n, dtype=np.intp)  # of each row among the drawn of its class
    place[by_class] = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(drawn[np.argsort(place, kind="stable")[:size]])


def top_mean(values: Any, k: int) -> Any:
    """Return the mean of the k largest values of each row, shape (n,)."""
    if isinstance(values, np.ndarray):
        cut = values.shape[1] - k
        return np.partition(values, cut, axis=1)[:, cut:].mean(axis=1)
    return array_namespace(values).mean(values.topk(k, dim=1).values, axis=1)
