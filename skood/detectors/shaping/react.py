"""Rectified activations."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

from skood._sklearn_compat import Interval
from skood.detectors.declared import field
from skood.detectors.shaping.base import ShapingDetector
from skood.detectors.training import Training
from skood.numerics.device import array_namespace

__all__ = ["ReAct"]


class ReAct(ShapingDetector):
    r"""Rectified activations: no unit is more active than most are.

    Outliers make few units very active. The features become
    :math:`h'_j = \min(h_j, t)`, with t a percentile of all activations of all training
    rows together, and the logits :math:`W h' + b` are scored. The percentile is exact,
    and memory does not grow with the rows.

    The default is the authors' 90; OpenOOD chooses it with outliers, and takes the
    activations of held-out rows. The threshold comes from rows
    held out of other fits.

    Parameters
    ----------
    percentile : float, default=90
        Where activations are cut off, in (0, 100].
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
    limit_ : float
        t, the largest activation that counts.
    head_ : LinearHead
        The last linear map.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there is no head, or no activation lies below the percentile.

    References
    ----------
    Sun, Guo and Li, "ReAct: out-of-distribution detection with rectified activations",
    NeurIPS 2021.

    Examples
    --------
    >>> from skood import ReAct
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = ReAct().fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    percentile: float = field(default=90, kw_only=False)

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "percentile": [Interval(Real, 0, 100, closed="right")],
    }

    def _learn_shape(self, training: Training) -> None:
        self.limit_ = self._cut(training)

    def _shaped(self, h: Any) -> Any:
        return array_namespace(h).clip(h, None, self.limit_)
