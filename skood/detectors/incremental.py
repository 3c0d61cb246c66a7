"""Fitting on one portion of rows after another."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import _fit_context

from skood._labels import inlier_mask
from skood._seeds import uniform_draws
from skood.detectors.base import THRESHOLD_ROWS, BaseDetector
from skood.features import LayerFeatures

__all__ = ["IncrementalDetector"]

Self = TypeVar("Self", bound="IncrementalDetector")


@dataclass(frozen=True)
class Sample:
    """A uniform sample of all rows so far, in their order.

    Each row draws a number and those with the lowest are kept, so that the sample does
    not depend on how the rows were cut into portions.

    Parameters
    ----------
    features : LayerFeatures of at most 10,000 rows
        In memory.
    classes : ndarray of int or None
        Their classes.
    draws : ndarray of shape (rows,)
        What they drew.
    seen : int
        Rows so far.
    """

    features: LayerFeatures | None = None
    classes: NDArray[np.intp] | None = None
    draws: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    seen: int = 0

    def extended(
        self, features: LayerFeatures, classes: NDArray[np.intp] | None
    ) -> Sample:
        """Return a sample of the rows so far and some more."""
        draws = np.concatenate([self.draws, uniform_draws(0, self.seen, len(features))])
        kept = np.sort(np.argsort(draws, kind="stable")[:THRESHOLD_ROWS])
        old, new = kept[kept < len(self.draws)], kept[kept >= len(self.draws)]
        parts = [features[new - len(self.draws)]]
        if self.features is not None:
            parts.insert(0, self.features[old])
        together = LayerFeatures.concatenate(parts)
        if classes is not None and self.classes is not None:
            classes = np.concatenate([self.classes, classes])
        chosen = None if classes is None else classes[kept]
        return Sample(together, chosen, draws[kept], self.seen + len(features))


class IncrementalDetector(BaseDetector):
    """Base class of detectors that can be fitted on portions of rows.

    A subclass implements ``_update`` beside what :class:`BaseDetector` asks for, and
    may keep in ``_so_far`` what it needs to go on from.
    """

    _sample: Sample
    _so_far: Any

    @abstractmethod
    def _update(
        self,
        features: LayerFeatures,
        classes: NDArray[np.intp] | None,
        moved: NDArray[np.intp] | None,
    ) -> None:
        """Learn from more in-distribution rows, or from the first if ``moved`` is None.

        ``classes`` are indices into ``classes_`` as it is now; ``moved`` says where in
        it the classes are that there were before. Nothing is changed on an error.
        """

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self: Self, X: Any, y: ArrayLike | None = None) -> Self:
        """Fit the detector on the in-distribution rows, forgetting all others.

        Parameters
        ----------
        X : LayerFeatures or array-like of shape (n, d)
            A plain array is one layer.
        y : array-like of shape (n,), optional
            Class labels; -1 marks rows that are outliers and are not fitted on.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter or the data are not usable; the message says which and why.
        """
        for name in ("_sample", "_so_far"):
            self.__dict__.pop(name, None)
        return super().fit(X, y)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self: Self, X: Any, y: ArrayLike | None = None) -> Self:
        """Fit on a portion of the rows; call it again with the next.

        The threshold is set anew by each call, on a seeded sample of at most 10,000 of
        all rows so far, which are kept in memory. Up to that number of rows the
        detector is the one that ``fit`` makes of them all, up to rounding.

        Parameters
        ----------
        X : LayerFeatures or array-like of shape (n, d)
            The portion, with the same blocks each time.
        y : array-like of shape (n,), optional
            Class labels, for every portion or none; new classes may come at any time.
            -1 marks rows that are outliers and are not fitted on; only the first
            portion must have others.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the portion is not usable; it is then as if it had not been given.

        Warns
        -----
        UserWarning
            If the detector was fitted by ``fit``, which does not keep what is needed to
            go on: the portion is then the first.
        """
        is_first = not hasattr(self, "_sample")
        if is_first and hasattr(self, "offset_"):
            warnings.warn(
                f"this {type(self).__name__} was fitted by fit, which keeps nothing to "
                "go on from: partial_fit begins anew. Use it from the first rows on.",
                UserWarning,
                stacklevel=3,
            )
        if is_first:
            features = self._needed(self._as_features(X, reset=True))
            self._widths = features.widths
        else:
            features = self._known_features(X)
            if y is not None and not inlier_mask(y).any():
                return self
        before = None if is_first else self.classes_
        inliers, classes = self._read_labels(y, len(features))
        known = features if inliers.all() else features[inliers]
        sample = Sample() if is_first else self._sample
        try:
            classes, moved = self._with_earlier(before, classes, is_first)
            self._update(known, classes, moved)
        except ValueError:
            self.classes_ = before
            raise
        if sample.classes is not None and moved is not None:
            sample = replace(sample, classes=moved[sample.classes])
        self._sample = sample.extended(known, classes)
        self._set_threshold()
        return self

    def _with_earlier(
        self,
        before: NDArray[Any] | None,
        classes: NDArray[np.intp] | None,
        is_first: bool,
    ) -> tuple[NDArray[np.intp] | None, NDArray[np.intp] | None]:
        """Unite ``classes_`` with those before; return where both are in it now."""
        now = self.classes_
        if is_first:
            return classes, None
        if before is None and now is None:
            return None, np.zeros(1, dtype=np.intp)
        if before is None or now is None:
            states = ("missing", "given") if now is None else ("given", "missing")
            raise ValueError(
                "y is {}, but in the portions before it was {}: give labels for every "
                "portion or for none.".format(*states)
            )
        self.classes_ = np.union1d(before, now)
        indices = np.searchsorted(self.classes_, now)
        return indices[classes], np.searchsorted(self.classes_, before)

    def _set_threshold(self) -> None:
        sample = self._sample
        assert sample.features is not None
        rows = np.arange(len(sample.features))
        scores = self._unseen_scores(sample.features, sample.classes, rows)
        self.offset_ = float(np.quantile(scores, self.contamination))
