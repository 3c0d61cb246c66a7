"""Features replaced by typical ones in the same order."""

from __future__ import annotations

from typing import Any

import numpy as np

from skood.detectors.class_means import ClassSums
from skood.detectors.shaping.base import ShapingDetector
from skood.detectors.training import Training
from skood.numerics.device import array_namespace, like
from skood.numerics.graph import ascending_order, in_graph

__all__ = ["RAS"]


class RAS(ShapingDetector):
    r"""Ranked activation shift: typical activations in the row's own order.

    The activations of each training row are sorted, and the sorted rows averaged: m.
    The features become :math:`h'_j = m_{\text{rank}(h_j)}`, the least entry of m for
    the least active unit and so on. So only the order of the activations counts,
    and there is nothing to tune. Features may be negative.

    Units that tie, as the zeros of a ReLU do, are in the order of their columns; the
    authors' sort leaves theirs open.

    The threshold comes from the scores of the rows given to ``fit``, which are those of
    new rows: a row enters m with its sorted activations, its score with their order.

    Parameters
    ----------
    score : LogitDetector, optional
        The score of the new logits; None is ``Energy()``.
    head : LinearHead, optional
        The network's last linear map; None takes the one of the features, or finds it.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    profile_ : ndarray of shape (n_features,)
        m, in ascending order.
    head_ : LinearHead
        The last linear map.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there is no head.

    References
    ----------
    Guglielmo and Masana, "Ranked activation shift for post-hoc out-of-distribution
    detection", ECCV 2026.

    Examples
    --------
    >>> from skood import RAS
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = RAS().fit(features, y)
    >>> detector.profile_.shape
    (10,)
    """

    _unbiased = "the profile knows the sorted activations, the score the order only"

    def _learn_shape(self, training: Training) -> None:
        sums = self._gathered(_sorted_sums, training, logits=False)
        self.profile_ = sums.overall

    def _shaped(self, h: Any) -> Any:
        order, profile = ascending_order(h), like(self.profile_, h)
        if in_graph():
            return h.scatter(1, order, profile.expand_as(h))
        xp = array_namespace(h)
        shaped = xp.empty_like(h)
        rows = xp.arange(len(h))[:, None]
        shaped[rows, order] = profile
        return shaped


def _sorted_sums(h: Any, _z: Any, _classes: Any) -> ClassSums:
    ordered = array_namespace(h).sort(h, axis=1)
    return ClassSums.of(ordered, np.zeros(len(h), np.intp), 1)
