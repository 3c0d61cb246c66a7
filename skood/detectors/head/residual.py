"""What of the features lies outside the space of the training features."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skood._sklearn_compat import Interval
from skood.detectors.head.base import HeadDetector
from skood.detectors.head.moments import row_moments
from skood.detectors.head.subspaces import (
    component_number,
    origin,
    principal_axes,
    second_moment,
    spans_about_all,
)
from skood.detectors.training import Training
from skood.numerics.device import like
from skood.numerics.rows import lengths

__all__ = ["Residual"]


class Residual(HeadDetector):
    r"""Length of the features outside the principal space of the training features.

    The score [1]_ is :math:`-\|R^\top (h - u)\|`. The origin
    :math:`u = -W^+ b` is where the logits vanish (or are smallest), and R has the
    axes of the second moment of :math:`h - u` in the training rows, which is not
    centred at their mean, without the D largest.

    The authors take D = 1000 of 2,048 and more features, 512 of 768 and more, half of
    fewer: ``published_components(d)``. The default is ours: as many as hold 99 % of
    the second moment, whatever the width.

    The threshold comes from rows held out of other fits or, where about as many rows as
    columns decide which directions are left, from a fifth of the rows (up to two, where
    the rate takes as many), of which nothing is learned.

    Parameters
    ----------
    n_components : int or float, default=0.99
        D, or the share of the second moment that they hold.
    head : LinearHead, optional
        The network's last linear map; None takes the one of the features, or finds it.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    origin_ : ndarray of shape (n_features,)
        u.
    residual_axes_ : ndarray of shape (n_features, n_features - n_components)
        R.
    head_ : LinearHead
        The last linear map.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there is no head, or the training rows lie in D dimensions.

    References
    ----------
    .. [1] Wang, Li, Feng and Zhang, "ViM: out-of-distribution with virtual-logit
       matching", CVPR 2022.

    Examples
    --------
    >>> from skood import Residual
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = Residual().fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    n_components: float = 0.99

    _reads_logits = False

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
        ],
    }

    @staticmethod
    def published_components(n_features: int) -> int:
        """Return the authors' D for features of that width."""
        if n_features >= 2048:
            return 1000
        return 512 if n_features >= 768 else n_features // 2

    def _learn_head(self, training: Training) -> None:
        assert self.head_ is not None
        self.origin_ = origin(self.head_)
        self.residual_axes_ = self._axes(training)

    def _hangs_on_few(self, training: Training) -> bool:
        return spans_about_all(len(training), len(self.origin_))

    def _axes(self, training: Training) -> NDArray[np.float64]:
        moment = second_moment(row_moments(self, training), self.origin_)
        values, axes = principal_axes(moment)
        return axes[:, component_number(self, values) :].copy()

    def _residuals(self, h: Any) -> Any:
        return lengths((h - like(self.origin_, h)) @ like(self.residual_axes_, h))

    def _head_scores(self, h: Any, z: Any) -> Any:
        return -self._residuals(h)
