"""Rows of each side at every distinct score: all that a ranking metric looks at.

Counting first makes ties, infinite scores and bootstrap resamples one and the same
case: a resample is another pair of counts over the same scores.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import column_or_1d

Ranks = NDArray[np.intp]


class ScoreCounts(NamedTuple):
    """How many positives and negatives have each distinct score, highest first."""

    positives: NDArray[np.intp]
    negatives: NDArray[np.intp]

    def swapped(self) -> ScoreCounts:
        """Return the counts with the other side as positive and scores negated."""
        return ScoreCounts(self.negatives[::-1], self.positives[::-1])


def checked_scores(
    mask: NDArray[np.bool_], y_score: ArrayLike, name: str
) -> NDArray[np.float64]:
    """Return one float64 score per row of ``mask``; both sides and no NaN, or raise."""
    scores = column_or_1d(np.asarray(y_score, dtype=np.float64))
    if len(scores) != len(mask):
        raise ValueError(
            f"{name} has {len(scores)} rows but y_true {len(mask)}; one score per row "
            "is wanted."
        )
    if mask.all():
        raise ValueError(
            "y_true has no outliers: no label is -1, so there is nothing to detect. "
            "Mark known outliers with -1, or make some with "
            "skood.model_selection.make_pseudo_outliers."
        )
    if not mask.any():
        raise ValueError(
            "y_true has no inliers: every label is -1. Give in-distribution rows their "
            "class label (0 if there are no classes)."
        )
    n_nan = int(np.isnan(scores).sum())
    if n_nan:
        raise ValueError(
            f"{name} has {n_nan} NaN of {len(scores)}; a NaN cannot be ranked. Look at "
            "the rows that the detector could not score."
        )
    return scores


def descending_ranks(scores: NDArray[np.float64]) -> Ranks:
    """Return each row's place among the distinct scores; the highest has place 0."""
    _, ranks = np.unique(-scores, return_inverse=True)
    return ranks


def count(positive_ranks: Ranks, negative_ranks: Ranks, n_ranks: int) -> ScoreCounts:
    """Return the counts of two sets of rows over ``n_ranks`` distinct scores."""
    return ScoreCounts(
        np.bincount(positive_ranks, minlength=n_ranks),
        np.bincount(negative_ranks, minlength=n_ranks),
    )


def area_under_roc(counts: ScoreCounts) -> float:
    """Return P(positive above negative) + P(tie) / 2."""
    positives, negatives = counts
    accepted = np.cumsum(positives)
    doubled = negatives @ (2 * accepted - positives)
    return float(doubled / (2 * accepted[-1] * negatives.sum()))


def average_precision(counts: ScoreCounts) -> float:
    """Return the step-wise area under the precision-recall curve."""
    positives, negatives = counts
    steps = np.flatnonzero(positives)
    accepted = np.cumsum(positives)[steps]
    precision = accepted / (accepted + np.cumsum(negatives)[steps])
    return float(positives[steps] @ precision / accepted[-1])


def false_positive_rate(counts: ScoreCounts, tpr: float) -> float:
    """Return the FPR at the highest threshold whose TPR is at least ``tpr``."""
    accepted, false = np.cumsum(counts.positives), np.cumsum(counts.negatives)
    point = np.searchsorted(accepted / accepted[-1], tpr, side="left")
    return float(false[point] / false[-1])


def best_balanced_accuracy(counts: ScoreCounts) -> float:
    """Return the largest (TPR + TNR) / 2 over all thresholds, "accept none" too."""
    accepted, false = np.cumsum(counts.positives), np.cumsum(counts.negatives)
    gain = accepted / accepted[-1] - false / false[-1]
    return float(0.5 + 0.5 * max(gain.max(), 0.0))
