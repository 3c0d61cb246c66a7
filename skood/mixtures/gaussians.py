"""What the Gaussians of a mixture can do, whatever their covariances are like."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skood.numerics.device import like

EPSILON = float(np.finfo(np.float32).eps)
LOG_2_PI = float(np.log(2 * np.pi))
BLOCK_ELEMENTS = 1 << 20
"""Entries of one block's (rows, components) matrix: 4 MB in float32, for the cache."""


@dataclass(frozen=True, eq=False)
class Gaussians(ABC):
    """K Gaussians of one covariance type; the rows they see are centred.

    Parameters
    ----------
    points : ndarray of shape (K, d)
        The means, relative to the centre of all rows.
    covariances : ndarray
        (K, d) diagonals, (K, d, d) full matrices, or (d, d) one tied matrix.
    log_determinants : ndarray of shape (K,)
        Of the covariances.
    """

    points: NDArray[np.float64]
    covariances: NDArray[np.float64]
    log_determinants: NDArray[np.float64]
    tied: ClassVar[bool] = False
    single: ClassVar[bool] = True
    """Whether float32 will do for float32 rows, where its error is small."""

    @classmethod
    @abstractmethod
    def of(
        cls, points: NDArray[np.float64], covariances: NDArray[np.float64]
    ) -> Gaussians:
        """Return the Gaussians, factored.

        Raises
        ------
        LinAlgError
            If a covariance is not positive definite.
        """

    @staticmethod
    @abstractmethod
    def moments(
        y: Any, shares: Any, points: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the weighted sums and second moments of a block of rows.

        Parameters
        ----------
        y : array of shape (n, d)
            Centred rows.
        shares : array of shape (n, K)
            How much of each row belongs to each component.
        points : ndarray of shape (K, d)
            The components' present means.

        Returns
        -------
        ndarray of shape (K, d), ndarray
            About what origin they are is the covariance type's own affair: its
            ``scatter`` undoes it.
        """

    @classmethod
    @abstractmethod
    def scatter(
        cls,
        counts: NDArray[np.float64],
        sums: NDArray[np.float64],
        seconds: NDArray[np.float64],
        points: NDArray[np.float64],
        total: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the new means, and the scatter about them, from summed moments.

        Parameters
        ----------
        counts : ndarray of shape (K,)
            Rows of each component, positive.
        sums, seconds : ndarray
            What ``moments`` gave for all rows.
        points : ndarray of shape (K, d)
            The means that it was given.
        total : ndarray of shape (d, d)
            Sum of y y^T over all rows; only a tied covariance reads it.

        Returns
        -------
        ndarray of shape (K, d), ndarray of the covariances' shape
        """

    @staticmethod
    @abstractmethod
    def outer(
        u: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the components' w u u^T, in the shape of the covariances.

        Parameters
        ----------
        u : ndarray of shape (K, d)
            A vector for each component.
        weights : ndarray of shape (K,)
            Its weight.

        Returns
        -------
        ndarray
            Their sum where the covariance is tied.
        """

    @staticmethod
    @abstractmethod
    def shared(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the counts behind each covariance, so that they multiply it."""

    @staticmethod
    @abstractmethod
    def ridge(levels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return one number a feature, so that they add to a covariance's diagonal."""

    @abstractmethod
    def log_densities(self, y: Any) -> Any:
        """Return the log density of each row under each component, shape (n, K)."""

    @abstractmethod
    def row_log_densities(self, y: Any) -> Any:
        """Return the same in float64, to the last bit alike in every batch.

        Parameters
        ----------
        y : array of float64, shape (n, d)
            Centred rows, NumPy or torch.

        Returns
        -------
        array of float64, shape (n, K)
        """

    def likely_log_joint(self, y: Any, log_weights: NDArray[np.float64]) -> Any:
        """Return log weight plus log density, shape (n, K).

        Where the component has no share in the row, down to the rounding of the type,
        any number that says so will do.
        """
        joint = self.log_densities(y)
        joint += like(log_weights, y)
        return joint

    @abstractmethod
    def float32_error(self) -> NDArray[np.float64]:
        """Return an estimate of what float32 costs, in nats a row, by component.

        It was compared with the error itself, on features of networks and on made-up
        ones far from their centre, sparse or of low rank: right within a factor of
        three, or too large.
        """

    def __getstate__(self) -> dict[str, Any]:
        # What is worked out of the fields when first needed stays out of files.
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @staticmethod
    def block_rows(n_components: int) -> int:
        """Return how many rows to take at once."""
        return max(1024, BLOCK_ELEMENTS // n_components)
