"""Class means and the scatter around them, gathered by chunks without cancellation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk
from scipy.sparse import csr_array

from skood._device import like, to_numpy

BLOCK_ROWS = 1024
MERGED_CLASSES = 2048


@dataclass(frozen=True, eq=False)
class ClassMoments:
    """Counts, means and pooled within-class scatter of labelled rows.

    Everything is in float64, from centred differences, whatever the rows are: products
    of float32 lose the directions of little variance, and those decide a distance. Two
    sets of rows merge pairwise (Chan, Golub and LeVeque 1979), so that nothing is ever
    the difference of two large sums.

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
        """Return the moments of some rows.

        Parameters
        ----------
        x : array of shape (n, d)
            float32 or float64, NumPy or torch.
        classes : ndarray of int, shape (n,)
            Class of each row.
        n_classes : int
            C.

        Returns
        -------
        ClassMoments
        """
        return PartMoments.of(x, classes).whole(n_classes)

    def merge(self, other: ClassMoments) -> ClassMoments:
        """Return the moments of both sets of rows."""
        return self.extended(other, np.arange(len(other.counts)))

    def extended(self, other: ClassMoments, places: NDArray[np.intp]) -> ClassMoments:
        """Return the moments of both sets of rows.

        Parameters
        ----------
        other : ClassMoments
            Of other rows.
        places : ndarray of int
            The number, here, of each of its classes; each once.

        Returns
        -------
        ClassMoments
        """
        counts, means = self.counts.copy(), self.means.copy()
        scatter = self.scatter + other.scatter
        for start in range(0, len(places), MERGED_CLASSES):
            some = slice(start, start + MERGED_CLASSES)
            here, more = places[some], other.counts[some]
            before, together = counts[here], counts[here] + more
            share = more / np.maximum(together, 1)
            shift = other.means[some] - means[here]
            counts[here] = together
            means[here] += share[:, None] * shift
            shift *= np.sqrt(before * share)[:, None]
            scatter += _products(shift[(before > 0) & (more > 0)])
        return ClassMoments(counts, means, scatter)

    def among(self, places: NDArray[np.intp], n_classes: int) -> ClassMoments:
        """Return the same moments with each class at its place among more classes."""
        counts = np.zeros(n_classes)
        means = np.zeros((n_classes, self.means.shape[1]))
        counts[places], means[places] = self.counts, self.means
        return ClassMoments(counts, means, self.scatter)

    def pooled(self) -> ClassMoments:
        """Return the moments of the same rows as one class."""
        n, mean = self.counts.sum(), self.mean()
        scatter = self.scatter.copy()
        for start in range(0, len(self.counts), MERGED_CLASSES):
            some = slice(start, start + MERGED_CLASSES)
            weights = np.sqrt(self.counts[some])[:, None]
            scatter += _products((self.means[some] - mean) * weights)
        return ClassMoments(np.array([n]), mean[None], scatter)

    def mean(self) -> NDArray[np.float64]:
        """Return the mean of all rows, shape (d,)."""
        return np.asarray(self.counts / self.counts.sum() @ self.means)

    def variances(self) -> NDArray[np.float64]:
        """Return the features' variances within the classes, shape (d,)."""
        return np.asarray(np.diag(self.scatter) / self.counts.sum())

    def covariance(self) -> NDArray[np.float64]:
        """Return the tied (pooled within-class) covariance, divided by n."""
        lower = self.scatter / self.counts.sum()
        return lower + np.tril(lower, -1).T


@dataclass(frozen=True, eq=False)
class PartMoments:
    """Moments of a chunk, which hold the classes that it has rows of.

    A chunk of few rows among many classes would else be mostly zeros.

    Parameters
    ----------
    present : ndarray of int
        Those classes, ascending.
    moments : ClassMoments
        Theirs, in this order.
    """

    present: NDArray[np.intp]
    moments: ClassMoments

    @classmethod
    def of(cls, x: Any, classes: NDArray[np.intp]) -> PartMoments:
        """Return the moments of rows of shape (n, d)."""
        present, labels = np.unique(classes, return_inverse=True)
        counts = np.bincount(labels, minlength=len(present)).astype(np.float64)
        # Sums are taken from one of the rows: far from zero they would lose digits.
        origin = to_numpy(x[0]).astype(np.float64)
        means = class_sums(x, labels, len(present), origin)
        means /= counts[:, None]
        means += origin
        return cls(present, ClassMoments(counts, means, _scatter(x, labels, means)))

    def merge(self, other: PartMoments) -> PartMoments:
        """Return the moments of both sets of rows."""
        present = np.union1d(self.present, other.present)
        mine = self.moments
        if len(present) > len(self.present):
            mine = mine.among(np.searchsorted(present, self.present), len(present))
        places = np.searchsorted(present, other.present)
        return PartMoments(present, mine.extended(other.moments, places))

    def whole(self, n_classes: int) -> ClassMoments:
        """Return the moments among all classes."""
        if len(self.present) == n_classes:
            return self.moments
        return self.moments.among(self.present, n_classes)


@dataclass(frozen=True, eq=False)
class FourthMoment:
    """Sum over rows of the fourth power of their distance to their class mean.

    Ledoit's and Wolf's shrinkage needs it. The means are those of all rows, so that it
    takes a second look at them.
    """

    total: float

    @classmethod
    def of(
        cls, x: Any, classes: NDArray[np.intp], means: NDArray[np.float64]
    ) -> FourthMoment:
        """Return the sum of some rows."""
        total = 0.0
        for centred in _centred_blocks(x, classes, means):
            squares = np.einsum("ij,ij->i", centred, centred)
            total += float(squares @ squares)
        return cls(total)

    def merge(self, other: FourthMoment) -> FourthMoment:
        """Return the sum of both sets of rows."""
        return FourthMoment(self.total + other.total)


def class_sums(
    x: Any,
    classes: NDArray[np.intp],
    n_classes: int,
    origin: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the sum of the rows of each class.

    Parameters
    ----------
    x : array of shape (n, d)
        NumPy or torch; summed in float64.
    classes : ndarray of int, shape (n,)
        Class of each row.
    n_classes : int
        C.
    origin : ndarray of float64, shape (d,), optional
        Taken off each row.

    Returns
    -------
    ndarray of float64, shape (C, d)
    """
    start_from = np.zeros(x.shape[1]) if origin is None else origin
    sums = np.zeros((n_classes, x.shape[1]))
    for start in range(0, len(classes), BLOCK_ROWS):
        block = to_numpy(x[start : start + BLOCK_ROWS]) - start_from
        present, labels = np.unique(
            classes[start : start + BLOCK_ROWS], return_inverse=True
        )
        if len(present) == 1:
            sums[present[0]] += block.sum(axis=0)
            continue
        ones, rows = np.ones(len(labels)), np.arange(len(labels))
        members = csr_array((ones, (labels, rows)), (len(present), len(labels)))
        sums[present] += members @ block
    return sums


def _scatter(
    x: Any, classes: NDArray[np.intp], means: NDArray[np.float64]
) -> NDArray[np.float64]:
    if not isinstance(x, np.ndarray):
        return _scatter_on_device(x, classes, means)
    total = np.zeros((x.shape[1], x.shape[1]), order="F")
    for centred in _centred_blocks(x, classes, means):
        total = dsyrk(1.0, centred.T, beta=1.0, c=total, lower=1, overwrite_c=1)
    return np.tril(total)


def _scatter_on_device(
    x: Any, classes: NDArray[np.intp], means: NDArray[np.float64]
) -> NDArray[np.float64]:
    centres = like(means, x.double())
    total = x.new_zeros((x.shape[1], x.shape[1])).double()
    for start in range(0, len(classes), BLOCK_ROWS):
        some = slice(start, start + BLOCK_ROWS)
        centred = x[some].double() - centres[classes[some]]
        total += centred.T @ centred
    return np.tril(to_numpy(total))


def _centred_blocks(
    x: Any, classes: NDArray[np.intp], means: NDArray[np.float64]
) -> Any:
    """Yield rows less the mean of their class, a block at a time in one buffer."""
    buffer = np.empty((min(BLOCK_ROWS, len(classes)), x.shape[1]))
    for start in range(0, len(classes), BLOCK_ROWS):
        labels = classes[start : start + BLOCK_ROWS]
        centred = buffer[: len(labels)]
        block = to_numpy(x[start : start + BLOCK_ROWS])
        if len(means) == 1:
            np.subtract(block, means[0], out=centred)
        else:
            np.take(means, labels, axis=0, out=centred, mode="clip")
            np.subtract(block, centred, out=centred)
        yield centred


def _products(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of the rows' outer products, its lower triangle only."""
    if len(rows) == 0:
        return np.zeros((rows.shape[1], rows.shape[1]))
    return dsyrk(1.0, rows.T, lower=1)
