"""Divergence from the typical probabilities of a class."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from skood.detectors.class_means import ClassSums
from skood.detectors.logits.base import LearnedLogitDetector, LogitsOf
from skood.detectors.training import Training
from skood.features import LayerFeatures
from skood.features.chunks import merged_statistics
from skood.numerics.device import array_namespace, like, to_numpy
from skood.numerics.probabilities import log_softmax
from skood.numerics.ranks import rows_for_rate
from skood.numerics.rows import best_logit, cache_blocks, cache_slices, row_dots

__all__ = ["KLMatching"]


class KLMatching(LearnedLogitDetector):
    r"""Divergence of the softmax from the typical one of any class.

    The template :math:`q_k` is the mean softmax of the rows that are *predicted* as k;
    no labels are used. The score is minus the divergence from the nearest,

    .. math::

       s = -\min_k \sum_j p_j \log \frac{p_j}{q_{kj}} ,

    over all templates, not only the predicted class's. A class that is predicted for
    no row has none; OpenOOD gives it the one-hot vector instead. Give rows that the
    network was not trained on, as the authors do: templates of training rows are too
    sure.

    A few rows that the network is unsure of make most of a template, and the scores of
    all sure rows are nearly equal, at a place that moves with the template. Other fits
    are no guide to it: the threshold comes from a fifth of the rows, of which nothing
    is learned; where the rate takes more of them than two fifths, from rows held out
    of other fits.

    Parameters
    ----------
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    log_templates_ : ndarray of shape (n_templates, n_classes)
        The logarithms of q, of the classes that are predicted, in their order.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there are no logits, or they have one column.

    References
    ----------
    Hendrycks et al., "Scaling out-of-distribution detection for real-world settings",
    ICML 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import KLMatching
    >>> rng = np.random.default_rng(0)
    >>> logits = rng.normal(size=(100, 3)) + 9 * np.eye(3)[np.arange(100) % 3]
    >>> detector = KLMatching().fit(logits)
    >>> detector.predict([[9, 0, 0], [1, 1, 1]])
    array([ 1, -1])
    """

    _several_classes = True
    _kept_out_by_class = False
    _least_rows = 1024  # products of fewer are slow

    def _learn_logits(self, training: Training, logits_of: LogitsOf) -> None:
        of_chunk = partial(_shares, logits_of=logits_of)
        sums = merged_statistics(of_chunk, training.features)
        some = np.flatnonzero(sums.counts > 0)
        shares = sums.sums[some] / sums.counts[some, None]
        floor = np.finfo(np.float64).tiny  # no probability is quite zero
        self.log_templates_ = np.log(np.maximum(shares, floor))
        own = np.arange(len(some)), some
        self.log_templates_[own] = np.log1p(-shares[own])

    def _hangs_on_few(self, training: Training) -> bool:
        return len(self._kept_out(training)) >= rows_for_rate(self.contamination)

    def _logit_scores(self, logits: Any) -> Any:
        xp = array_namespace(logits)
        log_p = xp.concat([log_softmax(block) for block in cache_blocks(logits)])
        p = xp.exp(log_p)
        log_q = like(self.log_templates_, p)
        rounded = p.astype(logits.dtype) if isinstance(p, np.ndarray) else p
        nearest = _nearest(p, log_q, rounded)
        divergences = [
            row_dots(p[rows], log_q[nearest[rows]] - log_p[rows])
            for rows in cache_slices(p, p.shape[1])
        ]
        return xp.concat(divergences)


def _nearest(p: Any, log_q: Any, rounded: Any) -> Any:
    """Return the template of the largest product with each row of p.

    The products are those of the rows as rounded, which costs half in float32; where
    another might be the largest within their error, they are those of p.
    """
    xp = array_namespace(p)
    found = rounded @ xp.astype(log_q, rounded.dtype).T
    nearest = xp.argmax(found, axis=1)
    if rounded.dtype != p.dtype:
        error = (p.shape[1] + 2) * xp.finfo(rounded.dtype).eps
        least = (1 + error) * best_logit(found)  # all are negative
        near = found >= (least / (1 - error))[:, None]
        unclear = np.count_nonzero(near, axis=1) > 1
        nearest[unclear] = xp.argmax(p[unclear] @ log_q.T, axis=1)
    return nearest


def _shares(chunk: LayerFeatures, *, logits_of: LogitsOf) -> ClassSums:
    """Return sums of the probabilities, but of 1 - p for the predicted class itself."""
    logits = logits_of(chunk)
    xp = array_namespace(logits)
    best = xp.argmax(logits, axis=1)
    p = xp.concat([_shares_of_block(block) for block in cache_blocks(logits)])
    return ClassSums.of(p, to_numpy(best), logits.shape[1])


def _shares_of_block(logits: Any) -> Any:
    xp = array_namespace(logits)
    best = xp.argmax(logits, axis=1)
    log_p = log_softmax(logits)
    p, rows = xp.exp(log_p), xp.arange(len(log_p))
    p[rows, best] = -xp.expm1(log_p[rows, best])
    return p
