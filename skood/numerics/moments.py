"""Class means and the scatter around them, gathered by chunks without cancellation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dgemm, dsyrk
from scipy.sparse import csr_array

from skood.numerics.device import to_numpy

BLOCK_ROWS = 1024
MERGED_CLASSES = 2048

DENSE_CLASSES = 32
"""Classes up to which means are taken off and rows summed up by a full product."""

SAMPLE = 64
"""Rows of a class that say roughly where its mean is."""


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

    @np.errstate(over="ignore", invalid="ignore")
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
            scatter = _with_products(scatter, shift[(before > 0) & (more > 0)])
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
            scatter = _with_products(scatter, (self.means[some] - mean) * weights)
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
    @np.errstate(over="ignore", invalid="ignore")  # Whitening says what is too large
    def of(cls, x: Any, classes: NDArray[np.intp]) -> PartMoments:
        """Return the moments of rows of shape (n, d)."""
        counts = np.bincount(classes).astype(np.float64)
        present = np.flatnonzero(counts)
        counts, labels = counts[present], _numbers_among(present, classes)
        centres = _rough_means(x, labels, counts)
        sums, scatter = _sums_and_scatter(x, labels, centres)
        shifts = sums / counts[:, None]
        centres += shifts
        # A class of few rows was centred on its mean: the shift is rounding then.
        many = counts > SAMPLE
        roots = np.sqrt(counts[many])[:, None]
        scatter = _with_products(scatter, shifts[many] * roots, sign=-1.0)
        return cls(present, ClassMoments(counts, centres, scatter))

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
        for centred, _ in _centred_blocks(x, classes, means):
            squares = np.einsum("ij,ij->i", centred, centred)
            total += float(squares @ squares)
        return cls(total)

    def merge(self, other: FourthMoment) -> FourthMoment:
        """Return the sum of both sets of rows."""
        return FourthMoment(self.total + other.total)


def class_sums(
    x: Any, classes: NDArray[np.intp], n_classes: int
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

    Returns
    -------
    ndarray of float64, shape (C, d)
    """
    return _sums(x, classes, np.zeros((n_classes, x.shape[1])))


def _sums(
    x: Any,
    classes: NDArray[np.intp],
    sums: NDArray[np.float64],
    origin: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Add the rows, less an origin, to the sums of their classes."""
    one = np.zeros((1, x.shape[1])) if origin is None else origin[None]
    for block, labels in _centred_blocks(x, np.zeros_like(classes), one, classes):
        _add(block, labels, sums)
    return sums


def _add(
    block: NDArray[np.float64], labels: NDArray[np.intp], sums: NDArray[np.float64]
) -> None:
    if len(sums) == 1:
        sums += block.sum(axis=0)
        return
    if len(sums) <= DENSE_CLASSES:
        sums += dgemm(1.0, block.T, _members(labels, len(sums)).T, trans_b=1).T
        return
    few = len(sums) <= len(labels)
    present, places = (
        (slice(None), labels) if few else np.unique(labels, return_inverse=True)
    )
    ones, rows = np.ones(len(labels)), np.arange(len(labels))
    n_classes = len(sums) if few else len(present)  # type: ignore[arg-type]
    sparse = csr_array((ones, (places, rows)), (n_classes, len(labels)))
    sums[present] += sparse @ block


def _members(labels: NDArray[np.intp], n_classes: int) -> NDArray[np.float64]:
    """Return whether a row is of a class, of shape (rows, classes)."""
    members = np.zeros((len(labels), n_classes))
    members[np.arange(len(labels)), labels] = 1
    return members


def _rough_means(
    x: Any, labels: NDArray[np.intp], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return each class's mean over some of its rows, evenly among all; of few, all.

    What is centred on it is small, so that nothing is lost when the rest is corrected.
    """
    small = labels.astype(np.min_scalar_type(len(counts)))  # which NumPy sorts faster
    order = np.argsort(small, kind="stable")
    sizes = counts.astype(np.intp)
    ends = np.cumsum(sizes)
    places = np.arange(len(labels)) - np.repeat(ends - sizes, sizes)
    steps = -(-sizes // SAMPLE)
    rows = np.sort(order[places % np.repeat(steps, sizes) == 0])
    if len(rows) < len(labels):
        x, labels = x[rows], labels[rows]
    # Sums are taken from one of the rows: far from zero they would lose digits.
    origin = to_numpy(x[0]).astype(np.float64)
    means = _sums(x, labels, np.zeros((len(counts), x.shape[1])), origin)
    means /= np.bincount(labels)[:, None]
    means += origin
    return means


def _sums_and_scatter(
    x: Any, labels: NDArray[np.intp], centres: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sums of rows less their centres, and of their outer products."""
    sums = np.zeros_like(centres)
    if not isinstance(x, np.ndarray):
        return sums, _scatter_on_device(x, labels, centres, sums)
    total = np.zeros((x.shape[1], x.shape[1]), order="F")
    for centred, some in _centred_blocks(x, labels, centres):
        total = dsyrk(1.0, centred.T, beta=1.0, c=total, lower=1, overwrite_c=1)
        _add(centred, some, sums)
    return sums, total


def _scatter_on_device(
    x: Any,
    labels: NDArray[np.intp],
    centres: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> NDArray[np.float64]:
    on_device = x.new_tensor(centres, dtype=x.double().dtype)
    total = x.new_zeros((x.shape[1], x.shape[1])).double()
    for start in range(0, len(labels), BLOCK_ROWS):
        some = slice(start, start + BLOCK_ROWS)
        centred = x[some].double() - on_device[labels[some]]
        total += centred.T @ centred
        _add(to_numpy(centred), labels[some], sums)
    return np.tril(to_numpy(total))


def _centred_blocks(
    x: Any,
    classes: NDArray[np.intp],
    means: NDArray[np.float64],
    labels: NDArray[np.intp] | None = None,
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.intp]]]:
    """Yield rows less the mean of their class, in one buffer, and their labels.

    The labels are the classes where no others are given.
    """
    labels = classes if labels is None else labels
    buffer = np.empty((min(BLOCK_ROWS, len(classes)), x.shape[1]))
    for start in range(0, len(classes), BLOCK_ROWS):
        some = slice(start, start + BLOCK_ROWS)
        block = to_numpy(x[some])
        centred = buffer[: len(block)]
        if len(means) <= DENSE_CLASSES:
            centred[:] = block
            members = _members(classes[some], len(means))  # 0 or 1: nothing is rounded
            dgemm(-1.0, means.T, members.T, beta=1.0, c=centred.T, overwrite_c=1)
        else:
            np.take(means, classes[some], axis=0, out=centred, mode="clip")
            np.subtract(block, centred, out=centred)
        yield centred, labels[some]


def _numbers_among(
    present: NDArray[np.intp], classes: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Return the place of each row's class among those that are present."""
    if len(present) == 0 or present[-1] == len(present) - 1:
        return classes
    places = np.zeros(present[-1] + 1, dtype=np.intp)
    places[present] = np.arange(len(present))
    return places[classes]


def _with_products(
    scatter: NDArray[np.float64], rows: NDArray[np.float64], sign: float = 1.0
) -> NDArray[np.float64]:
    """Return a lower triangle with the rows' outer products added, in its memory."""
    if len(rows) == 0:
        return scatter
    return dsyrk(sign, rows.T, beta=1.0, c=scatter, lower=1, overwrite_c=1)
