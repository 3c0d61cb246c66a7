"""Activations that are neither too low nor too high."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

from skood._sklearn_compat import Interval, StrOptions
from skood.detectors.shaping.base import ShapingDetector
from skood.detectors.training import Training
from skood.numerics.device import array_namespace

__all__ = ["VRA"]


class VRA(ShapingDetector):
    r"""Variational rectified activations: low ones vanish, high ones are cut off.

    With two percentiles a and b of all activations of all training rows together,
    activations above b become b, and those below a become 0 [1]_. With ``low="clip"``
    they become a, as OpenOOD and pytorch-ood have it, which raises them instead.

    The authors take the percentiles of each unit by itself for CIFAR, for CIFAR-10 the
    defaults here, and constants for ImageNet. That the percentiles are of all units
    together, as in OpenOOD, keeps the memory bounded and is ours. OpenOOD clips between
    10 and 90, chosen on outliers; pytorch-ood clips feature maps between 1 and 99,
    entry by entry.

    The threshold comes from rows held out of other fits.

    Parameters
    ----------
    low_percentile : float, default=60
        Below which activations are low, in [0, 100).
    high_percentile : float, default=90
        Above which they are high, in (0, 100], above ``low_percentile``.
    low : {"zero", "clip"}, default="zero"
        What low activations become.
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
    limits_ : list of float
        a and b.
    head_ : LinearHead
        The last linear map.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there is no head, or the two percentiles are the same activation.

    References
    ----------
    .. [1] Xu, Lian, Liu and Tao, "VRA: variational rectified activation for
       out-of-distribution detection", NeurIPS 2023.

    Examples
    --------
    >>> from skood import VRA
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = VRA().fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    low_percentile: float = 60
    high_percentile: float = 90
    low: str = "zero"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "low_percentile": [Interval(Real, 0, 100, closed="left")],
        "high_percentile": [Interval(Real, 0, 100, closed="right")],
        "low": [StrOptions({"zero", "clip"})],
    }

    def _learn_shape(self, training: Training) -> None:
        wanted = (self.low_percentile, self.high_percentile)
        self.limits_ = self._percentiles(training, *wanted)
        lower, upper = self.limits_
        if not lower < upper:
            raise ValueError(
                f"low_percentile={wanted[0]} and high_percentile={wanted[1]} are the "
                f"activations {lower:g} and {upper:g}: nothing lies between them. "
                "Lower the one or raise the other."
            )

    def _shaped(self, h: Any) -> Any:
        xp = array_namespace(h)
        lower, upper = self.limits_
        if self.low == "clip":
            return xp.clip(h, lower, upper)
        return xp.where(h < lower, 0 * h, xp.clip(h, None, upper))
