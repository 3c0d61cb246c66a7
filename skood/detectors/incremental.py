"""Fitting on one portion of rows after another."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skood._sklearn_compat import fit_context
from skood.detectors.base import BaseDetector
from skood.detectors.threshold import THRESHOLD_ROWS
from skood.detectors.training import Training
from skood.features import LayerFeatures
from skood.features.workers import workers
from skood.numerics.labels import inlier_mask
from skood.numerics.seeds import uniform_draws

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

    def training(self, labels: NDArray[Any] | None) -> Training:
        """Return the sample as what is learnt from; it has rows."""
        assert self.features is not None
        return Training(self.features, self.features[:0], self.classes, labels)


class IncrementalDetector(BaseDetector):
    """Base class of detectors that can be fitted on portions of rows.

    A subclass implements ``_update`` beside what :class:`BaseDetector` asks for, and
    may keep in ``_so_far`` what it needs to go on from.
    """

    @abstractmethod
    def _update(self, training: Training, moved: NDArray[np.intp] | None) -> None:
        """Learn from more in-distribution rows, or from the first if ``moved`` is None.

        The labels of ``training`` are all so far, so that some may have no row in it;
        ``moved`` says where among them those are that there were before. Nothing is
        changed on an error.
        """

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self: Self, X: Any, y: ArrayLike | None = None) -> Self:
        """Fit on a portion of the rows; call it again with the next.

        The threshold is set anew by each call, on a seeded sample of at most 10,000 of
        all rows so far, which are kept in memory. Up to that number of rows the
        detector is the one that ``fit`` makes of them all, up to rounding.

        Parameters
        ----------
        X : LayerFeatures or array-like of shape (n_samples, n_features)
            The portion, with the same blocks each time.
        y : array-like of shape (n_samples,), optional
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
        if not hasattr(self, "_sample"):
            self._begin(X, y)
            return self
        before = dict(vars(self))
        try:
            with workers():
                self._go_on(X, y)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        return self

    def _without_rows(self: Self) -> Self:
        if "_sample" not in vars(self):
            return self
        other = object.__new__(type(self))
        kept = vars(self).keys() - {"_sample", "_so_far"}
        other.__dict__.update({name: vars(self)[name] for name in kept})
        return other

    def _begin(self, X: Any, y: ArrayLike | None) -> None:
        if hasattr(self, "offset_"):
            warnings.warn(
                f"this {type(self).__name__} was fitted by fit, which keeps nothing to "
                "go on from: partial_fit begins anew. Use it from the first rows on.",
                UserWarning,
                stacklevel=4,
            )
        with self._learning(), workers():
            training = self._training(X, y)
            self.class_labels_ = training.labels
            self._add(training, None, Sample())

    def _go_on(self, X: Any, y: ArrayLike | None) -> None:
        features = self._known_features(X)
        if y is not None and not inlier_mask(y).any():
            return
        training, moved = self._with_earlier(self._read_labels(features, y))
        self.class_labels_ = training.labels
        sample = self._sample
        if sample.classes is not None:
            sample = replace(sample, classes=moved[sample.classes])
        self._add(training, moved, sample)

    def _add(
        self, training: Training, moved: NDArray[np.intp] | None, sample: Sample
    ) -> None:
        unfitted = dict(vars(self))
        self._update(training, moved)
        self._remember_parameters()
        self._sample: Sample = sample.extended(training.features, training.classes)
        known = self._sample.training(training.labels)
        self._set_threshold(self._scores_as_if_new(known, unfitted), known.features)

    def _with_earlier(self, new: Training) -> tuple[Training, NDArray[np.intp]]:
        """Unite the labels with those before; return where those are among them."""
        before, now = self.class_labels_, new.labels
        if before is None and now is None:
            return new, np.zeros(1, dtype=np.intp)
        if before is None or now is None:
            states = ("missing", "given") if now is None else ("given", "missing")
            raise ValueError(
                "y is {}, but in the portions before it was {}: give labels for every "
                "portion or for none.".format(*states)
            )
        labels = np.union1d(before, now)
        classes = np.searchsorted(labels, now)[new.classes]
        united = replace(new, classes=classes, labels=labels)
        return united, np.searchsorted(labels, before)
