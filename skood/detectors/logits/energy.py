"""The energy of the logits."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

from skood._sklearn_compat import Interval
from skood.detectors.declared import field
from skood.detectors.logits.base import LogitDetector
from skood.numerics.logsumexp import log_sum_exp

__all__ = ["Energy"]


class Energy(LogitDetector):
    r"""Minus the energy of the logits.

    The score is :math:`T \log \sum_c e^{z_c / T}`, the authors' energy with its sign
    turned so that higher is more in-distribution. It tends to the largest logit for
    small T.

    The threshold comes from the scores of the rows given to ``fit``. A network is
    surer of its own training data than of new data: give in-distribution rows that it
    was not trained on, as X or as ``threshold_data``.

    Parameters
    ----------
    temperature : float, default=1.0
        T, positive.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there are no logits.

    See Also
    --------
    MaxLogit : Its limit at a temperature of zero.
    LayerEnergy : An energy of any layer, without logits.

    References
    ----------
    Liu, Wang, Owens and Li, "Energy-based out-of-distribution detection", NeurIPS
    2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Energy
    >>> logits = np.random.default_rng(0).normal(size=(100, 3)) + [9, 0, 0]
    >>> detector = Energy().fit(logits)
    >>> detector.score_samples([[1, 1, 1]])
    array([2.09861229])
    >>> detector.predict([[9, 0, 0], [1, 1, 1]])
    array([ 1, -1])
    """

    temperature: float = field(default=1.0, kw_only=False)

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def _logit_scores(self, logits: Any) -> Any:
        return log_sum_exp(logits, self.temperature)
