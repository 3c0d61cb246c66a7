"""What detectors around a detector share."""

from __future__ import annotations

from abc import abstractmethod
from copy import deepcopy
from typing import Any

from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.utils import Tags, get_tags

from skood._learning import Learning
from skood._version import Stamped
from skood.detectors.thresholded import Thresholded


class AroundDetector(Stamped, Learning, MetaEstimatorMixin, BaseEstimator):
    """Base of everything that is fitted around one `detector`."""

    detector: Any

    @property
    def n_features_in_(self) -> int:
        """Number of columns seen in ``fit``."""
        return self._any_fitted().n_features_in_

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        """Names of the columns seen in ``fit``, if they are all strings."""
        return self._any_fitted().feature_names_in_

    @abstractmethod
    def _any_fitted(self) -> Any:
        """Return a fitted detector; AttributeError before ``fit``."""

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        if self.detector is None:
            return tags
        inner = get_tags(self.detector)
        tags.input_tags = deepcopy(inner.input_tags)
        tags.non_deterministic = inner.non_deterministic
        return tags


class DetectorWrapper(Thresholded, AroundDetector):
    """Base of the detectors that give another detector a threshold.

    A subclass sets ``offset_`` in ``fit`` and implements ``score_samples``.
    """
