"""Features drawn into their typical range."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np

from skood._sklearn_compat import Interval
from skood.detectors.declared import field
from skood.detectors.shaping._spread import Spread
from skood.detectors.shaping.base import ShapingDetector
from skood.detectors.training import Training
from skood.numerics.device import array_namespace, like

__all__ = ["BATS"]


class BATS(ShapingDetector):
    r"""Typical features: each unit is drawn into its usual range.

    The features become h clipped to :math:`\mu_j \pm \lambda \sigma_j`, unit by unit,
    with the mean and standard deviation of the training rows.

    The authors clip before the last pooling as well, by the statistics that a batch
    normalisation keeps; here it is what the head gets, and its own moments. Their
    :math:`\lambda` differs between networks, see ``published_n_std``. The default of 2
    is ours and sees no outliers.

    The threshold comes from rows held out of other fits.

    Parameters
    ----------
    n_std : float, default=2.0
        :math:`\lambda`, positive.
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
    lower_, upper_ : ndarray of shape (n_features,)
        The ranges' ends.
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
    Zhu et al., "Boosting out-of-distribution detection with typical features",
    NeurIPS 2022.

    Examples
    --------
    >>> from skood import BATS
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = BATS().fit(features, y)
    >>> bool((detector.lower_ < detector.upper_).all())
    True
    """

    n_std: float = field(default=2.0, kw_only=False)

    published_n_std: ClassVar[dict[str, float]] = {
        "ResNet-18 on CIFAR-10": 3.25,
        "ViT-B/16 on ImageNet": 1.05,
    }
    """The authors' choices."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_std": [Interval(Real, 0, None, closed="neither")],
    }

    def _learn_shape(self, training: Training) -> None:
        spread = self._gathered(lambda h, z, _: Spread.of(h), training, logits=False)
        half = self.n_std * np.sqrt(spread.squares / spread.count)
        self.lower_, self.upper_ = spread.mean - half, spread.mean + half

    def _shaped(self, h: Any) -> Any:
        xp = array_namespace(h)
        return xp.clip(h, like(self.lower_, h), like(self.upper_, h))
