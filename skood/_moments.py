"""Class means and the scatter around them, gathered by chunks without cancellation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky, eigh
from scipy.linalg.blas import dsyrk, ssyrk
from scipy.linalg.lapack import dtrtri
from scipy.sparse import csr_array

from skood._device import to_numpy

BLOCK_ROWS = 4096


@dataclass(frozen=True, eq=False)
class ClassMoments:
    """Counts, means and pooled within-class scatter of labelled rows.

    Two sets of rows merge pairwise (Chan, Golub and LeVeque 1979), so that nothing is
    ever the difference of two large sums.

    Parameters
    ----------
    counts : ndarray of shape (C,)
        Rows of each class.
    means : ndarray of shape (C, d)
        Their means; zero for a class without rows.
    scatter : ndarray of shape (d, d)
        Sum over all rows of (x - mean of its class)(x - mean of its class)^T; the
        lower triangle, 0 above.
    """

    counts: NDArray[np.float64]
    means: NDArray[np.float64]
    scatter: NDArray[np.float64]

    @classmethod
    def of(cls, x: Any, classes: NDArray[np.intp], n_classes: int) -> ClassMoments:
        """Return the moments of one chunk.

        Parameters
        ----------
        x : array of shape (n, d)
            float32 or float64, NumPy or torch. The products are in its precision (the
            rows are centred first), the sums over blocks in float64.
        classes : ndarray of int, shape (n,)
            Class of each row.
        n_classes : int
            C.

        Returns
        -------
        ClassMoments
        """
        counts = np.bincount(classes, minlength=n_classes).astype(np.float64)
        means = class_sums(x, classes, n_classes) / np.maximum(counts, 1)[:, None]
        return cls(counts, means, _scatter(x, classes, means))

    def merge(self, other: ClassMoments) -> ClassMoments:
        """Return the moments of both sets of rows."""
        counts = self.counts + other.counts
        share = other.counts / np.maximum(counts, 1)
        shift = other.means - self.means
        means = self.means + share[:, None] * shift
        between = shift * np.sqrt(self.counts * share)[:, None]
        used = (self.counts > 0) & (other.counts > 0)
        scatter = self.scatter + other.scatter + _products(between[used])
        return ClassMoments(counts, means, scatter)

    def among(self, places: NDArray[np.intp], n_classes: int) -> ClassMoments:
        """Return the same moments with each class at its place among more classes."""
        counts = np.zeros(n_classes)
        means = np.zeros((n_classes, self.means.shape[1]))
        counts[places], means[places] = self.counts, self.means
        return ClassMoments(counts, means, self.scatter)

    def pooled(self) -> ClassMoments:
        """Return the moments of the same rows as one class."""
        n = self.counts.sum()
        mean = self.counts @ self.means / n
        between = (self.means - mean) * np.sqrt(self.counts)[:, None]
        scatter = self.scatter + _products(between)
        return ClassMoments(np.array([n]), mean[None], scatter)

    def covariance(self) -> NDArray[np.float64]:
        """Return the tied (pooled within-class) covariance, divided by n."""
        lower = self.scatter / self.counts.sum()
        return lower + np.tril(lower, -1).T


def whitening_of(covariance: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
    """Return W with W W^T the inverse of ``covariance`` + ``ridge`` * trace / d * I.

    Parameters
    ----------
    covariance : ndarray of shape (d, d)
        Symmetric, positive semi-definite up to rounding.
    ridge : float
        Relative to the mean variance, so that the scale of the features is no matter.

    Returns
    -------
    ndarray of shape (d, d)
        Rows x are whitened by ``x @ W``.

    Raises
    ------
    ValueError
        If the features do not vary at all.
    """
    level = np.trace(covariance) / len(covariance)
    if not level > 0:
        raise ValueError(
            "the features are constant within the classes (n_features = "
            f"{len(covariance)}): there is no covariance to measure distances with."
        )
    padded = covariance + ridge * level * np.eye(len(covariance))
    try:
        lower = cholesky(padded, lower=True, check_finite=False)
    except LinAlgError:
        # Rounding made small eigenvalues negative: they are zero, the ridge stays.
        values, vectors = eigh(covariance, check_finite=False)
        return vectors / np.sqrt(np.maximum(values, 0) + ridge * level)
    return np.ascontiguousarray(dtrtri(lower, lower=1)[0].T)


def class_sums(
    x: Any, classes: NDArray[np.intp], n_classes: int
) -> NDArray[np.float64]:
    """Return the sum of the rows of each class.

    Parameters
    ----------
    x : array of shape (n, d)
        NumPy or torch. Short blocks are summed in its precision, then in float64.
    classes : ndarray of int, shape (n,)
        Class of each row.
    n_classes : int
        C.

    Returns
    -------
    ndarray of float64, shape (C, d)
    """
    sums = np.zeros((n_classes, x.shape[1]))
    for start in range(0, len(classes), BLOCK_ROWS):
        block, labels = (
            x[start : start + BLOCK_ROWS],
            classes[start : start + BLOCK_ROWS],
        )
        if isinstance(block, np.ndarray):
            rows = np.arange(len(labels))
            ones = np.ones(len(labels), dtype=block.dtype)
            sums += csr_array((ones, (labels, rows)), (n_classes, len(labels))) @ block
        else:
            part = block.new_zeros((n_classes, block.shape[1]))
            part.index_add_(0, part.new_tensor(labels).long(), block)
            sums += to_numpy(part)
    return sums


def _scatter(
    x: Any, classes: NDArray[np.intp], means: NDArray[np.float64]
) -> NDArray[np.float64]:
    total = np.zeros((x.shape[1], x.shape[1]), order="F")
    numpy = isinstance(x, np.ndarray)
    centres = means.astype(x.dtype) if numpy else x.new_tensor(means)
    syrk = ssyrk if numpy and x.dtype == np.float32 else dsyrk
    buffer = np.empty((min(BLOCK_ROWS, len(x)), x.shape[1]), x.dtype) if numpy else None
    for start in range(0, len(classes), BLOCK_ROWS):
        labels = classes[start : start + BLOCK_ROWS]
        block = x[start : start + BLOCK_ROWS]
        if buffer is not None:
            centred = buffer[: len(block)]
            np.take(centres, labels, axis=0, out=centred, mode="clip")
            np.subtract(block, centred, out=centred)
            total += syrk(1.0, centred.T, lower=1)
        else:
            centred = block - centres[labels]
            total += np.tril(to_numpy(centred.T @ centred))
    return total


def _products(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of the rows' outer products, its lower triangle only."""
    if len(rows) == 0:
        return np.zeros((rows.shape[1], rows.shape[1]))
    return dsyrk(1.0, rows.T, lower=1)
