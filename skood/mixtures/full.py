"""Gaussians with a covariance each: hopeless components are ruled out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skood.mixtures.bounds import MarginalBounds
from skood.mixtures.gaussians import EPSILON, LOG_2_PI, Gaussians
from skood.mixtures.products import (
    gram,
    nearest_points,
    squared_lengths,
    triangular_product,
    whitening_triangle,
)
from skood.numerics.device import array_namespace, like, to_numpy
from skood.numerics.fixed_blocks import filled, filled_rows, transposed_product, whole

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
    single: ClassVar[bool] = False  # second moments that are inverted keep their digits

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
    def ridge(levels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the numbers on a diagonal, shape (d, d)."""
        return np.diag(levels)

    def log_densities(self, y: Any) -> Any:
        """Return log densities, component by component."""
        xp = array_namespace(y)
        logs = xp.zeros((len(self.points), len(y)), dtype=y.dtype, device=y.device)
        everyone = xp.arange(len(y), device=y.device)
        for k, whitening in enumerate(like(self.whitenings, y)):
            self._fill(logs[k], y, everyone, k, whitening)
        return logs.T

    def row_log_densities(self, y: Any) -> Any:
        """Return the same from products of one shape."""
        xp = array_namespace(y)
        columns = []
        for k, whitening in enumerate(self.whitenings):
            rows = filled_rows(y, whole(y.shape[1]), like(self.points[k], y))
            white = transposed_product(rows, like(filled(whitening), rows))
            squares = xp.linalg.vecdot(white, white)[: y.shape[0]]
            columns.append(float(self._constants[k]) - 0.5 * squares)
        return xp.stack(columns, axis=1)

    def likely_log_joint(self, y: Any, log_weights: NDArray[np.float64]) -> Any:
        """Return log weight plus log density, exact where it can matter.

        A row's density under the component with the best bound, and under that with
        the nearest mean, says how far behind a bound may be.
        """
        xp = array_namespace(y)
        weights = like(log_weights, y)[:, None]
        bounds = self._bounds.upper(y) + weights
        likely = _one_a_row(xp.argmax(bounds, axis=0), bounds)
        likely = likely | _one_a_row(nearest_points(y, like(self.points, y)), bounds)
        exact = self._exact(y, likely) + weights
        best = xp.max(xp.where(likely, exact, -xp.inf), axis=0)
        floor = best + float(np.log(xp.finfo(y.dtype).eps))
        others = (bounds > floor) & ~likely
        joint = xp.where(others, self._exact(y, others) + weights, bounds)
        return xp.where(likely, exact, joint).T

    def _exact(self, y: Any, wanted: Any) -> Any:
        """Return log densities at the wanted places of shape (K, n), else zeros."""
        xp = array_namespace(y)
        logs = xp.zeros(wanted.shape, dtype=y.dtype, device=y.device)
        for k, whitening in enumerate(like(self.whitenings, y)):
            self._fill(logs[k], y, xp.nonzero(wanted[k])[0], k, whitening)
        return logs

    def _fill(self, logs: Any, y: Any, rows: Any, k: int, whitening: Any) -> None:
        """Put the log densities of some rows under one component in their places."""
        point, constant = like(self.points[k], y), float(self._constants[k])
        for start in range(0, len(rows), BLOCK_ROWS):
            some = rows[start : start + BLOCK_ROWS]
            white = triangular_product(y[some] - point, whitening)
            logs[some] = constant - 0.5 * squared_lengths(white)

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

    @staticmethod
    def block_rows(n_components: int) -> int:
        """Return enough rows for each component's own product to pay."""
        return max(8192, 64 * n_components)


def _one_a_row(chosen: Any, joint: Any) -> Any:
    """Return a mask of the shape of ``joint`` that is True at each column's choice."""
    xp = array_namespace(joint)
    numbers = xp.arange(len(joint), device=joint.device)
    return numbers[:, None] == chosen[None, :]
