"""The largest logit, decoupled into a cosine and a length."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

from skood._sklearn_compat import Interval
from skood.detectors.head.base import HeadDetector
from skood.detectors.head.moments import balance
from skood.detectors.training import Training
from skood.numerics.device import like
from skood.numerics.rows import best_logit, lengths, nonzero

__all__ = ["DML"]


class DML(HeadDetector):
    r"""The largest logit, decoupled into a cosine and a length.

    The score [1]_ is :math:`\max_k \cos(h, w_k) + \alpha \|h\|`; the bias is not used.

    :math:`\alpha` depends on the units of the features, and the authors choose it for
    each network. The default is ours: the spread (standard deviation) of the cosine
    over that of the length in the training rows, so that both weigh the same; the
    length is then counted from its mean, which changes no order.

    The threshold comes from rows held out of other fits.

    Parameters
    ----------
    alpha : float, optional
        The weight of the length; None is the ratio of the spreads.
    head : LinearHead, optional
        The network's last linear map; None takes the one of the features, or finds it.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    alpha_ : float
        The weight of the length.
    centre_ : float
        From where the length is counted; 0 if ``alpha`` is given.
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
    .. [1] Zhang and Xiang, "Decoupling MaxLogit for out-of-distribution detection",
       CVPR 2023.

    Examples
    --------
    >>> from skood import DML
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = DML().fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    alpha: float | None = None

    _elementwise = True

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "alpha": [Interval(Real, 0, None, closed="left"), None],
    }

    def _learn_head(self, training: Training) -> None:
        self.alpha_, self.centre_ = balance(self, training, self.alpha)

    def _terms(self, h: Any, z: Any) -> tuple[Any, Any]:
        assert self.head_ is not None
        weight, size = like(self.head_.weight, h), lengths(h)
        along = (z - like(self.head_.bias, z)) / nonzero(lengths(weight))
        return best_logit(along) / nonzero(size), size

    def _head_scores(self, h: Any, z: Any) -> Any:
        cosine, size = self._terms(h, z)
        return cosine + self.alpha_ * (size - self.centre_)
