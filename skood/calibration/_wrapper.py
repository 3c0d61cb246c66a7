"""What detectors around a detector share."""

from __future__ import annotations

from abc import abstractmethod
from copy import deepcopy
from typing import Any, ClassVar, NoReturn

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, OutlierMixin
from sklearn.utils import Tags, get_tags
from sklearn.utils.metaestimators import available_if

from skood._version import Stamped


def _never(detector: Any) -> NoReturn:
    raise AttributeError(
        "fit_predict is not available: the flags are for rows that were not fitted on, "
        "so use fit(X).predict(X_new)."
    )


class AroundDetector(Stamped, MetaEstimatorMixin, BaseEstimator):
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
        inner = get_tags(self.detector)
        tags.input_tags = deepcopy(inner.input_tags)
        tags.non_deterministic = inner.non_deterministic
        return tags


class DetectorWrapper(OutlierMixin, AroundDetector):
    """Base of the detectors that give another detector a threshold.

    A subclass sets ``offset_`` in ``fit`` and implements ``score_samples``.
    """

    novelty: ClassVar[bool] = True
    offset_: float

    @abstractmethod
    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Return how in-distribution each row is."""

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return ``score_samples(X) - offset_``: negative for outliers.

        Parameters
        ----------
        X : array-like of length n
            What the detector takes.

        Returns
        -------
        ndarray of float64, shape (n,)
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> NDArray[np.int_]:
        """Return +1 for in-distribution rows and -1 for outliers.

        Parameters
        ----------
        X : array-like of length n
            What the detector takes.

        Returns
        -------
        ndarray of int, shape (n,)
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)

    @available_if(_never)
    def fit_predict(self, X: Any, y: Any = None) -> NoReturn:
        """Not available: the flags are for rows that were not fitted on."""
        _never(self)
