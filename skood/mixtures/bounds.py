"""Upper bounds on log densities, cheap enough to rule most components out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.numerics.device import array_namespace, like

WIDEST = 128
BLOCK_ELEMENTS = 1 << 20
"""Products of features in one block: 4 MB in float32, for the cache."""

SLACK = 1.0
"""Nats by which a bound is raised, beside what its terms may lose in rounding."""


@dataclass(frozen=True, eq=False)
class MarginalBounds:
    """Log densities of K Gaussians in which only the first features' distance counts.

    A Mahalanobis distance in some of the features is never more than that in all. It
    is a quadratic form, so that one matrix product of the features' pairwise products
    gives it for all rows and components.

    Parameters
    ----------
    quadratic : ndarray of shape (K, q (q + 1) / 2)
        Coefficients of the products of features i <= j < q, row by row.
    linear : ndarray of shape (K, q)
        Coefficients of the features.
    constants : ndarray of shape (K,)
        What is left.
    norms : ndarray of shape (K,)
        Frobenius norms of the quadratic forms.
    """

    quadratic: NDArray[np.float64]
    linear: NDArray[np.float64]
    constants: NDArray[np.float64]
    norms: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        points: NDArray[np.float64],
        whitenings: NDArray[np.float64],
        constants: NDArray[np.float64],
    ) -> MarginalBounds:
        """Return the bounds of some Gaussians.

        Parameters
        ----------
        points : ndarray of shape (K, d)
            Means.
        whitenings : ndarray of shape (K, d, d)
            Lower triangles W with W^T W the inverse covariances.
        constants : ndarray of shape (K,)
            Log densities at the means.

        Returns
        -------
        MarginalBounds
        """
        n_features = points.shape[1]
        width = max(1, min(n_features // 2, WIDEST))
        corner = whitenings[:, :width, :width]
        precisions = np.swapaxes(corner, 1, 2) @ corner
        rows, columns = np.triu_indices(width)
        once_or_twice = np.where(rows == columns, 0.5, 1.0)
        means = points[:, :width, None]
        linear = precisions @ means
        return cls(
            -precisions[:, rows, columns] * once_or_twice,
            linear[:, :, 0],
            constants - 0.5 * (means * linear).sum(axis=(1, 2)),
            np.sqrt((precisions**2).sum(axis=(1, 2))),
        )

    def upper(self, y: Any) -> Any:
        """Return numbers that the log densities do not exceed, shape (K, n).

        Parameters
        ----------
        y : array of shape (n, d)
            NumPy or torch.

        Returns
        -------
        array of shape (K, n)
        """
        xp = array_namespace(y)
        width = self.linear.shape[1]
        step = max(256, BLOCK_ELEMENTS // self.quadratic.shape[1])
        quadratic, linear = like(self.quadratic, y), like(self.linear, y)
        bounds = xp.zeros((len(linear), len(y)), dtype=y.dtype, device=y.device)
        for start in range(0, len(y), step):
            first = y[start : start + step, :width]
            part = quadratic @ _products(first).T
            part += linear @ first.T
            largest = float(xp.max(xp.sum(first * first, axis=1)))
            lost = float(xp.finfo(y.dtype).eps) * largest * self.norms
            part += like(self.constants + lost + SLACK, y)[:, None]
            bounds[:, start : start + step] = part
        return bounds


def _products(y: Any) -> Any:
    """Return the products of features i <= j, shape (n, q (q + 1) / 2)."""
    xp = array_namespace(y)
    n, width = y.shape
    products = xp.zeros((n, width * (width + 1) // 2), dtype=y.dtype, device=y.device)
    end = 0
    for i in range(width):
        start, end = end, end + width - i
        products[:, start:end] = y[:, i:] * y[:, i : i + 1]
    return products
