"""Rows of each side at every distinct score: all that a ranking metric looks at.

Counting first makes ties, infinite scores and bootstrap resamples one and the same
case: a resample is another pair of counts over the same scores.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import column_or_1d

from skood.numerics.arrays import as_array
from skood.numerics.checked import refuse_nan

Ranks = NDArray[np.intp]


class ScoreCounts(NamedTuple):
    """How many rows have each distinct score, highest first, and their running sums."""

    positives: Ranks
    negatives: Ranks
    accepted: Ranks  # positives at or above each score
    false: Ranks  # negatives at or above each score

    def swapped(self) -> ScoreCounts:
        """Return the counts with the other side as positive and scores negated."""
        return ScoreCounts(
            self.negatives[::-1],
            self.positives[::-1],
            _sums_from_below(self.negatives, self.false),
            _sums_from_below(self.positives, self.accepted),
        )


def checked_scores(
    mask: NDArray[np.bool_], y_score: ArrayLike, name: str
) -> NDArray[np.float64]:
    """Return one float64 score per row of ``mask``; both sides and no NaN, or raise."""
    scores = column_or_1d(as_array(y_score, name, np.float64))
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
            "class label, or any other one where they have none."
        )
    refuse_nan(scores, f"{name} has")
    return scores


def descending_ranks(scores: NDArray[np.float64]) -> Ranks:
    """Return each row's place among the distinct scores; the highest has place 0."""
    _, ranks = np.unique(-scores, return_inverse=True)
    return ranks


def count(positive_ranks: Ranks, negative_ranks: Ranks, n_ranks: int) -> ScoreCounts:
    """Return the counts of two sets of rows over ``n_ranks`` distinct scores."""
    positives = np.bincount(positive_ranks, minlength=n_ranks)
    negatives = np.bincount(negative_ranks, minlength=n_ranks)
    return ScoreCounts(positives, negatives, positives.cumsum(), negatives.cumsum())


def area_under_roc(counts: ScoreCounts) -> float:
    """Return P(positive above negative) + P(tie) / 2."""
    doubled = counts.negatives @ (2 * counts.accepted - counts.positives)
    return float(doubled / (2 * counts.accepted[-1] * counts.false[-1]))


def average_precision(counts: ScoreCounts) -> float:
    """Return the step-wise area under the precision-recall curve."""
    # a score that a resample did not draw may have nothing above it, and counts 0
    precision = counts.accepted / np.maximum(counts.accepted + counts.false, 1)
    return float(counts.positives @ precision / counts.accepted[-1])


def false_positive_rate(counts: ScoreCounts, tpr: float) -> float:
    """Return the FPR at the highest threshold whose TPR is at least ``tpr``."""
    point = np.searchsorted(counts.accepted / counts.accepted[-1], tpr, side="left")
    return float(counts.false[point] / counts.false[-1])


def best_balanced_accuracy(counts: ScoreCounts) -> float:
    """Return the largest (TPR + TNR) / 2 over all thresholds, "accept none" too."""
    tpr = counts.accepted / counts.accepted[-1]
    gain = tpr - counts.false / counts.false[-1]
    return float(0.5 + 0.5 * max(gain.max(), 0.0))


def _sums_from_below(counts: Ranks, sums: Ranks) -> Ranks:
    return (sums[-1] - sums + counts)[::-1]
