"""Areas, rates and accuracies of a ranking of inliers and outliers."""

from __future__ import annotations

from typing import Literal

from numpy.typing import ArrayLike

from skood.metrics import score_counts as sc
from skood.numerics.labels import inlier_mask

__all__ = ["aupr", "auroc", "detection_accuracy", "fpr_at_tpr"]

PosLabel = Literal["id", "ood"]


def auroc(
    y_true: ArrayLike, y_score: ArrayLike, *, pos_label: PosLabel = "id"
) -> float:
    """Area under the ROC curve: how often an inlier scores above an outlier.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Class labels; -1 marks an outlier.
    y_score : array-like of shape (n_samples,)
        ``score_samples`` or ``decision_function``: higher = more in-distribution.
    pos_label : {"id", "ood"}, default="id"
        The positive side. This area is the same for both.

    Returns
    -------
    float
        In [0, 1]; a tie counts one half. Equals ``sklearn.metrics.roc_auc_score``.

    Raises
    ------
    ValueError
        If one side is missing, lengths differ, a score is NaN or `pos_label` unknown.

    Examples
    --------
    >>> from skood.metrics import auroc
    >>> auroc([0, 1, 1, -1], [0.9, 0.8, 0.3, 0.5])
    0.6666666666666666
    """
    return sc.area_under_roc(_counts(y_true, y_score, pos_label))


def aupr(y_true: ArrayLike, y_score: ArrayLike, *, pos_label: PosLabel = "id") -> float:
    """Area under the precision-recall curve, as average precision.

    The area is the step-wise sum of ``sklearn.metrics.average_precision_score``, not
    the trapezoid, which is optimistic. It moves with the ratio of inliers to outliers:
    compare only values from the same rows.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Class labels; -1 marks an outlier.
    y_score : array-like of shape (n_samples,)
        Higher = more in-distribution.
    pos_label : {"id", "ood"}, default="id"
        "id" gives the AUPR-in of the literature, "ood" (scores negated) AUPR-out.

    Returns
    -------
    float
        In (0, 1].

    Raises
    ------
    ValueError
        If one side is missing, lengths differ, a score is NaN or `pos_label` unknown.

    Examples
    --------
    >>> from skood.metrics import aupr
    >>> aupr([0, 1, -1, -1], [0.9, 0.8, 0.3, 0.5])
    1.0
    """
    return sc.average_precision(_counts(y_true, y_score, pos_label))


def fpr_at_tpr(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    tpr: float = 0.95,
    pos_label: PosLabel = "id",
) -> float:
    """Share of the other side accepted when `tpr` of the positive side is.

    The threshold is the largest score t for which at least `tpr` of the positives
    score >= t; a row is accepted when it scores >= t.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Class labels; -1 marks an outlier.
    y_score : array-like of shape (n_samples,)
        Higher = more in-distribution.
    tpr : float, default=0.95
        Share of the positive side to accept, in (0, 1].
    pos_label : {"id", "ood"}, default="id"
        With "id": the share of outliers accepted, the FPR95 of ODIN, Mahalanobis,
        ViM, KNN. With "ood" scores are negated and roles swapped: the share of
        inliers rejected when `tpr` of the outliers is, the FPR95 of OpenOOD 1.5 and,
        as 1 - TNR95, of LSGM. The two differ: compare only like with like.

    Returns
    -------
    float
        In [0, 1]; lower is better.

    Raises
    ------
    ValueError
        If one side is missing, lengths differ, a score is NaN, `pos_label` is unknown
        or `tpr` is outside (0, 1].

    References
    ----------
    Liang, Li, Srikant. Enhancing the reliability of out-of-distribution image
    detection in neural networks. ICLR 2018 (FPR at 95 % TPR).

    Examples
    --------
    >>> from skood.metrics import fpr_at_tpr
    >>> y, score = [0, 0, 0, 0, -1, -1], [5.0, 4.0, 3.0, 1.0, 3.5, 2.0]
    >>> fpr_at_tpr(y, score, tpr=0.75)
    0.5
    >>> fpr_at_tpr(y, score, tpr=0.75, pos_label="ood")
    0.5
    """
    if not 0 < tpr <= 1:
        raise ValueError(f"tpr must lie in (0, 1]; got {tpr}. For 95 % pass 0.95.")
    return sc.false_positive_rate(_counts(y_true, y_score, pos_label), tpr)


def detection_accuracy(
    y_true: ArrayLike, y_score: ArrayLike, *, pos_label: PosLabel = "id"
) -> float:
    """Largest balanced accuracy (TPR + TNR) / 2 that any threshold reaches.

    The threshold is chosen on these very rows, so this bounds the accuracy of a
    detector from above; a detector's own flags are judged by
    :data:`skood.model_selection.balanced_accuracy_scorer`.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Class labels; -1 marks an outlier.
    y_score : array-like of shape (n_samples,)
        Higher = more in-distribution.
    pos_label : {"id", "ood"}, default="id"
        The positive side. The value is the same for both.

    Returns
    -------
    float
        In [0.5, 1].

    Raises
    ------
    ValueError
        If one side is missing, lengths differ, a score is NaN or `pos_label` unknown.

    References
    ----------
    Lee, Lee, Lee, Shin. A simple unified framework for detecting out-of-distribution
    samples and adversarial attacks. NeurIPS 2018 (detection accuracy).

    Examples
    --------
    >>> from skood.metrics import detection_accuracy
    >>> detection_accuracy([0, 0, -1, -1], [4.0, 2.0, 3.0, 1.0])
    0.75
    """
    return sc.best_balanced_accuracy(_counts(y_true, y_score, pos_label))


def _counts(
    y_true: ArrayLike, y_score: ArrayLike, pos_label: PosLabel
) -> sc.ScoreCounts:
    if pos_label not in ("id", "ood"):
        raise ValueError(
            f'pos_label must be "id" (in-distribution is positive) or "ood" (outliers '
            f"are); got {pos_label!r}."
        )
    mask = inlier_mask(y_true, "y_true")
    ranks = sc.descending_ranks(sc.checked_scores(mask, y_score, "y_score"))
    counts = sc.count(ranks[mask], ranks[~mask], int(ranks.max()) + 1)
    return counts if pos_label == "id" else counts.swapped()
