"""Weights of members, learnt from rows that are known, or made, to be outliers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

__all__ = ["lda_weights", "logistic_weights"]

Floats = NDArray[np.float64]

FARTHEST = 6.0
"""Scores count up to here: one member that is far off says no more than others."""


def lda_weights(
    inliers: Floats, outliers: Iterable[Floats], shrinkage: float
) -> Floats | None:
    r"""Return the direction that tells pseudo outliers from held-out rows.

    :math:`w = \max(C^{-1} \delta, 0)` with C the covariance of the held-out rows'
    scores, shrunk towards a multiple of the identity, and :math:`\delta` the mean over
    the kinds of how much lower their scores are.

    Parameters
    ----------
    inliers : ndarray of shape (n, members)
        Comparable scores of held-out rows.
    outliers : iterable of ndarray of shape (any, members)
        Those of each kind of pseudo outliers.
    shrinkage : float
        In [0, 1]; 1 is a multiple of the identity.

    Returns
    -------
    ndarray of shape (members,), or None
        They sum to 1; None if no member sees the outliers.

    References
    ----------
    Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance
    matrices", Journal of Multivariate Analysis 88, 2004 (the target of the shrinkage).

    Examples
    --------
    >>> import numpy as np
    >>> from skood.ensemble.weights import lda_weights
    >>> rng = np.random.default_rng(0)
    >>> inliers, noise = rng.normal(size=(500, 3)), rng.normal(size=(500, 3))
    >>> lda_weights(inliers, [noise - [2.0, 1.0, 0.0]], 0.3).round(1)
    array([0.6, 0.4, 0. ])
    """
    known = np.clip(inliers, -FARTHEST, FARTHEST)
    shifts = [known.mean(axis=0) - _clipped_mean(kind) for kind in outliers]
    covariance = np.atleast_2d(np.cov(known, rowvar=False))
    size = max(float(np.trace(covariance)) / len(covariance), 1e-12)
    target = size * np.eye(len(covariance))
    shrunk = (1 - shrinkage) * covariance + shrinkage * target
    direction = np.linalg.lstsq(shrunk, np.mean(shifts, axis=0), rcond=None)[0]
    positive = np.maximum(direction, 0.0)
    total = positive.sum()
    return None if total <= 0 else positive / total


def logistic_weights(inliers: Floats, outliers: Floats, prior: Floats) -> Floats:
    r"""Return the weights of a logistic regression, drawn towards a prior's.

    The loss is balanced between the two sides; the penalty is
    :math:`\lVert w - a v \rVert^2 / 2` with v the prior's weights and a their best
    common factor, so that few outliers leave the prior as it is. None is negative.

    Parameters
    ----------
    inliers, outliers : ndarray of shape (any, members)
        Comparable scores of both kinds.
    prior : ndarray of shape (members,)
        Weights that sum to 1.

    Returns
    -------
    ndarray of shape (members,)
        They sum to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.ensemble.weights import logistic_weights
    >>> rng = np.random.default_rng(0)
    >>> inliers, noise = rng.normal(size=(500, 2)), rng.normal(size=(500, 2))
    >>> logistic_weights(inliers, noise - [2.0, 0.0], np.full(2, 0.5)).round(1)
    array([1., 0.])
    """
    x = np.clip(np.vstack([inliers, outliers]), -FARTHEST, FARTHEST)
    sign = np.repeat([1.0, -1.0], [len(inliers), len(outliers)])
    share = np.where(sign > 0, 1.0 / len(inliers), 1.0 / len(outliers)) / 2
    share = share * len(outliers)  # a penalty that many outliers outweigh
    factor = _minimum((x @ prior)[:, None], sign, share, np.zeros(1))
    weights = _minimum(x, sign, share, factor * prior)
    total = weights.sum()
    return prior if total <= 0 else weights / total


def _minimum(x: Floats, sign: Floats, share: Floats, centre: Floats) -> Floats:
    """Return the non-negative weights of least penalised logistic loss."""

    def loss(values: Floats) -> tuple[float, Floats]:
        weights, intercept = values[:-1], values[-1]
        margin = sign * (x @ weights + intercept)
        away = weights - centre
        slope = -share * sign * expit(-margin)
        value = share @ np.logaddexp(0.0, -margin) + away @ away / 2
        return float(value), np.append(x.T @ slope + away, slope.sum())

    bounds = [(0.0, None)] * x.shape[1] + [(None, None)]
    start = np.append(np.maximum(centre, 0.0), 0.0)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return np.asarray(found.x[:-1])


def _clipped_mean(scores: Floats) -> Floats:
    return np.asarray(np.clip(scores, -FARTHEST, FARTHEST).mean(axis=0))
