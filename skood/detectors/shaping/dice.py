"""Only the weights that contribute most."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np

from skood._sklearn_compat import Interval
from skood.detectors.class_means import mean_row
from skood.detectors.declared import field
from skood.detectors.head.base import product
from skood.detectors.shaping.base import ShapingDetector
from skood.detectors.training import Training
from skood.numerics.device import like

__all__ = ["DICE"]


class DICE(ShapingDetector):
    r"""Directed sparsification: only the weights that contribute most are kept.

    The contribution of unit j to class k is :math:`W_{kj} \bar h_j`, with the mean
    feature :math:`\bar h` of the training rows. Weights whose contribution is not above
    a percentile of all :math:`C d` contributions become zero; the logits
    :math:`(W \circ M) h + b` are scored.

    The default is the authors' for CIFAR, and OpenOOD's. Nothing of it was chosen for
    other networks: the useful value depends on how many weights matter.

    The threshold comes from rows held out of other fits.

    Parameters
    ----------
    percentile : float, default=90
        Of the contributions, in [0, 100).
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
    weight_ : ndarray of shape (n_classes, n_features)
        The weights that are kept, zero elsewhere.
    head_ : LinearHead
        The last linear map.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there is no head, or no contribution lies above the percentile.

    References
    ----------
    Sun and Li, "DICE: leveraging sparsification for out-of-distribution detection",
    ECCV 2022.

    Examples
    --------
    >>> from skood import DICE
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = DICE(70).fit(features, y)
    >>> int((detector.weight_ != 0).sum())
    8
    """

    percentile: float = field(default=90, kw_only=False)

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "percentile": [Interval(Real, 0, 100, closed="left")],
    }

    def _learn_shape(self, training: Training) -> None:
        weight = self._linear.weight.astype(np.float64)
        contributions = weight * mean_row(self, training)
        kept = contributions > np.percentile(contributions, self.percentile)
        if not kept.any():
            raise ValueError(
                f"percentile={self.percentile} of the {contributions.size} "
                "contributions is their largest, and no weight is left: lower "
                "percentile."
            )
        self.weight_ = weight * kept

    def _shaped_logits(self, h: Any) -> Any:
        z = product(h, self.weight_.astype(self._linear.weight.dtype, copy=False))
        return z + like(self._linear.bias, z)
