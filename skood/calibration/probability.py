"""From scores to the probability of being in-distribution, when outliers are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LogisticCalibration:
    """Logistic regression of "in-distribution" on the standardised score.

    The score is centred and scaled by the in-distribution scores' median and spread and
    passed through the inverse hyperbolic sine, which is the identity for usual scores
    and a signed logarithm for the far ones of outliers.

    Parameters
    ----------
    standard : Standardised
        By the in-distribution scores.
    slope, intercept : float
        Of the regression. Numbers, and not scikit-learn's model: a file of that is
        tied to its version.

    References
    ----------
    Platt, "Probabilistic outputs for support vector machines and comparisons to
    regularized likelihood methods", Advances in large margin classifiers, 1999.
    """

    standard: Standardised
    slope: float
    intercept: float

    @classmethod
    def of(
        cls, inlier_scores: Floats, outlier_scores: Floats, inlier_weight: float = 1.0
    ) -> LogisticCalibration:
        """Return the regression on known scores.

        Parameters
        ----------
        inlier_scores : ndarray of shape (n,)
            Held-out scores.
        outlier_scores : ndarray of shape (m,)
            Scores of outliers that the detector was not fitted on.
        inlier_weight : float, default=1.0
            In-distribution rows that each held-out one stands for.

        Returns
        -------
        LogisticCalibration
        """
        standard = Standardised.of(inlier_scores)
        scores = np.concatenate([inlier_scores, outlier_scores])
        numbers = [len(inlier_scores), len(outlier_scores)]
        kinds, weights = (np.repeat(v, numbers) for v in ([1, -1], [inlier_weight, 1]))
        model = LogisticRegression()
        inputs = _inputs(standard, scores)[:, None]
        model.fit(inputs, kinds, sample_weight=weights)
        return cls(standard, float(model.coef_[0, 0]), float(model.intercept_[0]))

    def __call__(self, scores: Floats) -> Floats:
        """Return P(outlier) and P(in-distribution), of shape (m, 2)."""
        inlier = expit(_inputs(self.standard, scores) * self.slope + self.intercept)
        return np.column_stack([1 - inlier, inlier])


@dataclass(frozen=True)
class Standardised:
    """Scores relative to the median and the interquartile range of others.

    Parameters
    ----------
    centre, spread : float
        Median and interquartile range.
    """

    centre: float
    spread: float

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


def _inputs(standard: Standardised, scores: Floats) -> Floats:
    limit = np.finfo(np.float64).max
    return np.arcsinh(np.clip(standard(scores), -limit, limit))
