"""Our detectors as PyOD's."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyod.models.base import BaseDetector as PyODBase
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skood.calibration._wrapper import DetectorWrapper
from skood.detectors.base import BaseDetector
from skood.detectors.training import Training
from skood.model_selection._estimators import (
    SCORE_METHODS,
    in_distribution_scores,
    is_pyod,
    last_step,
)
from skood.numerics.labels import inlier_mask

__all__ = ["SkoodOD"]


class SkoodOD(PyODBase):
    """A detector of ours where PyOD wants one of its own; :func:`to_pyod` makes it.

    High scores are abnormal, the labels are 0 and 1, and everything that PyOD's base
    class does (``predict_proba``, ``predict_confidence``, ``predict_with_rejection``,
    ``compute_rejection_stats``) is there.

    ``decision_scores_`` has one entry for every row given to ``fit``, with what the row
    would get if it were new: a row is left out of its own neighbours, means and
    covariances, as PyOD's KNN and LOF do it, and ``decision_function`` of the training
    rows is in general something else. Where our detector knows no such score for each
    training row (AMP, FeatureNorm, detectors of scikit-learn) it is the plain one; for
    AMP, whose network is too sure of its training rows, that makes PyOD's threshold too
    strict.

    ``threshold_`` is PyOD's: the share `contamination` of ``decision_scores_`` lies
    above it. The threshold that the detector sets for itself is not used.

    Parameters
    ----------
    detector : estimator
        Of this package, or any whose scores are higher for more in-distribution, or a
        Pipeline that ends in one. It is cloned and fitted by ``fit``. A detector that
        is fitted already goes in as ``sklearn.frozen.FrozenEstimator(detector)``:
        ``fit`` then takes rows that are new to it, and only sets the threshold.
    contamination : float, default=0.1
        Share of the rows given to ``fit`` that are outliers, in (0, 0.5]; or a
        thresholding object, as in PyOD.

    Attributes
    ----------
    detector_ : estimator
        The fitted detector.
    decision_scores_ : ndarray of shape (n_samples,)
        The scores of the rows given to ``fit``.
    threshold_ : float
        A row is an outlier above it.
    labels_ : ndarray of shape (n_samples,)
        1 for the rows given to ``fit`` that are outliers, else 0.

    Raises
    ------
    TypeError
        In ``fit``: the detector has no scores, is PyOD's, or only adds a threshold to
        another (TargetRateThreshold, ConformalDetector), since PyOD sets its own.
    ValueError
        If `contamination` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Mahalanobis, to_pyod
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> detector = to_pyod(Mahalanobis(), contamination=0.05).fit(X)
    >>> detector.predict(np.array([[0.0, 0.0], [6.0, 6.0]]))
    array([0, 1])
    >>> int(detector.labels_.sum())
    10
    """

    def __init__(self, detector: Any, contamination: Any = 0.1) -> None:
        super().__init__(contamination=contamination)
        self.detector = detector

    def fit(self, X: Any, y: ArrayLike | None = None) -> SkoodOD:
        """Fit the detector and set the threshold.

        Parameters
        ----------
        X : array-like of length n
            What the detector takes: an array, or LayerFeatures.
        y : array-like of shape (n_samples,), optional
            Class labels, for the detectors that use them. Rows of label -1 are known
            outliers: they are not fitted on, but scored as all others, and count in
            ``decision_scores_`` and `contamination`. PyOD's own ground truth, where 1
            is an outlier, is not that: leave it out, or give
            ``np.where(y == 1, -1, 0)``.

        Returns
        -------
        SkoodOD
            Itself.
        """
        check_can_be_pyod(self.detector)
        self._set_n_classes(None)  # with y, PyOD's probabilities would break
        self.detector_ = clone(self.detector).fit(X, y)
        self.decision_scores_ = -scores_as_new(self.detector_, X, y)
        self._process_decision_scores()
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return how abnormal each row is.

        Parameters
        ----------
        X : array-like of length n
            What the detector takes.

        Returns
        -------
        ndarray of float64, shape (n_samples,)
            Minus the detector's score.
        """
        check_is_fitted(self, ["decision_scores_", "threshold_", "labels_"])
        return -in_distribution_scores(self.detector_, X)


def check_can_be_pyod(detector: Any) -> None:
    """Raise TypeError if there is nothing to adapt."""
    if isinstance(detector, type):
        raise TypeError(f"{detector.__name__} is a class: give {detector.__name__}().")
    inner = last_step(detector)
    name = type(inner).__name__
    if is_pyod(detector):
        raise TypeError(f"{name} is a PyOD detector already: use it as it is.")
    if isinstance(inner, DetectorWrapper):
        raise TypeError(
            f"{name} adds a threshold to a detector, and PyOD sets its own by "
            f"contamination: give the detector inside, {inner.detector!r}."
        )
    if not any(hasattr(detector, method) for method in SCORE_METHODS):
        raise TypeError(
            f"{detector!r} has neither score_samples nor decision_function, one of "
            "which must rise towards in-distribution; nor is it a transformer."
        )


def scores_as_new(
    fitted: Any, X: Any, y: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Return the scores of training rows as if each were new, as far as they are known.

    Parameters
    ----------
    fitted : estimator
        Fitted on X and y.
    X : array-like of length n
        The training rows.
    y : array-like of shape (n,), optional
        Their labels; rows of -1 were not fitted on.

    Returns
    -------
    ndarray of float64, shape (n,)
        Higher is more in-distribution.
    """
    if isinstance(fitted, Pipeline):
        for _, _, step in fitted._iter(with_final=False):
            X = step.transform(X)
        return scores_as_new(fitted[-1], X, y)
    if hasattr(fitted, "best_estimator_") and not isinstance(fitted, FrozenEstimator):
        return scores_as_new(fitted.best_estimator_, X, y)
    if not isinstance(fitted, BaseDetector):
        return in_distribution_scores(fitted, X)
    fitted = fitted._as_fitted()
    features = fitted._known_features(X)
    training = fitted._read_labels(features, y)
    inliers = np.ones(len(features), dtype=bool) if y is None else inlier_mask(y)
    scores = np.empty(len(features))
    scores[inliers] = _left_out_scores(fitted, training)
    if not inliers.all():
        scores[~inliers] = fitted._scores(training.outliers)
    return scores


def _left_out_scores(detector: BaseDetector, training: Training) -> NDArray[np.float64]:
    # On a copy: what NAP notes down here is meant for the rows of the threshold.
    scores = copy(detector)._unseen_scores(training, np.arange(len(training)))
    if scores is not None and len(scores) == len(training):
        return scores
    # Rows that were held out are new to the detector, the others cannot be.
    return detector._scores(training.features)
