"""The odds that a prediction, drawn from the softmax, is wrong."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

from skood._sklearn_compat import Interval
from skood.detectors.logits.base import LogitDetector
from skood.numerics.device import array_namespace
from skood.numerics.probabilities import largest_softmax
from skood.numerics.rows import row_dots

__all__ = ["DOCTOR"]


class DOCTOR(LogitDetector):
    r"""Minus the odds that a class drawn from the softmax is not another such draw.

    With :math:`g = \sum_k p_k^2`, the probability that two draws agree, the score is
    :math:`-(1 - g) / g`: the authors' :math:`D_\alpha` with its sign turned. Their
    :math:`D_\beta` ranks rows as :class:`skood.MSP` does. The disagreement
    :math:`1 - g = \sum_k p_k (1 - p_k)` is summed without cancellation, so that sure
    predictions do not tie.

    The authors also divide the logits by a temperature and perturb the input; here the
    temperature alone is offered.

    The threshold comes from the scores of the rows given to ``fit``. A network is
    surer of its own training data than of new data: give in-distribution rows that it
    was not trained on, as X or as ``threshold_data``.

    Parameters
    ----------
    temperature : float, default=1.0
        What the logits are divided by, positive.
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
        If there are no logits, or they have one column.

    References
    ----------
    Granese, Romanelli, Gorla, Palamidessi and Piantanida, "DOCTOR: a simple method for
    detecting misclassification errors", NeurIPS 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import DOCTOR
    >>> logits = np.random.default_rng(0).normal(size=(100, 3)) + [9, 0, 0]
    >>> detector = DOCTOR().fit(logits)
    >>> detector.predict([[9, 0, 0], [1, 1, 1]])
    array([ 1, -1])
    """

    temperature: float = 1.0

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    _several_classes = True

    def _logit_scores(self, logits: Any) -> Any:
        xp = array_namespace(logits)
        scaled = xp.astype(logits, xp.float64) / self.temperature
        p, rest = largest_softmax(scaled, scaled.shape[1])
        return -row_dots(p, rest) / row_dots(p, p)
