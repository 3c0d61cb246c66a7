"""Scores of logits seen from several anchors: temperature, calibration, AMP's score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from skood.numerics.logsumexp import log_sum_exp

__all__ = [
    "SCORES",
    "amp",
    "calibrated",
    "energy",
    "max_probability",
    "negative_entropy",
]

Array = NDArray[np.float64]

LEAST = 1e-6
"""Added to the spread where it divides: anchors that agree would give infinity."""


def spread(logits: Array, over_classes: str) -> Array:
    """Return how much the anchors disagree about each row (Eq. 1).

    Parameters
    ----------
    logits : ndarray of shape (n_anchors, n, n_classes)
        Of two anchors or more.
    over_classes : {"mean", "sum"}
        What becomes of the standard deviations of the classes' sigmoids.

    Returns
    -------
    ndarray of shape (n,)
        The mean is below 0.71.
    """
    deviations = expit(logits).std(axis=0, ddof=1)
    total: Array = deviations.sum(axis=1)
    return total / logits.shape[2] if over_classes == "mean" else total


def temperatures(logits: Array, kind: str, over_classes: str) -> Array:
    """Return each row's temperature.

    Parameters
    ----------
    logits : ndarray of shape (n_anchors, n, n_classes)
        Of two anchors or more.
    kind : {"exp", "ratio"}
        1 + exp(spread), or the spread itself (plus 1e-6).
    over_classes : {"auto", "mean", "sum"}
        ``"auto"`` is the mean for ``"exp"`` and the sum for ``"ratio"``.

    Returns
    -------
    ndarray of shape (n,)

    Examples
    --------
    >>> import numpy as np
    >>> from skood.neural.scores import temperatures
    >>> one = np.array([[3.0, -1.0]])
    >>> temperatures(np.stack([one, one]), "exp", "auto")
    array([2.])
    """
    if over_classes == "auto":
        over_classes = "mean" if kind == "exp" else "sum"
    tau = spread(logits, over_classes)
    return 1 + np.exp(tau) if kind == "exp" else tau + LEAST


def calibrated(logits: Array, kind: str = "exp", over_classes: str = "auto") -> Array:
    """Return the mean logits over each row's temperature.

    Parameters
    ----------
    logits : ndarray of shape (n_anchors, n, n_classes)
        Of two anchors or more.
    kind, over_classes : str
        As for :func:`temperatures`.

    Returns
    -------
    ndarray of shape (n, n_classes)
    """
    scale = temperatures(logits, kind, over_classes)
    return logits.mean(axis=0) / scale[:, None]


def amp(z: Array) -> Array:
    """Return minus the mean log-probability of the classes (Eq. 2), shape (n,).

    A row whose softmax is peaked has very small probabilities for the other classes.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.neural.scores import amp
    >>> amp(np.zeros((1, 4))) == np.log(4)
    array([ True])
    """
    score: Array = -_log_softmax(z).mean(axis=1)
    return score


def negative_entropy(z: Array) -> Array:
    """Return minus the entropy of the softmax, shape (n,)."""
    log_p = _log_softmax(z)
    total: Array = (np.exp(log_p) * log_p).sum(axis=1)
    return total


def energy(z: Array) -> Array:
    """Return the log-sum-exp, shape (n,)."""
    score: Array = log_sum_exp(z)
    return score


def max_probability(z: Array) -> Array:
    """Return the largest of the softmax, shape (n,)."""
    top: Array = np.exp(_log_softmax(z).max(axis=1))
    return top


def _log_softmax(z: Array) -> Array:
    # From the largest logit down: what is subtracted from large logits loses digits.
    below = z - z.max(axis=1, keepdims=True)
    log_p: Array = below - log_sum_exp(below)[:, None]
    return log_p


SCORES = {
    "amp": amp,
    "entropy": negative_entropy,
    "energy": energy,
    "msp": max_probability,
}
