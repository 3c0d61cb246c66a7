"""Gaussians with a covariance each: hopeless components are ruled out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood._device import array_namespace, like, to_numpy
from skood.mixtures.bounds import MarginalBounds
from skood.mixtures.gaussians import EPSILON, LOG_2_PI, Gaussians, rank_one_downdate
from skood.mixtures.products import (
    gram,
    nearest_points,
    squared_lengths,
    triangular_product,
    whitening_triangle,
)

BLOCK_ROWS = 2048


@dataclass(frozen=True, eq=False)
class FullGaussians(Gaussians):
    """K Gaussians with one covariance matrix each.

    In an EM pass most components have no share in a row. Bounds from half of the
    features, which cost a quarter of the work and run at the speed of one large matrix
    product, say which; the others' densities are worked out.

    Parameters
    ----------
    points : ndarray of shape (K, d)
        The means, relative to the centre of all rows.
    covariances : ndarray of shape (K, d, d)
        The covariances.
    log_determinants : ndarray of shape (K,)
        Of the covariances.
    whitenings : ndarray of shape (K, d, d)
        Lower triangles W with W^T W the inverse covariances.
    """

    whitenings: NDArray[np.float64]

    @classmethod
    def of(
        cls, points: NDArray[np.float64], covariances: NDArray[np.float64]
    ) -> FullGaussians:
        """Return the Gaussians, the covariances factored."""
        whitenings, logs = np.empty_like(covariances), np.empty(len(covariances))
        for k, covariance in enumerate(covariances):
            whitenings[k], logs[k] = whitening_triangle(covariance)
        return cls(points, covariances, logs, whitenings)

    @staticmethod
    def moments(
        y: Any, shares: Any, points: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return sums and second moments about the present means.

        Rows whose share is lost in the rounding of the others' are left out.
        """
        xp = array_namespace(y)
        sums = np.zeros(points.shape)
        seconds = np.zeros((*points.shape, points.shape[1]))
        for k, point in enumerate(like(points, y)):
            (rows,) = xp.nonzero(shares[:, k] > xp.finfo(y.dtype).eps)
            share = shares[rows, k][:, None]
            u = y[rows] - point
            sums[k] = to_numpy(xp.sum(share * u, axis=0))
            u *= share**0.5
            seconds[k] = gram(u)
        return sums, seconds

    @classmethod
    def scatter(
        cls,
        counts: NDArray[np.float64],
        sums: NDArray[np.float64],
        seconds: NDArray[np.float64],
        points: NDArray[np.float64],
        total: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the means, and the scatter about them, shape (K, d, d)."""
        shifts = sums / counts[:, None]
        return points + shifts, seconds - cls.outer(shifts, counts)

    @staticmethod
    def outer(
        u: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return w u u^T, shape (K, d, d)."""
        return np.asarray((weights[:, None] * u)[:, :, None] * u[:, None, :])

    @staticmethod
    def shared(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each component's own count, shape (K, 1, 1)."""
        return counts[:, None, None]

    @staticmethod
    def ridge(n_features: int) -> NDArray[np.float64]:
        """Return the identity, shape (d, d)."""
        return np.eye(n_features)

    def log_densities(self, y: Any) -> Any:
        """Return log densities, component by component."""
        xp = array_namespace(y)
        logs = xp.zeros((len(self.points), len(y)), dtype=y.dtype, device=y.device)
        for k in range(len(self.points)):
            for start in range(0, len(y), BLOCK_ROWS):
                block = y[start : start + BLOCK_ROWS]
                logs[k, start : start + BLOCK_ROWS] = self._log_density(block, k)
        return logs.T

    def likely_log_joint(self, y: Any, log_weights: NDArray[np.float64]) -> Any:
        """Return log weight plus log density, exact where it can matter.

        A row's density under the component with the best bound, and under that with
        the nearest mean, says how far behind a bound may be.
        """
        xp = array_namespace(y)
        weights = like(log_weights, y)
        joint = self._bounds.upper(y)
        joint += weights[:, None]
        likely = _one_a_row(xp.argmax(joint, axis=0), joint)
        likely = likely | _one_a_row(nearest_points(y, like(self.points, y)), joint)
        exact = xp.where(likely, joint, -xp.inf)
        self._fill(exact, y, likely, weights)
        floor = xp.max(exact, axis=0) + float(np.log(xp.finfo(y.dtype).eps))
        joint = xp.where(likely, exact, joint)
        self._fill(joint, y, (joint > floor) & ~likely, weights)
        return joint.T

    def _fill(self, joint: Any, y: Any, wanted: Any, weights: Any) -> None:
        """Put the exact values at the wanted places of an array of shape (K, n)."""
        xp = array_namespace(y)
        for k in range(len(self.points)):
            (rows,) = xp.nonzero(wanted[k])
            for start in range(0, len(rows), BLOCK_ROWS):
                some = rows[start : start + BLOCK_ROWS]
                joint[k, some] = self._log_density(y[some], k) + weights[k]

    def _log_density(self, y: Any, k: int) -> Any:
        u = y - like(self.points[k], y)
        white = triangular_product(u, like(self.whitenings[k], y))
        return float(self._constants[k]) - 0.5 * squared_lengths(white)

    @cached_property
    def _constants(self) -> NDArray[np.float64]:
        levels = self.log_determinants + self.points.shape[1] * LOG_2_PI
        return np.asarray(-0.5 * levels)

    @cached_property
    def _bounds(self) -> MarginalBounds:
        return MarginalBounds.of(self.points, self.whitenings, self._constants)

    def float32_error(self) -> NDArray[np.float64]:
        """Return nats lost in an E step, and in the M step's smallest variances."""
        variance = np.trace(self.covariances, axis1=1, axis2=2)
        precision = (self.whitenings**2).sum(axis=(1, 2))
        moved = EPSILON * np.sqrt(variance * precision / self.points.shape[1])
        return np.asarray(moved + (0.2 * moved**2 / EPSILON) ** 2)

    def downdated(
        self, u: NDArray[np.float64], components: NDArray[np.intp], shares: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return distances and log determinants."""
        squares = np.empty(len(u))
        for k in np.unique(components):
            own = components == k
            squares[own] = ((u[own] @ self.whitenings[k].T) ** 2).sum(axis=1)
        return rank_one_downdate(squares, shares)

    @staticmethod
    def block_rows(n_components: int) -> int:
        """Return enough rows for each component's own product to pay."""
        return max(8192, 64 * n_components)


def _one_a_row(chosen: Any, joint: Any) -> Any:
    """Return a mask of the shape of ``joint`` that is True at each column's choice."""
    xp = array_namespace(joint)
    numbers = xp.arange(len(joint), device=joint.device)
    return numbers[:, None] == chosen[None, :]
