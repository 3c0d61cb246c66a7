"""Distance to the mean of the predicted class, relative to the row's own size."""

from __future__ import annotations

from typing import Any

import numpy as np

from skood.detectors.class_means import predicted_sums
from skood.detectors.head.base import HeadDetector
from skood.detectors.training import Training
from skood.numerics.device import array_namespace, like
from skood.numerics.rows import row_sums

__all__ = ["CARef"]

NOTHING = 1e-150
"""Of the largest mean: a row of that size has no size of its own."""


class CARef(HeadDetector):
    r"""Distance to the mean of the predicted class, relative to the row's own size.

    The score [1]_ is :math:`-\|h - m_c\|_1 / \|h\|_1` for the predicted class c, where
    :math:`m_k` is the mean of the training rows that are *predicted* as k, whatever
    their label. There is nothing to tune. Where no training row is predicted as a
    class, the mean of all rows stands for it, and a warning says so.

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
    means_ : ndarray of shape (n_classes, n_features)
        :math:`m_k`.
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
    .. [1] Ling, Chang, Zhao and Xu, "CADRef: robust out-of-distribution detection via
       class-aware decoupled relative feature leveraging", CVPR 2025.

    Examples
    --------
    >>> from skood import CARef
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = CARef().fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    _elementwise = True

    def _learn_head(self, training: Training) -> None:
        sums = predicted_sums(self, training)
        self.means_ = sums.means("training row is predicted")

    def _parts(self, h: Any, z: Any) -> tuple[Any, Any]:
        """Return h less the mean of its class, over its size, and the class."""
        xp = array_namespace(h)
        predicted = xp.argmax(z, axis=1)
        size = row_sums(xp.abs(h))[:, None]
        # Beside the means, less than that is a row of zeros: else the share overflows.
        least = NOTHING * np.abs(self.means_).max()
        size = xp.where(size > least, size, xp.ones_like(size))
        return (h - like(self.means_, h)[predicted]) / size, predicted

    def _head_scores(self, h: Any, z: Any) -> Any:
        xp = array_namespace(h)
        return -row_sums(xp.abs(self._parts(h, z)[0]))
