"""The size of the gradient that would make the prediction uniform."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

from skood._sklearn_compat import Interval
from skood.detectors.head.base import HeadDetector
from skood.detectors.training import Training
from skood.numerics.device import array_namespace
from skood.numerics.probabilities import softmax
from skood.numerics.rows import row_sums

__all__ = ["GradNorm"]


class GradNorm(HeadDetector):
    r"""The size of the gradient that would make the prediction uniform.

    The score [1]_ is the L1 norm of the gradient of
    :math:`-\sum_k \log \operatorname{softmax}(z / T)_k` with respect to the weights
    of the last linear map. That gradient is an outer product, so that

    .. math::

       s = \frac{1}{T} \|h\|_1 \sum_k |C \, p_k - 1|, \qquad
       p = \operatorname{softmax}(z / T),

    and no network has to be run backwards.

    Nothing is learned from the rows: scores of training rows are those of new rows. A
    network is surer of its own training data than of new data: give in-distribution
    rows that it was not trained on, as X or as ``threshold_data``.

    Parameters
    ----------
    temperature : float, default=1.0
        T, positive.
    head : LinearHead, optional
        The network's last linear map; None takes the one of the features, or finds it.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    head_ : LinearHead
        The last linear map.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there is no head, or it has one class only.

    References
    ----------
    .. [1] Huang, Geng and Li, "On the importance of gradients for detecting
       distributional shifts in the wild", NeurIPS 2021.

    Examples
    --------
    >>> from skood import GradNorm
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = GradNorm().fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    temperature: float = 1.0

    _elementwise = True
    _unbiased = "nothing is learned from the rows"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def _learn_head(self, training: Training) -> None:
        self._check_several_classes()

    def _head_scores(self, h: Any, z: Any) -> Any:
        xp = array_namespace(h)
        unlike_uniform = xp.abs(z.shape[1] * softmax(z / self.temperature) - 1)
        size = row_sums(xp.abs(h))
        return size * row_sums(unlike_uniform) / self.temperature
