"""Linear subspaces: that of the weights, and that in which training rows lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skood.features import LinearHead
from skood.numerics.gaussian import ROWS_TO_SPARE
from skood.numerics.moments import ClassMoments

if TYPE_CHECKING:
    from skood.detectors.head.base import HeadDetector

__all__ = [
    "component_number",
    "origin",
    "principal_axes",
    "row_space",
    "second_moment",
    "spans_about_all",
    "without_rounding",
]

ABOUT_ALL = 2 / 3, 1.3
"""Rows a column between which a tenth of the rows decides what is left to span."""

_EPSILON = float(np.finfo(np.float32).eps)
"""Weights are known to float32, whatever type they come in."""


def row_space(head: LinearHead) -> NDArray[np.float64]:
    """Return an orthonormal basis of the space that the weights span, (rank, d).

    Directions count from singular values of ``max(C, d)`` float32 epsilons of the
    largest on: softmax heads are often one short of full rank, up to rounding.
    """
    weight = head.weight.astype(np.float64)
    _, values, rows = np.linalg.svd(weight, full_matrices=False)
    return rows[values > values[0] * _negligible(weight)]


def origin(head: LinearHead) -> NDArray[np.float64]:
    """Return the point at which the logits are smallest, -pinv(W) b, shape (d,)."""
    weight, bias = head.weight.astype(np.float64), head.bias.astype(np.float64)
    return np.asarray(np.linalg.lstsq(weight, -bias, rcond=_negligible(weight))[0])


def spans_about_all(n_rows: int, n_columns: int) -> bool:
    """Return whether the directions that rows span are about to be all of them.

    Fits on 0.8 and 0.9 of the rows then span other parts of the columns than a fit on
    all, and say nothing of how far new rows are from what that fit has learned; nor do
    leave-one-out scores, where hardly more rows than directions hold these in place.
    """
    least, most = ABOUT_ALL
    return least * n_columns < n_rows < max(most * n_columns, n_columns + ROWS_TO_SPARE)


def without_rounding(weight: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the weights with zeros for what is rounding beside the largest."""
    weight = weight.astype(np.float64)
    size = np.abs(weight)
    return np.where(size > size.max() * _EPSILON, weight, 0.0)


def second_moment(
    moments: ClassMoments, about: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean of (x - about)(x - about)^T of rows of one class, (d, d)."""
    shift = moments.means[0] - about
    return moments.covariance() + np.outer(shift, shift)


def principal_axes(
    matrix: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return eigenvalues of a symmetric matrix, the largest first, and axes as columns.

    Eigenvalues that rounding made negative are zero.

    Raises
    ------
    ValueError
        If the matrix is not finite, as of features whose squares do not fit float64.
    """
    if not np.isfinite(matrix).all():
        raise ValueError(
            "the features are too large: their squares do not fit float64. Give them "
            "in other units (LayerFeatures of X / 1e100, say, and a head that fits)."
        )
    values, vectors = np.linalg.eigh(matrix)
    return np.maximum(values[::-1], 0), vectors[:, ::-1]


def component_number(detector: HeadDetector, values: NDArray[np.float64]) -> int:
    """Return the number of components that ``detector.n_components`` stands for.

    An integer is the number; a share in (0, 1) gives the fewest components whose
    eigenvalues add up to it, but at least one direction is left over. Fits that hold
    rows out take over which part of all directions this is.

    Parameters
    ----------
    detector : HeadDetector
        With the parameter ``n_components``.
    values : ndarray of shape (d,)
        Eigenvalues, the largest first.

    Raises
    ------
    ValueError
        If no direction in which the rows lie is left.
    """
    wanted: float = detector.n_components
    rank = int((values > values[0] * len(values) * np.finfo(float).eps).sum())
    number = int(wanted)
    if wanted < 1 and rank >= 2:
        part = detector._choice("components", lambda: _holding(wanted, values) / rank)
        number = min(max(round(part * rank), 1), rank - 1)
    if max(number, 1) >= rank:
        raise ValueError(
            f"n_components={wanted!r} makes {max(number, 1)} components of {rank} "
            f"directions in which the training rows lie (n_features = {len(values)}): "
            "nothing of them is left over to be measured. Take fewer components, or "
            "fit more rows."
        )
    return number


def _holding(share: float, values: NDArray[np.float64]) -> int:
    """Return how many of the values add up to a share of all."""
    return int(np.searchsorted(np.cumsum(values) / values.sum(), share)) + 1


def _negligible(weight: NDArray[np.float64]) -> float:
    """Return up to what share of the largest singular value others are rounding."""
    return max(weight.shape) * _EPSILON
