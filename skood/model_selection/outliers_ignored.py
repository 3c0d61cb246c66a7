"""Any detector made safe under rows of label -1."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.base import BaseEstimator, MetaEstimatorMixin, OutlierMixin, clone
from sklearn.utils import Tags, get_tags
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from skood._learning import Learning
from skood._sklearn_compat import safe_indexing
from skood._version import Stamped
from skood.model_selection._estimators import SCORE_METHODS, last_step, refuse_pyod
from skood.numerics.arrays import check_readable
from skood.numerics.labels import inlier_mask, label_array


def _inner(wrapper: OutliersIgnored) -> Any:
    return getattr(wrapper, "estimator_", wrapper.estimator)


def _has(method: str) -> Callable[[OutliersIgnored], bool]:
    """Return the check of whether the wrapped detector has the method."""
    return lambda wrapper: hasattr(_inner(wrapper), method)


class OutliersIgnored(
    Stamped, Learning, MetaEstimatorMixin, OutlierMixin, BaseEstimator
):
    """Any scikit-learn detector, never trained on rows of label -1.

    A search refits on all its rows. scikit-learn's detectors ignore y and would learn
    the outliers as data; this wrapper leaves those rows out of ``fit`` (and out of
    metadata with one entry per row, such as ``sample_weight``). Everything else goes
    through unchanged. PyOD's detectors have a wrapper of their own, which leaves those
    rows out too: :class:`~skood.PyODDetector`.

    Parameters
    ----------
    estimator : estimator
        The detector; a Pipeline will do. It is cloned.

    Attributes
    ----------
    estimator_ : estimator
        The fitted detector.
    class_labels_ : ndarray of shape (n_classes,)
        The labels seen in ``fit`` beside -1; absent if y was None.
    offset_ : float
        Of the detector. ``decision_function`` is ``score_samples - offset_``.

    See Also
    --------
    InlierKFold : Keeps outliers out of the training folds of a search, not its refit.

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

    class_labels_: NDArray[Any]

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(
        self, X: Any, y: ArrayLike | None = None, **fit_params: Any
    ) -> OutliersIgnored:
        """Fit the detector on the inliers.

        Parameters
        ----------
        X : array-like of length n
            Rows; those of label -1 are left out.
        y : array-like of shape (n_samples,), default=None
            Class labels; -1 marks an outlier. None: all rows are inliers. The labels of
            the inliers are passed on.
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
            If the detector cannot score new rows, or is PyOD's.
        """
        refuse_pyod(self.estimator)
        _check_can_score(self.estimator)
        with self._learning():
            self._fit(X, y, fit_params)
        return self

    def _fit(self, X: Any, y: ArrayLike | None, fit_params: dict[str, Any]) -> None:
        check_readable(X)
        if get_config()["enable_metadata_routing"]:
            fit_params = process_routing(self, "fit", **fit_params).estimator.fit
        labels = None if y is None else label_array(y)
        if labels is not None:
            X, labels, fit_params = _inliers_only(X, labels, fit_params)
        self.estimator_ = clone(self.estimator).fit(X, labels, **fit_params)
        if labels is not None:
            self.class_labels_ = np.unique(labels)

    def fit_predict(
        self, X: Any, y: ArrayLike | None = None, **fit_params: Any
    ) -> NDArray[np.intp]:
        """Fit on the inliers, then flag all rows.

        Parameters
        ----------
        X : array-like of length n
            Rows; those of label -1 are flagged, not fitted on.
        y : array-like of shape (n_samples,), default=None
            Class labels; -1 marks an outlier.
        **fit_params : dict
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            +1 for inliers, -1 for outliers.
        """
        return self.fit(X, y, **fit_params).predict(X)

    @available_if(_has("score_samples"))
    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Return the detector's score: higher = more in-distribution.

        Parameters
        ----------
        X : array-like of length n
            Rows to score.

        Returns
        -------
        ndarray of shape (n_samples,)
            As the detector gives them.
        """
        check_is_fitted(self)
        return self.estimator_.score_samples(X)

    @available_if(_has("decision_function"))
    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return the score over the threshold: negative = outlier.

        Parameters
        ----------
        X : array-like of length n
            Rows to score.

        Returns
        -------
        ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``.
        """
        check_is_fitted(self)
        return self.estimator_.decision_function(X)

    @available_if(_has("predict"))
    def predict(self, X: Any) -> NDArray[np.intp]:
        """Return the detector's flags.

        Parameters
        ----------
        X : array-like of length n
            Rows to flag.

        Returns
        -------
        ndarray of shape (n_samples,)
            +1 for inliers, -1 for outliers.
        """
        check_is_fitted(self)
        return self.estimator_.predict(X)

    @property
    def offset_(self) -> float:
        """What is taken from ``score_samples`` to make ``decision_function``."""
        return last_step(self.estimator_).offset_

    @property
    def n_features_in_(self) -> int:
        """Number of columns seen in ``fit``."""
        return self.estimator_.n_features_in_

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        """Names of the columns seen in ``fit``, if they are all strings."""
        return self.estimator_.feature_names_in_

    def get_metadata_routing(self) -> MetadataRouter:
        """Return the routing of metadata: ``fit`` hands it to the detector's ``fit``.

        Returns
        -------
        MetadataRouter
            Of this estimator.
        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        return MetadataRouter(owner=self).add(
            estimator=self.estimator, method_mapping=mapping
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.input_tags = deepcopy(inner.input_tags)
        tags.non_deterministic = inner.non_deterministic
        return tags


def _check_can_score(estimator: Any) -> None:
    if not any(hasattr(estimator, name) for name in SCORE_METHODS):
        raise TypeError(
            f"estimator must have score_samples or decision_function; "
            f"{estimator!r} has neither. (LocalOutlierFactor has them with "
            "novelty=True.)"
        )


def _inliers_only(
    X: Any, labels: NDArray[Any], fit_params: dict[str, Any]
) -> tuple[Any, NDArray[Any], dict[str, Any]]:
    """Return the rows, labels and one-entry-per-row metadata of the inliers."""
    check_consistent_length(X, labels)
    mask = inlier_mask(labels)
    if mask.all():
        return X, labels, fit_params
    if not mask.any():
        raise ValueError(
            f"y has outliers only (all {len(mask)} labels are -1): nothing is left to "
            "fit. Give in-distribution rows their class label, or 0."
        )
    rows = np.flatnonzero(mask)
    params = {
        name: safe_indexing(value, rows) if _is_per_row(value, len(mask)) else value
        for name, value in fit_params.items()
    }
    return safe_indexing(X, rows), labels[rows], params


def _is_per_row(value: Any, n_rows: int) -> bool:
    return np.ndim(value) > 0 and len(value) == n_rows
