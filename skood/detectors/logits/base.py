"""The bases of detectors that read the network's output."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skood.detectors.base import BaseDetector
from skood.detectors.incremental import IncrementalDetector
from skood.detectors.label_columns import label_columns
from skood.detectors.training import Training
from skood.features import LOGITS, LayerFeatures
from skood.features.chunks import by_chunks
from skood.numerics.device import array_namespace, to_numpy
from skood.numerics.rows import cache_slices

__all__ = ["LearnedLogitDetector", "LogitDetector", "LogitsOf"]

LogitsOf = Callable[[LayerFeatures], Any]
"""From a chunk of rows to their logits, (n, C)."""


class LearnedLogitDetector(BaseDetector):
    """Base class of detectors that read the logits and learn from them.

    A subclass implements ``_logit_scores`` and ``_learn_logits``. The threshold comes
    from rows held out of other fits.

    Parameters
    ----------
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.
    """

    _several_classes: ClassVar[bool] = False
    """Whether one column of logits, whose softmax is always 1, tells nothing."""

    _least_rows: ClassVar[int] = 1
    """How many rows are scored at once, even if they do not stay in the cache."""

    @abstractmethod
    def _logit_scores(self, logits: Any) -> Any:
        """Return the scores, shape (n,), of logits of shape (n, n_classes)."""

    def _learn_logits(self, training: Training, logits_of: LogitsOf) -> None:
        """Learn from in-distribution rows, whose logits are ``logits_of(chunk)``.

        They need not be the network's: a detector of the shaping family gives its own.
        """

    def _fit_logits(self, training: Training, logits_of: LogitsOf) -> None:
        """Learn, from logits that suit the method."""
        if self._several_classes and logits_of(training.features[:1]).shape[1] == 1:
            raise ValueError(
                "the logits have one column (n_features = 1), whose softmax is always "
                "1. For a network with one output z for two classes, give the logits "
                "[0, z]."
            )
        self._learn_logits(training, logits_of)

    def _label_columns(
        self, training: Training, logits_of: LogitsOf
    ) -> NDArray[np.intp]:
        """Return the column of the logits that each row's label stands for."""
        present = training.labels
        if training.classes is None or present is None:
            raise ValueError(
                f"{type(self).__name__} learns from right and wrong predictions, and y "
                "is None: give fit the class labels of the rows."
            )
        labels = getattr(self, "_all_labels", present)
        largest = by_chunks(partial(_largest, logits_of=logits_of), training.features)
        n_logits = logits_of(training.features[:1]).shape[1]
        columns = label_columns(
            labels, present, training.classes, largest.astype(np.intp), n_logits
        )
        return columns[training.classes]

    # Of the base -------------------------------------------------------------------

    def _read_labels(self, features: LayerFeatures, y: ArrayLike | None) -> Training:
        training = super()._read_labels(features, y)
        self._all_labels = training.labels  # rows held out may be all of a class
        return training

    def _needed(self, features: LayerFeatures) -> LayerFeatures:
        return features.select(LOGITS)

    def _array_key(self) -> tuple[str, str]:
        return (LOGITS, LOGITS)

    def _fit(self, training: Training) -> None:
        self._fit_logits(training, self._logits)

    def _logits(self, chunk: LayerFeatures) -> Any:
        return self._array(chunk, LOGITS, LOGITS)

    def _score(self, chunk: LayerFeatures) -> Any:
        return self._scores_of_logits(self._logits(chunk))

    def _scores_of_logits(self, logits: Any) -> Any:
        """Return the scores, computed block by block."""
        slices = cache_slices(logits, logits.shape[1], self._least_rows)
        scores = [self._logit_scores(logits[rows]) for rows in slices]
        return array_namespace(scores[0]).concat(scores)


def _largest(chunk: LayerFeatures, *, logits_of: LogitsOf) -> NDArray[np.intp]:
    logits = logits_of(chunk)
    return to_numpy(array_namespace(logits).argmax(logits, axis=1))


class LogitDetector(LearnedLogitDetector, IncrementalDetector):
    """Base class of detectors that read the logits and have nothing to learn from data.

    A subclass implements ``_logit_scores``. Only the threshold comes from ``fit``. A
    network is surer of its own training data than of new data, so on those rows the
    threshold comes out too high and too much new data is rejected: give ``fit``
    in-distribution rows that the network was not trained on, as X or as
    ``threshold_data``.

    Parameters
    ----------
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.
    """

    _unbiased = "nothing is learned from the rows"

    def _update(self, training: Training, moved: NDArray[np.intp] | None) -> None:
        self._fit(training)
