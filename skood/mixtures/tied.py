"""Gaussians that share one covariance: the rows are whitened once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skood.mixtures.gaussians import EPSILON, LOG_2_PI, Gaussians
from skood.mixtures.products import mostly_empty, triangular_product, whitening_triangle
from skood.numerics.device import array_namespace, like, to_numpy
from skood.numerics.fixed_blocks import (
    filled,
    filled_rows,
    product,
    transposed_product,
    whole,
)


@dataclass(frozen=True, eq=False)
class TiedGaussians(Gaussians):
    """K Gaussians with the same covariance matrix.

    Parameters
    ----------
    points : ndarray of shape (K, d)
        The means, relative to the centre of all rows.
    covariances : ndarray of shape (d, d)
        Their one covariance.
    log_determinants : ndarray of shape (K,)
        Of the covariance, K times.
    whitening : ndarray of shape (d, d)
        Lower triangle W with W^T W the inverse covariance.
    """

    whitening: NDArray[np.float64]
    tied: ClassVar[bool] = True

    @classmethod
    def of(
        cls, points: NDArray[np.float64], covariances: NDArray[np.float64]
    ) -> TiedGaussians:
        """Return the Gaussians, the covariance factored."""
        whitening, log_determinant = whitening_triangle(covariances)
        levels = np.full(len(points), log_determinant)
        return cls(points, covariances, levels, whitening)

    @staticmethod
    def moments(
        y: Any, shares: Any, points: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the sums; the second moment of all rows together never changes."""
        return to_numpy(mostly_empty(shares) @ y).astype(np.float64), np.zeros(0)

    @classmethod
    def scatter(
        cls,
        counts: NDArray[np.float64],
        sums: NDArray[np.float64],
        seconds: NDArray[np.float64],
        points: NDArray[np.float64],
        total: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the means and the scatter within all components, shape (d, d)."""
        means = sums / counts[:, None]
        return means, total - cls.outer(means, counts)

    @staticmethod
    def outer(
        u: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the sum of w u u^T, shape (d, d)."""
        return (weights[:, None] * u).T @ u

    @staticmethod
    def shared(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the count of all components together."""
        return np.asarray(counts.sum())

    @staticmethod
    def ridge(levels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the numbers on a diagonal, shape (d, d)."""
        return np.diag(levels)

    def log_densities(self, y: Any) -> Any:
        """Return log densities from products with whitened means."""
        xp = array_namespace(y)
        white = triangular_product(y + 0, like(self.whitening, y))
        points = self.points @ self.whitening.T
        levels = self.log_determinants + self.points.shape[1] * LOG_2_PI
        logs = white @ like(points.T, y)
        logs += like(-0.5 * ((points**2).sum(axis=1) + levels), y)
        logs -= 0.5 * xp.sum(white * white, axis=1)[:, None]
        return logs

    def row_log_densities(self, y: Any) -> Any:
        """Return the same from products of one shape."""
        xp = array_namespace(y)
        rows = filled_rows(y, whole(y.shape[1]))
        white = transposed_product(rows, like(filled(self.whitening), rows))
        points = self.points @ self.whitening.T
        levels = self.log_determinants + self.points.shape[1] * LOG_2_PI
        logs = product(white, like(filled(points.T), rows))
        logs = logs[: y.shape[0], : len(points)]
        logs = logs + like(-0.5 * ((points**2).sum(axis=1) + levels), rows)
        return logs - 0.5 * xp.linalg.vecdot(white, white)[: y.shape[0], None]

    def float32_error(self) -> NDArray[np.float64]:
        """Return nats lost where large terms cancel, near a mean."""
        white = self.points @ self.whitening.T
        return np.asarray(EPSILON * (white**2).sum(axis=1))
