"""From the scores of several detectors to one.

Every rule takes comparable scores of shape (n, members), standard normal on
in-distribution rows or nearly, and returns one score a row, higher for more
in-distribution. Their p-values are the normal distribution's, taken as logarithms, so
that far outliers do not tie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, logsumexp

__all__ = ["RULES", "mean_by_view"]

Floats = NDArray[np.float64]

SMALLEST = -690.0
"""The logarithm of the smallest p-value whose reciprocal is finite."""


def mean_by_view(views: Sequence[str]) -> Floats:
    """Return weights that are equal between views, and equal within each.

    Parameters
    ----------
    views : sequence of str
        The view of each member.

    Returns
    -------
    ndarray of shape (members,)
        They sum to 1.

    Examples
    --------
    >>> from skood.ensemble.rules import mean_by_view
    >>> mean_by_view(["logits", "logits", "distance"])
    array([0.25, 0.25, 0.5 ])
    """
    _, numbers = np.unique(np.asarray(views), return_inverse=True)
    sizes = np.bincount(numbers)
    return 1.0 / (len(sizes) * sizes[numbers])


def fisher(scores: Floats) -> Floats:
    r"""Return :math:`\sum_j \log p_j` (Fisher 1925)."""
    return np.asarray(log_ndtr(scores).sum(axis=1))


def stouffer(scores: Floats) -> Floats:
    r"""Return :math:`\sum_j z_j / \sqrt m` (Stouffer 1949)."""
    return np.asarray(scores.sum(axis=1) / np.sqrt(scores.shape[1]))


def simes(scores: Floats) -> Floats:
    r"""Return :math:`\log \min_j (m / j) p_{(j)}` (Simes 1986)."""
    ordered = np.sort(log_ndtr(scores), axis=1)
    m = scores.shape[1]
    return np.asarray((ordered + np.log(m / np.arange(1, m + 1))).min(axis=1))


def cauchy(scores: Floats) -> Floats:
    r"""Return :math:`-\sinh^{-1} T`, T the mean of :math:`\tan((1/2 - p_j) \pi)`.

    T is the Cauchy combination (Liu and Xie 2020); what is below the smallest number
    that has a reciprocal counts by its logarithm.
    """
    log_p = log_ndtr(scores)
    p = np.exp(np.maximum(log_p, SMALLEST))
    # the cotangent of pi p, without the loss of 1/2 - p for small p
    statistic = np.mean(1.0 / np.tan(np.pi * p), axis=1)
    beyond = np.minimum(log_p - SMALLEST, 0.0).mean(axis=1)
    return np.asarray(beyond - np.arcsinh(statistic))


def harmonic(scores: Floats) -> Floats:
    r"""Return the logarithm of the harmonic mean of the p-values (Wilson 2019)."""
    m = scores.shape[1]
    return np.asarray(np.log(m) - logsumexp(-log_ndtr(scores), axis=1))


def lowest(scores: Floats) -> Floats:
    """Return the score of the member that is most sure of an outlier (Tippett 1931)."""
    return np.asarray(scores.min(axis=1))


RULES: dict[str, Callable[[Floats], Floats]] = {
    "fisher": fisher,
    "stouffer": stouffer,
    "simes": simes,
    "cauchy": cauchy,
    "harmonic": harmonic,
    "min": lowest,
}
"""The rules without weights, by the name that ``combine`` has for them."""
