"""Means of rows by class: of all rows, those predicted as it, or rightly so."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from skood.numerics.device import array_namespace, to_numpy
from skood.numerics.moments import class_sums
from skood.numerics.rows import cache_slices

if TYPE_CHECKING:
    from skood.detectors.head.base import HeadDetector
    from skood.detectors.training import Training

__all__ = [
    "ClassSums",
    "correct_sums",
    "has_many_classes",
    "mean_row",
    "predicted",
    "predicted_sums",
]

MANY_CLASSES = 64
"""Above which sums by class have more rows than the few that stay in the cache."""


@dataclass(frozen=True, eq=False)
class ClassSums:
    """Rows and their sums by class.

    Parameters
    ----------
    counts : ndarray of shape (C,)
        Rows of each class.
    sums : ndarray of shape (C, d)
        Their sums.
    """

    counts: NDArray[np.float64]
    sums: NDArray[np.float64]

    @classmethod
    def of(cls, x: Any, classes: NDArray[np.intp], n_classes: int) -> ClassSums:
        """Return the sums of some rows, NumPy or torch."""
        counts = np.bincount(classes, minlength=n_classes).astype(np.float64)
        if n_classes <= MANY_CLASSES:
            return cls(counts, class_sums(x, classes, n_classes))
        places = classes, np.arange(len(classes))
        members = csr_array((np.ones(len(classes)), places), (n_classes, len(classes)))
        return cls(counts, members @ to_numpy(x))

    def merge(self, other: ClassSums) -> ClassSums:
        """Return the sums of both sets of rows."""
        return ClassSums(self.counts + other.counts, self.sums + other.sums)

    @property
    def overall(self) -> NDArray[np.float64]:
        """The mean of all rows, shape (d,)."""
        return self.sums.sum(axis=0) / self.counts.sum()

    def means(self, what: str) -> NDArray[np.float64]:
        """Return the classes' means, shape (C, d).

        A class without rows gets the mean of all, and a warning says so; ``what``
        names such rows.
        """
        empty = np.flatnonzero(self.counts == 0)
        if len(empty) == len(self.counts):
            raise ValueError(
                f"no {what} for any class: are the labels columns of the logits, or in "
                "their order?"
            )
        if len(empty):
            listed = ", ".join(map(str, empty[:5])) + (
                ", ..." if empty[5:].size else ""
            )
            warnings.warn(
                f"no {what} for {len(empty)} of the {len(self.counts)} classes "
                f"(columns {listed} of the logits): the mean of all such rows stands "
                "for theirs. Give fit rows of every class.",
                UserWarning,
                stacklevel=7,
            )
        means = self.sums / np.maximum(self.counts, 1)[:, None]
        means[empty] = self.overall
        return means


def predicted(z: Any) -> NDArray[np.intp]:
    """Return the column of the largest logit of each row, as a NumPy array."""
    return to_numpy(array_namespace(z).argmax(z, axis=1))


def mean_row(detector: HeadDetector, training: Training) -> NDArray[np.float64]:
    """Return the mean of the penultimate features, shape (d,)."""

    def of(h: Any, _z: Any, _classes: Any) -> ClassSums:
        xp, slices = array_namespace(h), cache_slices(h, h.shape[1])
        parts = [to_numpy(xp.sum(h[rows], axis=0, dtype=xp.float64)) for rows in slices]
        return ClassSums(np.array([float(len(h))]), np.sum(parts, axis=0)[None])

    found = detector._gathered(of, training, logits=False, whole_blocks=True)
    return found.overall


def predicted_sums(detector: HeadDetector, training: Training) -> ClassSums:
    """Return the sums of the penultimate features by predicted class."""
    return detector._gathered(
        lambda h, z, _: ClassSums.of(h, predicted(z), z.shape[1]),
        training,
        whole_blocks=has_many_classes(detector),
    )


def correct_sums(detector: HeadDetector, training: Training) -> ClassSums:
    """Return the sums of the rows that are predicted as what they are labelled."""
    assert detector.head_ is not None
    n_logits, many = len(detector.head_.bias), has_many_classes(detector)

    def of(h: Any, _z: Any, columns: NDArray[np.intp]) -> ClassSums:
        some = columns >= 0
        return ClassSums.of(h[some], columns[some], n_logits)

    largest = detector._largest_logits(training)
    columns = detector._label_columns(training, largest)
    right = np.where(columns == largest, columns, -1)
    return detector._gathered(of, training, right, logits=False, whole_blocks=many)


def has_many_classes(detector: HeadDetector) -> bool:
    """Return whether sums by class are larger than a few rows."""
    assert detector.head_ is not None
    return len(detector.head_.bias) > MANY_CLASSES
