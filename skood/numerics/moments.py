"""Class means and the scatter around them, gathered by chunks without cancellation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from skood.numerics.device import to_numpy
from skood.numerics.threads import threads_for

BLOCK_ROWS = 1024
MERGED_CLASSES = 2048

PIECE_ROWS, PIECE_ELEMENTS = 512, 1 << 21
"""Rows that a thread takes at a time: at least so many, or so many numbers.

A quarter of a chunk; it does not depend on the threads, and so no rounding does.
"""

DENSE_CLASSES = 32
"""Classes up to which rows are summed up by a full product."""

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
        Sum over all rows of (x - mean of its class)(x - mean of its class)^T.
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
        for some in _slices(len(places), MERGED_CLASSES):
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
        for some in _slices(len(self.counts), MERGED_CLASSES):
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
        return self.scatter / self.counts.sum()


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
        pieces = _pieces(*x.shape)
        with threads_for(len(pieces)) as mapped:
            centres = _rough_means(x, labels, counts)
            # A class of few rows is centred on its mean: its sum is rounding then.
            many = counts > SAMPLE
            n_summed = len(counts) if many.any() else 0
            sums = np.zeros((n_summed, x.shape[1]))
            scatter = _scatter(x, labels, centres, sums, mapped, pieces)
        shifts = sums[many[: len(sums)]] / counts[many, None]
        centres[many] += shifts
        scatter -= _products(shifts * np.sqrt(counts[many])[:, None])
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
        for rows in _slices(len(classes), BLOCK_ROWS):
            centred = _centred(to_numpy(x[rows]), classes[rows], means)
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
    return _sums(x, classes, n_classes, 0.0)


def _sums(
    x: Any,
    labels: NDArray[np.intp],
    n_classes: int,
    origin: float | NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the sums of the rows of each class, less an origin."""
    sums = np.zeros((n_classes, x.shape[1]))
    for rows in _slices(len(labels), BLOCK_ROWS):
        block = np.subtract(to_numpy(x[rows]), origin, dtype=np.float64)
        present, part = _part_sums(block, labels[rows], n_classes)
        sums[present] += part
    return sums


def _part_sums(
    rows: NDArray[np.float64], labels: NDArray[np.intp], n_classes: int
) -> tuple[slice | NDArray[np.intp], NDArray[np.float64]]:
    """Return which classes there are rows of, all or those, and the sums of these."""
    if n_classes == 0:
        return slice(None), rows[:0]
    if n_classes == 1:
        return slice(None), rows.sum(axis=0)[None]
    if n_classes <= DENSE_CLASSES:
        return slice(None), _members(labels, n_classes).T @ rows
    present, places = np.unique(labels, return_inverse=True)
    ones, numbers = np.ones(len(labels)), np.arange(len(labels))
    members = csr_array((ones, (places, numbers)), (len(present), len(labels)))
    return present, members @ rows


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
    means = _sums(x, labels, len(counts), origin)
    means /= np.bincount(labels)[:, None]
    means += origin
    return means


def _scatter(
    x: Any,
    labels: NDArray[np.intp],
    centres: NDArray[np.float64],
    sums: NDArray[np.float64],
    mapped: Callable[..., Iterator[Any]],
    pieces: list[slice],
) -> NDArray[np.float64]:
    """Return the sum of the outer products of rows less their centres.

    These rows are added to the sums of their classes, if there are any.
    """
    if not isinstance(x, np.ndarray):
        return _scatter_on_device(x, labels, centres, sums)
    scatter = np.zeros((x.shape[1], x.shape[1]))

    def of_rows(rows: slice) -> tuple[Any, NDArray[np.float64], NDArray[np.float64]]:
        centred = _centred(x[rows], labels[rows], centres)
        return *_part_sums(centred, labels[rows], len(sums)), centred.T @ centred

    for present, part, products in mapped(of_rows, pieces):
        sums[present] += part
        scatter += products
    return scatter


def _scatter_on_device(
    x: Any,
    labels: NDArray[np.intp],
    centres: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> NDArray[np.float64]:
    on_device = x.new_tensor(centres, dtype=x.double().dtype)
    total = x.new_zeros((x.shape[1], x.shape[1])).double()
    for rows in _slices(len(labels), BLOCK_ROWS):
        centred = x[rows].double() - on_device[labels[rows]]
        total += centred.T @ centred
        present, part = _part_sums(to_numpy(centred), labels[rows], len(sums))
        sums[present] += part
    return to_numpy(total)


def _centred(
    rows: NDArray[Any], labels: NDArray[np.intp], means: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return rows less the mean of their class, in float64."""
    if len(means) == 1:
        return np.subtract(rows, means)
    centred = np.take(means, labels, axis=0)
    return np.subtract(rows, centred, out=centred)


def _products(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of the outer products of rows."""
    with threads_for(1):  # few rows are not worth that BLAS wakes its threads
        return rows.T @ rows


def _pieces(n_rows: int, width: int) -> list[slice]:
    return _slices(n_rows, max(PIECE_ROWS, PIECE_ELEMENTS // max(width, 1)))


def _slices(length: int, step: int) -> list[slice]:
    return [slice(s, min(s + step, length)) for s in range(0, length, step)]


def _numbers_among(
    present: NDArray[np.intp], classes: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Return the place of each row's class among those that are present."""
    if len(present) == 0 or present[-1] == len(present) - 1:
        return classes
    places = np.zeros(present[-1] + 1, dtype=np.intp)
    places[present] = np.arange(len(present))
    return places[classes]
