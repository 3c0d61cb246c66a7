"""Maximum softmax probability."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

from skood._sklearn_compat import Interval
from skood.detectors.logits.base import LogitDetector
from skood.numerics.rows import exponentials, less_best, row_sums

__all__ = ["MSP"]


class MSP(LogitDetector):
    """Maximum softmax probability.

    The score [1]_ is the probability of the predicted class, from 1 / n_classes to 1.
    It is computed in float64, where it is exactly 1 for rows whose best logit leads by
    more than about 37: such rows tie (in float32 they do from a lead of 17 on).

    At a temperature of 1,000 and on the logits of perturbed inputs
    (:class:`skood.InputPerturbation`) it is ODIN [2]_.

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
        If there are no logits; in ``fit``, if they have one column only.

    See Also
    --------
    MaxLogit : The largest logit, not normalised.
    Energy : All logits at once.

    References
    ----------
    .. [1] Hendrycks and Gimpel, "A baseline for detecting misclassified and
       out-of-distribution examples in neural networks", ICLR 2017.
    .. [2] Liang, Li and Srikant, "Enhancing the reliability of out-of-distribution
       image detection in neural networks", ICLR 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import MSP
    >>> logits = np.random.default_rng(0).normal(size=(100, 3)) + [9, 0, 0]
    >>> detector = MSP().fit(logits)
    >>> detector.predict([[9, 0, 0], [1, 1, 1]])
    array([ 1, -1])
    >>> detector.score_samples([[1, 1, 1]])
    array([0.33333333])
    """

    temperature: float = 1.0

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    _several_classes = True

    def _logit_scores(self, logits: Any) -> Any:
        _, behind = less_best(logits)
        if self.temperature != 1:
            behind /= self.temperature
        return 1 / row_sums(exponentials(behind))
