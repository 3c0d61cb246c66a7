"""Distance to the decision boundaries, relative to the distance to the mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.distance import pdist, squareform

from skood.detectors.class_means import mean_row
from skood.detectors.head.base import HeadDetector
from skood.detectors.training import Training
from skood.numerics.device import array_namespace, like
from skood.numerics.rows import best_logit, distances_to, nonzero, row_dots

__all__ = ["FDBD"]


class FDBD(HeadDetector):
    r"""Distance to the decision boundaries, relative to the distance to the mean.

    The boundary between the predicted class c and class k is a hyperplane of which
    h is :math:`(z_c - z_k) / \|w_c - w_k\|` away. The score [1]_ is the mean over all
    other classes, divided by how far h is from the mean :math:`\mu` of the training
    rows:

    .. math::

       s = \frac{1}{C - 1} \sum_{k \ne c}
           \frac{z_c - z_k}{\|w_c - w_k\|} \Big/ \|h - \mu\|

    There is nothing to tune. Classes with the same weights have no boundary between
    them and add nothing; a row that is the mean is not divided.

    The threshold comes from rows held out of other fits.

    Parameters
    ----------
    head : LinearHead, optional
        The network's last linear map; None takes the one of the features, or finds it.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
        :math:`\mu`.
    closeness_ : ndarray of shape (n_classes, n_classes)
        :math:`1 / \|w_c - w_k\|` over C - 1, zero where the weights are the same.
    head_ : LinearHead
        The last linear map.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there is no head, or its classes all have the same weights.

    References
    ----------
    .. [1] Liu and Qin, "Fast decision boundary based out-of-distribution detector",
       ICML 2024.

    Examples
    --------
    >>> from skood import FDBD
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = FDBD().fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    _elementwise = True
    _as_stored = True

    def _learn_head(self, training: Training) -> None:
        assert self.head_ is not None
        self.mean_ = mean_row(self, training)
        self.closeness_ = _closeness(self.head_.weight.astype(np.float64))

    def _head_scores(self, h: Any, z: Any) -> Any:
        xp = array_namespace(z)
        best = xp.argmax(z, axis=1)
        ahead = best_logit(z)[:, None] - z
        distance = row_dots(ahead, like(self.closeness_, z)[best])
        return distance / nonzero(distances_to(self.mean_, h))


def _closeness(weight: Any) -> Any:
    """Return one over the distances of the rows, over their number but one."""
    apart = squareform(pdist(weight))
    if not apart.any():
        raise ValueError(
            f"the head's weight, of shape {weight.shape}, has the same row for every "
            "class: there is no decision boundary."
        )
    return (apart > 0) / np.where(apart > 0, apart, 1) / (len(weight) - 1)
