"""Means and scatter of rows, or of what a formula makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk

from skood.features import LayerFeatures
from skood.features.chunks import merged_statistics
from skood.numerics.device import array_namespace, to_numpy
from skood.numerics.moments import ClassMoments
from skood.numerics.rows import in_float64

if TYPE_CHECKING:
    from skood.detectors.head.base import HeadDetector
    from skood.detectors.training import Training

__all__ = ["balance", "outer_sum", "row_moments", "term_moments"]


@dataclass(frozen=True, eq=False)
class OuterSum:
    """The sum of the rows' outer products, which do not cancel, about zero."""

    total: NDArray[np.float64]

    def merge(self, other: OuterSum) -> OuterSum:
        """Return the sum over both sets of rows."""
        return OuterSum(self.total + other.total)


def row_moments(
    detector: HeadDetector,
    training: Training,
    of: Callable[[Any], Any] | None = None,
) -> ClassMoments:
    """Return the moments of penultimate rows, or of ``of(h)``, as one class."""
    if of is None:  # as they are stored: they are taken to float64 when centred
        stored = partial(_stored_moments, detector)
        return merged_statistics(stored, training.features)

    def moments(h: Any, _z: Any, _classes: Any) -> ClassMoments:
        return _moments(of(in_float64(h)))

    return detector._gathered(moments, training, logits=False, whole_blocks=True)


def outer_sum(
    detector: HeadDetector, training: Training, of: Callable[[Any], Any]
) -> NDArray[np.float64]:
    """Return the lower triangle of the sum of x x^T over x = ``of(h)``, (d, d)."""

    def products(h: Any, _z: Any, _classes: Any) -> OuterSum:
        return _outer_sum(of(in_float64(h)))

    found = detector._gathered(products, training, logits=False, whole_blocks=True)
    return found.total


def term_moments(
    detector: HeadDetector,
    training: Training,
    terms: Callable[[Any, Any], tuple[Any, ...]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return means and standard deviations of the terms of a score over the rows."""

    def stacked(h: Any, z: Any, _: Any) -> ClassMoments:
        return _moments(array_namespace(h).stack(terms(h, z), axis=1))

    moments = detector._gathered(stacked, training)
    variances = np.diag(moments.scatter) / moments.counts[0]
    return moments.means[0], np.sqrt(variances)


def balance(
    detector: HeadDetector, training: Training, alpha: float | None
) -> tuple[float, float]:
    """Return the weight of the second of two terms, and from where it is counted.

    A given ``alpha`` is the weight, and nothing is taken off. Else it is the spread of
    the first term over that of the second, which is counted from its mean: with a
    weight that differs a little from fit to fit, a large common part would differ by
    more than the scores do.
    """
    if alpha is not None:
        return alpha, 0.0
    means, (first, second) = term_moments(detector, training, detector._terms)
    return float(first / second) if second > 0 else 0.0, float(means[1])


def _stored_moments(detector: HeadDetector, chunk: LayerFeatures) -> ClassMoments:
    return _moments(detector._stored(chunk, logits=False)[0])


def _outer_sum(x: Any) -> OuterSum:
    # Not in the function that goes to workers: BLAS's own are none that a pickle holds.
    if isinstance(x, np.ndarray):
        return OuterSum(dsyrk(1.0, x.T, lower=1))
    return OuterSum(np.tril(to_numpy(x.T @ x)))


def _moments(x: Any) -> ClassMoments:
    return ClassMoments.of(x, np.zeros(len(x), np.intp), 1)
