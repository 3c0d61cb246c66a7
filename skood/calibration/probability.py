"""From scores to the probability of being in-distribution, when outliers are known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

Floats = NDArray[np.float64]


class LogisticCalibration:
    """Logistic regression of "in-distribution" on the standardised score.

    The score is centred and scaled by the in-distribution scores' median and spread and
    passed through the inverse hyperbolic sine, which is the identity for usual scores
    and a signed logarithm for the far ones of outliers.

    Parameters
    ----------
    inlier_scores : ndarray of shape (n,)
        Held-out scores.
    outlier_scores : ndarray of shape (m,)
        Scores of outliers that the detector was not fitted on.
    inlier_weight : float, default=1.0
        In-distribution rows that each held-out one stands for.

    References
    ----------
    Platt, "Probabilistic outputs for support vector machines and comparisons to
    regularized likelihood methods", Advances in large margin classifiers, 1999.
    """

    def __init__(
        self,
        inlier_scores: Floats,
        outlier_scores: Floats,
        inlier_weight: float = 1.0,
    ) -> None:
        self.standard = Standardised.of(inlier_scores)
        scores = np.concatenate([inlier_scores, outlier_scores])
        numbers = [len(inlier_scores), len(outlier_scores)]
        kinds, weights = (np.repeat(v, numbers) for v in ([1, -1], [inlier_weight, 1]))
        self.model = LogisticRegression()
        self.model.fit(self._inputs(scores), kinds, sample_weight=weights)

    def __call__(self, scores: Floats) -> Floats:
        """Return P(outlier) and P(in-distribution), of shape (m, 2)."""
        return np.asarray(self.model.predict_proba(self._inputs(scores)))

    def _inputs(self, scores: Floats) -> Floats:
        limit = np.finfo(np.float64).max
        standard = np.clip(self.standard(scores), -limit, limit)
        return np.arcsinh(standard)[:, None]


class Standardised:
    """Scores relative to the median and the interquartile range of others."""

    def __init__(self, centre: float, spread: float) -> None:
        self.centre, self.spread = centre, spread

    @classmethod
    def of(cls, scores: Floats) -> Standardised:
        """Take centre and spread from the finite scores."""
        finite = scores[np.isfinite(scores)]
        if len(finite) == 0:
            return cls(0.0, 1.0)
        low, centre, high = np.quantile(finite, [0.25, 0.5, 0.75])
        return cls(float(centre), float(high - low) or 1.0)

    def __call__(self, scores: Floats) -> Floats:
        """Return the standardised scores."""
        return (scores - self.centre) / self.spread
