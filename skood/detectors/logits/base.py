"""The base of detectors that read the network's output."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.detectors.incremental import IncrementalDetector
from skood.detectors.training import Training
from skood.features import LOGITS, LayerFeatures

__all__ = ["LogitDetector"]


class LogitDetector(IncrementalDetector):
    """Base class of detectors that read the logits and have nothing to learn from data.

    A subclass implements ``_logit_scores``. Only the threshold comes from ``fit``. A
    network is surer of its own training data than of new data, so on those rows the
    threshold comes out too high and too much new data is rejected: give ``fit``
    in-distribution rows that the network was not trained on, as X or as
    ``threshold_data``.

    Parameters
    ----------
    contamination : float, default=0.05
        Share of new in-distribution data that may be rejected, in (0, 0.5].
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.
    """

    _unbiased = "nothing is learned from the rows"

    @abstractmethod
    def _logit_scores(self, logits: Any) -> Any:
        """Return the scores, shape (n,), of logits of shape (n, n_classes)."""

    def _needed(self, features: LayerFeatures) -> LayerFeatures:
        return features.select(LOGITS)

    def _array_key(self) -> tuple[str, str]:
        return (LOGITS, LOGITS)

    def _fit(self, training: Training) -> None:
        """Learn nothing."""

    def _update(self, training: Training, moved: NDArray[np.intp] | None) -> None:
        self._fit(training)

    def _score(self, chunk: LayerFeatures) -> Any:
        return self._logit_scores(self._array(chunk, LOGITS, LOGITS))
