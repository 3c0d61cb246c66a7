"""Scorers for every search of scikit-learn: ``scorer(estimator, X, y)``, high is good.

They take in-distribution to be the positive class, read ``score_samples`` (or, where
there is none, ``decision_function``) and need a ``y`` with rows of label -1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skood.metrics import aupr, auroc, detection_accuracy, fpr_at_tpr
from skood.model_selection._estimators import (
    in_distribution_scores,
    last_step,
    refuse_pyod,
)
from skood.numerics.labels import OUTLIER, inlier_mask, label_array

Truth = NDArray[np.int64]


@dataclass(frozen=True)
class OODScorer:
    """A metric as a scorer.

    The instances :data:`auroc_scorer`, :data:`fpr95_scorer`, :data:`aupr_in_scorer`,
    :data:`aupr_out_scorer` and :data:`balanced_accuracy_scorer` are ready to use in
    ``scoring=`` of any search, alone or in a dict, with metadata routing on or off, and
    in other processes. :func:`ood_scorer` gives all five for one scoring of the rows.

    Parameters
    ----------
    metric : str, default="auroc"
        "auroc", "neg_fpr95" (minus the share of outliers accepted at 95 % of inliers,
        so that greater is better), "aupr_in", "aupr_out", "detection_accuracy", or
        "balanced_accuracy" (the mean of the shares of inliers and of outliers that
        ``predict`` flags rightly: the only one that looks at the threshold).
    unseen_as_outliers : bool, default=False
        Whether a row of a class that is not in the detector's ``class_labels_`` counts
        as an outlier, as :class:`ClassHoldout` needs.

    Raises
    ------
    ValueError
        When called: if y is missing, or has inliers only or outliers only.
    TypeError
        When called: for a PyOD detector (put it into :class:`~skood.PyODDetector`), for
        an estimator without scores, and, with `unseen_as_outliers`, without
        ``class_labels_``.

    See Also
    --------
    ood_scorer : All metrics of one scoring, for searches over several.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.svm import OneClassSVM
    >>> from skood.model_selection import auroc_scorer, fpr95_scorer
    >>> X = np.array([[0.0], [0.1], [0.2], [5.0]])
    >>> detector = OneClassSVM().fit(X[:3])
    >>> (
    ...     auroc_scorer(detector, X, [0, 0, 1, -1]),
    ...     fpr95_scorer(detector, X, [0, 0, 1, -1]),
    ... )
    (1.0, 0.0)
    """

    metric: str = "auroc"
    unseen_as_outliers: bool = False

    def __call__(self, estimator: Any, X: Any, y: ArrayLike | None = None) -> float:
        """Return the metric of a fitted estimator.

        Parameters
        ----------
        estimator : object
            With ``score_samples`` or ``decision_function`` (``predict`` for
            "balanced_accuracy").
        X : array-like of length n
            Rows to score.
        y : array-like of shape (n,)
            Class labels; -1 marks an outlier.

        Returns
        -------
        float
            Greater is better.
        """
        truth = _truth(estimator, y, self.unseen_as_outliers)
        if self.metric == "balanced_accuracy":
            return _balanced_accuracy(truth, _flags(estimator, X))
        if self.metric not in _OF_SCORES:
            names = sorted([*_OF_SCORES, "balanced_accuracy"])
            raise ValueError(f"metric must be one of {names}; got {self.metric!r}.")
        return _OF_SCORES[self.metric](truth, in_distribution_scores(estimator, X))

    def _accept_sample_weight(self) -> bool:
        # scikit-learn asks every scorer of a dict when fit is given sample_weight
        return False


def ood_scorer(
    estimator: Any,
    X: Any,
    y: ArrayLike | None = None,
    *,
    unseen_as_outliers: bool = False,
) -> dict[str, float]:
    """All five metrics for one scoring of the rows, for multi-metric searches.

    ``scoring=ood_scorer, refit="auroc"`` costs a quarter of a dict of four scorers,
    each of which would call ``score_samples`` again.

    Parameters
    ----------
    estimator : object
        Fitted, with ``predict`` and with ``score_samples`` or ``decision_function``.
    X : array-like of length n
        Rows to score.
    y : array-like of shape (n_samples,)
        Class labels; -1 marks an outlier.
    unseen_as_outliers : bool, default=False
        As in :class:`OODScorer`.

    Returns
    -------
    dict of str to float
        auroc, neg_fpr95, aupr_in, aupr_out, balanced_accuracy: greater is better.

    Raises
    ------
    ValueError, TypeError
        As :class:`OODScorer`.

    Examples
    --------
    >>> from sklearn.svm import OneClassSVM
    >>> from skood.model_selection import ood_scorer
    >>> X = [[0.0], [0.1], [0.2], [5.0]]
    >>> ood_scorer(OneClassSVM().fit(X[:3]), X, [0, 0, 0, -1])["aupr_out"]
    1.0
    """
    truth = _truth(estimator, y, unseen_as_outliers)
    scores = in_distribution_scores(estimator, X)
    wanted = ("auroc", "neg_fpr95", "aupr_in", "aupr_out")
    values = {name: _OF_SCORES[name](truth, scores) for name in wanted}
    values["balanced_accuracy"] = _balanced_accuracy(truth, _flags(estimator, X))
    return values


def _neg_fpr95(truth: Truth, scores: NDArray[np.float64]) -> float:
    return 0.0 - fpr_at_tpr(truth, scores, tpr=0.95)  # never -0.0


def _aupr_out(truth: Truth, scores: NDArray[np.float64]) -> float:
    return aupr(truth, scores, pos_label="ood")


_OF_SCORES: dict[str, Callable[[Truth, NDArray[np.float64]], float]] = {
    "auroc": auroc,
    "aupr_in": aupr,
    "aupr_out": _aupr_out,
    "detection_accuracy": detection_accuracy,
    "neg_fpr95": _neg_fpr95,
}


def _truth(estimator: Any, y: ArrayLike | None, unseen_as_outliers: bool) -> Truth:
    """Return +1 for inliers and -1 for outliers, both present."""
    if y is None:
        raise ValueError("y is missing: the score needs class labels, -1 for outliers.")
    inlier = inlier_mask(y)
    if unseen_as_outliers:
        inlier &= np.isin(label_array(y), _known_classes(estimator))
    if inlier.all() or not inlier.any():
        side = "in" if inlier.all() else "out"
        raise ValueError(
            f"y has {side}liers only ({len(inlier)} rows), so nothing can be told "
            f"apart. {_mend(estimator, y, unseen_as_outliers)}"
        )
    return np.where(inlier, 1, OUTLIER)


def _mend(estimator: Any, y: ArrayLike, unseen_as_outliers: bool) -> str:
    """Return how to come by rows of both kinds."""
    known = getattr(last_step(estimator), "class_labels_", None)
    labels = label_array(y)
    known = labels if known is None else known
    unseen = labels[inlier_mask(y) & ~np.isin(labels, known)].tolist()
    if unseen and not unseen_as_outliers:
        return (
            f"The detector was not fitted on the class {unseen[0]!r}: if "
            "classes are left out on purpose, as ClassHoldout does, tell the scorer, "
            "OODScorer(..., unseen_as_outliers=True)."
        )
    return (
        "Score rows of both kinds: as cv use InlierKFold, whose test folds hold both, "
        "not an integer. Its training folds hold inliers only: pass "
        "return_train_score=False where there is such a parameter (halving searches "
        "default to True, and may need a larger min_resources). Where there is none "
        "(learning_curve, validation_curve), StratifiedKFold(shuffle=True) as cv puts "
        "both kinds on both sides; a detector of skood is not fitted on outliers, and "
        "others are not inside OutliersIgnored. A learning_curve takes shuffle=True, "
        "too."
    )


def _known_classes(estimator: Any) -> NDArray[Any]:
    classes = getattr(last_step(estimator), "class_labels_", None)
    if classes is None:
        raise TypeError(
            f"{type(estimator).__name__} has no class_labels_, so which classes it has "
            "not seen is unknown. Fit it with y, wrapped if need be: "
            "skood.model_selection.OutliersIgnored(detector)."
        )
    return np.asarray(classes)


def _flags(estimator: Any, X: Any) -> NDArray[Any]:
    refuse_pyod(estimator)
    flags = np.asarray(estimator.predict(X))
    if not np.isin(flags, (1, -1)).all():
        raise ValueError(
            f"{type(estimator).__name__}.predict must give +1 (inlier) or -1 (outlier);"
            f" it gave {np.unique(flags)[:5].tolist()}."
        )
    return flags


def _balanced_accuracy(truth: Truth, flags: NDArray[Any]) -> float:
    right = truth == flags
    return float((right[truth == 1].mean() + right[truth == OUTLIER].mean()) / 2)


auroc_scorer = OODScorer("auroc")
fpr95_scorer = OODScorer("neg_fpr95")
aupr_in_scorer = OODScorer("aupr_in")
aupr_out_scorer = OODScorer("aupr_out")
balanced_accuracy_scorer = OODScorer("balanced_accuracy")
