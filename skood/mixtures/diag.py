"""Gaussians with diagonal covariances: two matrix products a pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError

from skood.mixtures.gaussians import EPSILON, LOG_2_PI, Gaussians
from skood.mixtures.products import mostly_empty
from skood.numerics.device import like, to_numpy
from skood.numerics.fixed_blocks import filled, filled_rows, product, whole


class DiagonalGaussians(Gaussians):
    """K Gaussians with one variance a feature."""

    @classmethod
    def of(
        cls, points: NDArray[np.float64], covariances: NDArray[np.float64]
    ) -> DiagonalGaussians:
        """Return the Gaussians; refuse variances that are not positive."""
        if not (covariances > 0).all():
            raise LinAlgError("a variance is not positive")
        return cls(points, covariances, np.log(covariances).sum(axis=1))

    @staticmethod
    def moments(
        y: Any, shares: Any, points: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the sums of y and of its squares, both of shape (K, d)."""
        parts = mostly_empty(shares)
        sums = to_numpy(parts @ y).astype(np.float64)
        return sums, to_numpy(parts @ (y * y)).astype(np.float64)

    @classmethod
    def scatter(
        cls,
        counts: NDArray[np.float64],
        sums: NDArray[np.float64],
        seconds: NDArray[np.float64],
        points: NDArray[np.float64],
        total: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return means and squared deviations from them, both of shape (K, d)."""
        means = sums / counts[:, None]
        return means, seconds - cls.outer(means, counts)

    @staticmethod
    def outer(
        u: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return w u^2, shape (K, d)."""
        return np.asarray(weights[:, None] * u**2)

    @staticmethod
    def shared(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each component's own count, shape (K, 1)."""
        return counts[:, None]

    @staticmethod
    def ridge(levels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the numbers, shape (d,)."""
        return levels

    def log_densities(self, y: Any) -> Any:
        """Return log densities, the square multiplied out."""
        square, linear, constants = self._coefficients()
        logs = (y * y) @ like(square, y)
        logs += y @ like(linear, y)
        logs += like(constants, y)
        return logs

    def row_log_densities(self, y: Any) -> Any:
        """Return the same from products of one shape."""
        square, linear, constants = self._coefficients()
        rows = filled_rows(y, whole(y.shape[1]))
        logs = product(rows, like(filled(linear), rows))
        rows *= rows
        logs += product(rows, like(filled(square), rows))
        return logs[: y.shape[0], : len(constants)] + like(constants, rows)

    def _coefficients(self) -> tuple[NDArray[np.float64], ...]:
        """Return those of squares, of features, and constants, (d, K) and (K,)."""
        precisions = 1 / self.covariances
        constants = (self.points**2 * precisions).sum(axis=1) + self.log_determinants
        constants = -0.5 * (constants + self.points.shape[1] * LOG_2_PI)
        return -0.5 * precisions.T, (self.points * precisions).T, constants

    def float32_error(self) -> NDArray[np.float64]:
        """Return nats lost where large terms cancel, near a mean."""
        return np.asarray(EPSILON * (self.points**2 / self.covariances).sum(axis=1))
