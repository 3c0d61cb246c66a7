"""Scores of in-distribution rows by detectors that have not seen them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import indexable
from sklearn.utils.validation import check_is_fitted

from skood._sklearn_compat import num_samples, safe_indexing
from skood.model_selection._estimators import in_distribution_scores
from skood.numerics.arrays import check_readable
from skood.numerics.checked import refuse_nan
from skood.numerics.labels import inlier_mask, label_array
from skood.numerics.seeds import RandomStateLike
from skood.numerics.splits import folds, share

Rows = NDArray[np.intp]
Split = tuple[Rows | None, Rows]
"""Rows to fit on (None: the detector is fitted already) and rows held out."""


@dataclass(frozen=True)
class Labelled:
    """Data and the rows of both kinds."""

    X: Any
    labels: NDArray[Any] | None
    inliers: Rows
    outliers: Rows

    @classmethod
    def of(cls, X: Any, y: ArrayLike | None) -> Labelled:
        """Read the labels; -1 marks an outlier, and without any all are inliers."""
        check_readable(X)
        X, y = indexable(X, y)
        if y is None:
            return cls(X, None, np.arange(num_samples(X)), np.arange(0))
        labels = label_array(y)
        mask = inlier_mask(labels)
        if not mask.any():
            raise ValueError(
                f"y has outliers only (all {len(mask)} labels are -1): nothing is left "
                "to fit and to calibrate on. Give in-distribution rows their class "
                "label, or 0."
            )
        return cls(X, labels, np.flatnonzero(mask), np.flatnonzero(~mask))

    @property
    def classes(self) -> NDArray[Any] | None:
        """The labels beside -1, or None without any labels."""
        return None if self.labels is None else np.unique(self.labels[self.inliers])

    def __len__(self) -> int:
        return len(self.inliers) + len(self.outliers)

    def class_numbers(self) -> Rows:
        """Return the place in ``classes`` of each in-distribution row's label."""
        if self.labels is None:
            raise ValueError(
                "class_conditional=True calibrates within classes: give y."
            )
        numbers = np.full(len(self), -1, dtype=np.intp)
        known = self.labels[self.inliers]
        numbers[self.inliers] = np.unique(known, return_inverse=True)[1]
        return numbers

    def fitted(self, detector: Any, rows: Rows | None, *, pass_outliers: bool) -> Any:
        """Return a clone fitted on some rows; None: the detector itself, fitted."""
        if rows is None:
            check_is_fitted(detector)
            return detector
        if pass_outliers:
            rows = np.sort(np.concatenate([rows, self.outliers]))
        labels = None if self.labels is None else self.labels[rows]
        return clone(detector).fit(safe_indexing(self.X, rows), labels)

    def scores(self, detector: Any, rows: Rows) -> NDArray[np.float64]:
        """Return a fitted detector's scores of some rows."""
        return usable_scores(detector, safe_indexing(self.X, rows))

    def need_two(self, detector: Any) -> None:
        """Raise ValueError where one part cannot be held out of another."""
        if len(self.inliers) < 2:
            self.refuse(
                detector,
                f"n_samples={len(self.inliers)}: some rows are held out of a fit on "
                "others, which takes at least 2 in-distribution rows.",
            )

    def refuse(self, detector: Any, message: str) -> NoReturn:
        """Raise ValueError for too few rows, if there is nothing worse about them.

        What the detector itself says of NaN, sparse matrices and the like comes first,
        as in scikit-learn: more rows would not help there.
        """
        try:
            check_is_fitted(detector)
        except NotFittedError:
            with unused_thresholds():
                self.fitted(detector, self.inliers, pass_outliers=False)
        else:
            self.scores(detector, self.inliers)
        raise ValueError(message)


def splits_of(
    cv: Any, data: Labelled, *, stratified: bool, random_state: RandomStateLike
) -> list[Split]:
    """Return (fitted, held out) pairs of in-distribution rows.

    A share or a number of folds is drawn at random, as exchangeability asks for, or
    within classes if `stratified`. A splitter is asked with all the data, and its sides
    are stripped of outliers.
    """
    if isinstance(cv, str) and cv == "prefit":
        return [(None, data.inliers)]
    if isinstance(cv, Real):
        classes = data.class_numbers()[data.inliers] if stratified else None
        return _random_splits(cv, data.inliers, classes, random_state)
    if hasattr(cv, "split") and not isinstance(cv, str):
        cv = cv.split(data.X, data.labels)
    elif isinstance(cv, str) or not isinstance(cv, Iterable):
        raise ValueError(
            f"cv={cv!r}: give a share in (0, 1), a number of folds from 2, a splitter, "
            "(train, test) pairs, or 'prefit' where it is allowed."
        )
    pairs = [tuple(_inliers_of(side, data) for side in pair) for pair in cv]
    if any(len(np.intersect1d(train, test)) for train, test in pairs):
        raise ValueError(
            f"cv={cv!r} fits and holds out the same row: what is held out must be new "
            "to the detector."
        )
    return [(train, test) for train, test in pairs]


def _inliers_of(side: ArrayLike, data: Labelled) -> Rows:
    rows = np.asarray(side)
    rows = np.flatnonzero(rows) if rows.dtype == bool else rows
    return np.intersect1d(rows, data.inliers)


def _random_splits(
    cv: Any, inliers: Rows, classes: ArrayLike | None, random_state: RandomStateLike
) -> list[Split]:
    if isinstance(cv, Integral):
        if cv < 2:
            raise ValueError(f"cv={cv!r}: a number of folds is from 2 on.")
        parts = folds(len(inliers), int(cv), classes, random_state)
    elif 0 < cv < 1:
        parts = [share(len(inliers), float(cv), classes, random_state)]
    else:
        raise ValueError(f"cv={cv!r}: a share of rows to hold out lies in (0, 1).")
    return [(np.delete(inliers, part), inliers[part]) for part in parts]


@dataclass(frozen=True)
class HeldOut:
    """Detectors, and what they say of the rows that were kept from each."""

    detectors: list[Any]
    rows: list[Rows]
    scores: list[NDArray[np.float64]]

    @classmethod
    def of(
        cls, detector: Any, data: Labelled, splits: list[Split], *, pass_outliers: bool
    ) -> HeldOut:
        """Fit one clone a split."""
        with unused_thresholds():
            detectors = [
                data.fitted(detector, train, pass_outliers=pass_outliers)
                for train, _ in splits
            ]
        rows = [test for _, test in splits]
        scores = [data.scores(d, r) for d, r in zip(detectors, rows, strict=True)]
        return cls(detectors, rows, scores)


@contextmanager
def unused_thresholds() -> Iterator[None]:
    """Keep back what detectors say of their own thresholds, which nobody asks for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "contamination=", UserWarning)
        yield


def usable_scores(detector: Any, X: Any) -> NDArray[np.float64]:
    """Return a detector's scores: higher = more in-distribution, none of them NaN."""
    scores = in_distribution_scores(detector, X)
    refuse_nan(
        scores,
        f"{type(detector).__name__} gave",
        what="scores",
        mend="Look at the rows that it could not score.",
    )
    return scores
