"""Training rows that are kept to be compared with, and the comparison."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skood._sklearn_compat import Interval
from skood.detectors.head.base import HeadDetector
from skood.detectors.training import Training
from skood.features import LayerFeatures
from skood.features.chunks import by_chunks
from skood.neighbors.products import LargestProducts
from skood.numerics.device import array_namespace, like, to_numpy
from skood.numerics.rows import unit_rows
from skood.numerics.seeds import stream_seed

__all__ = ["BankDetector", "NearestDetector", "balanced_rows", "top_mean"]

FEW_ROWS = 128
"""With fewer, a search costs no less than the products in float64."""

Comparison = Callable[[Any, Any, "NDArray[np.intp] | None"], Any]
"""From h, z and the rows' own places in the bank, or None, to how they compare."""


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

    A subclass keeps rows in ``bank_`` by ``_keep`` and implements ``_scores_of``. The
    threshold comes from leave-one-out scores. :class:`NearestDetector` is the base of
    those to which only the largest products matter.

    Parameters
    ----------
    max_rows : int, default=10000
        At most so many training rows are kept; None keeps all. Classes (of ``y``, if
        given) have equal shares as far as they have the rows.
    random_state : int, RandomState instance or None, default=0
        Seed of which rows are kept.
    """

    max_rows: int | None = 10_000
    random_state: Any = 0

    _products_a_number: ClassVar[int] = 1
    """Products in a block over the numbers that it may have."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "max_rows": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
    }

    @abstractmethod
    def _scores_of(self, h: Any, z: Any, compared: Any) -> Any:
        """Return the scores, shape (n,), from the comparison with each kept row.

        ``compared``, of shape (n, rows), is minus infinity where a row is itself kept
        and has to be left out.
        """

    def _compared(self, h: Any, z: Any) -> Any:
        """Return the comparison with each kept row: products of rows of length one."""
        return unit_rows(h) @ like(self.bank_, h).T

    def _comparison(self) -> Comparison:
        """Return what compares the rows of one block after another."""
        return lambda h, z, own: _but_own(self._compared(h, z), own)

    def _head_scores(self, h: Any, z: Any) -> Any:
        return self._scores_of(h, z, self._comparison()(h, z, None))

    def _score(self, chunk: LayerFeatures) -> Any:
        return self._compared_scores(chunk, None)

    def _compared_scores(
        self, chunk: LayerFeatures, own: NDArray[np.intp] | None
    ) -> Any:
        """Return the scores of rows, each of them not compared with itself.

        ``own`` are their places among the kept rows, -1 for those that are not kept.
        """
        compare = self._comparison()
        scores = [
            self._scores_of(h, z, compare(h, z, None if own is None else own[rows]))
            for rows, h, z in self._some_rows(chunk, logits=True)
        ]
        return array_namespace(scores[0]).concat(scores)

    def _unseen_scores(
        self, training: Training, rows: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        places = np.searchsorted(self.bank_rows_, rows)
        own = np.where(np.isin(rows, self.bank_rows_), places, -1)

        def scores(chunk: LayerFeatures, own: NDArray[np.intp]) -> NDArray[np.float64]:
            return to_numpy(self._compared_scores(chunk, own))

        return by_chunks(scores, training.features, own)

    def _keep(
        self,
        training: Training,
        of: Callable[[Any, Any], tuple[Any, ...]],
        n_needed: int = 1,
    ) -> list[NDArray[np.float64]]:
        """Set ``bank_`` to the first thing that ``of(h, z)`` gives, and return others.

        More than ``n_needed`` rows are needed, since a row is not its own neighbour.
        """
        seed = self._choice("seed", lambda: stream_seed(self.random_state))
        self.bank_rows_ = rows = balanced_rows(training, self.max_rows, seed)
        if len(rows) <= n_needed:
            raise ValueError(
                f"the bank has {len(rows)} rows (n_samples={len(training)}, "
                f"max_rows={self.max_rows}), and more than {n_needed} are needed, "
                "since a row is not its own neighbour: fit more in-distribution rows, "
                "keep more of them, or take fewer neighbours."
            )
        stack = self._gathered(
            lambda h, z, _: Stack((tuple(to_numpy(x) for x in of(h, z)),)),
            training.part(rows),
        )
        arrays = [np.concatenate(parts) for parts in zip(*stack.parts, strict=True)]
        self.bank_ = arrays[0]
        return arrays[1:]

    def _numbers_a_row(self, width: int) -> int:
        products = len(self.__dict__.get("bank_rows_", ()))
        return max(super()._numbers_a_row(width), products // self._products_a_number)


class NearestDetector(BankDetector):
    """Base class of detectors by the products with the few nearest of the kept rows.

    In ``_scores_of``, ``compared`` is the mean of the largest products, shape (n,).

    Parameters
    ----------
    n_neighbors : int, default=10
        How many kept rows count.
    """

    n_neighbors: int = 10

    _products_a_number = 8  # 32 MB: they are in float32, and products of few rows slow

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
    }

    def _directions(self, h: Any) -> Any:
        """Return the rows of length one that the products are made of."""
        return unit_rows(h)

    def _compared(self, h: Any, z: Any) -> Any:
        return self._directions(h) @ like(self.bank_, h).T

    def _comparison(self) -> Comparison:
        search = cache(lambda: LargestProducts(self.bank_))

        def nearest(h: Any, z: Any, own: NDArray[np.intp] | None) -> Any:
            k = self.n_neighbors
            if not isinstance(h, np.ndarray) or len(h) < FEW_ROWS:
                return top_mean(_but_own(self._compared(h, z), own), k)
            at_most = k if own is None else k + 1
            products, rows = search()(self._directions(h), at_most)
            if own is not None:
                products[rows == own[:, None]] = -np.inf
            return top_mean(products, k)

        return nearest


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


def _but_own(compared: Any, own: NDArray[np.intp] | None) -> Any:
    """Return comparisons with minus infinity where a row is compared with itself."""
    if own is not None:
        kept = np.flatnonzero(own >= 0)
        compared[kept, own[kept]] = -np.inf
    return compared


def top_mean(values: Any, k: int) -> Any:
    """Return the mean of the k largest values of each row, shape (n,)."""
    if isinstance(values, np.ndarray):
        cut = values.shape[1] - k
        return np.partition(values, cut, axis=1)[:, cut:].mean(axis=1)
    return array_namespace(values).mean(values.topk(k, dim=1).values, axis=1)
