"""Any detector made safe under rows of label -1."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, OutlierMixin, clone
from sklearn.utils import Tags, _safe_indexing, get_tags
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_method_params, check_consistent_length

from skood._labels import inlier_mask
from skood.model_selection._estimators import is_pyod


def _inner(estimator: OutliersIgnored) -> Any:
    return getattr(estimator, "estimator_", estimator.estimator)


def _inner_has(*names: str) -> Callable[[OutliersIgnored], bool]:
    """Return a check that the wrapped estimator has one of the methods."""

    def check(self: OutliersIgnored) -> bool:
        return any(hasattr(_inner(self), name) for name in names)

    return check


class OutliersIgnored(MetaEstimatorMixin, OutlierMixin, BaseEstimator):
    """Any scikit-learn or PyOD detector, never trained on rows of label -1.

    A search refits on all its rows. scikit-learn's detectors ignore y and would learn
    the outliers as data; this wrapper leaves those rows out of ``fit`` (and out of
    metadata with one entry per row, such as ``sample_weight``). Everything else goes
    through unchanged, except that a PyOD detector, alone or at the end of a Pipeline,
    is turned to scikit-learn's convention: scores are negated, so that high means
    in-distribution, and ``predict`` gives +1 and -1. PyOD never gets to see y.

    Parameters
    ----------
    estimator : estimator
        The detector; a Pipeline will do. It is cloned.

    Attributes
    ----------
    estimator_ : estimator
        The fitted detector.
    classes_ : ndarray of shape (n_classes,)
        The labels seen in ``fit`` beside -1; absent if y was None.
    offset_ : float
        Of the detector; minus ``threshold_`` for PyOD. ``decision_function`` is
        ``score_samples - offset_``.

    See Also
    --------
    InlierKFold : keeps outliers out of the training folds of a search, not its refit.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.covariance import EllipticEnvelope
    >>> from skood.model_selection import OutliersIgnored
    >>> rng = np.random.default_rng(0)
    >>> X = np.r_[rng.normal(size=(50, 2)), rng.normal(9, 1, size=(50, 2))]
    >>> y = np.repeat([0, -1], 50)
    >>> detector = OutliersIgnored(EllipticEnvelope(random_state=0)).fit(X, y)
    >>> detector.predict([[0.0, 0.0], [9.0, 9.0]])
    array([ 1, -1])
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self, X: Any, y: ArrayLike | None = None, **fit_params: Any) -> Any:
        """Fit the detector on the inliers.

        Parameters
        ----------
        X : array-like of length n
            Rows; those of label -1 are left out.
        y : array-like of shape (n,), default=None
            Class labels; -1 marks an outlier. None: all rows are inliers. The labels of
            the inliers are passed on, but not to PyOD.
        **fit_params : dict
            For the detector's ``fit``; routed if metadata routing is on.

        Returns
        -------
        OutliersIgnored
            Itself.

        Raises
        ------
        ValueError
            If no row is left, or the lengths of X and y differ.
        TypeError
            If the detector cannot score new rows.
        """
        self._check_estimator()
        params = process_routing(self, "fit", **fit_params).estimator.fit
        labels = None if y is None else np.asarray(y)
        if labels is not None:
            X, labels, params = _inliers_only(X, labels, params)
        if is_pyod(self.estimator):
            labels_passed_on = None
        else:
            labels_passed_on = labels
        self.estimator_ = clone(self.estimator).fit(X, labels_passed_on, **params)
        if labels is not None:
            self.classes_ = np.unique(labels)
        return self
