"""Closeness of the centred features to the predicted class's weights."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

from skood._sklearn_compat import Interval
from skood.detectors.class_means import mean_row
from skood.detectors.head.base import HeadDetector
from skood.detectors.head.moments import balance
from skood.detectors.training import Training
from skood.numerics.device import array_namespace, like
from skood.numerics.rows import best_logit, lengths, nonzero, row_sums

__all__ = ["NCI"]


class NCI(HeadDetector):
    r"""Closeness of the centred features to the predicted class's weights.

    In a collapsed network the features of a class, centred at the mean of all, point
    along the class's weights. The score [1]_ is, for the predicted class c,

    .. math::

       s = w_c \cdot \frac{h - \mu}{\|h - \mu\|} + \alpha \|h\|_1 ,

    its second term since features of outliers lie nearer to the origin.

    :math:`\alpha` depends on the units of the features, and the published values were
    chosen with outliers. The default is ours and sees none: the spread (standard
    deviation) of the first term over that of :math:`\|h\|_1` in the training rows, so
    that both terms weigh the same; :math:`\|h\|_1` is then counted from its mean, which
    changes no order.

    The threshold comes from rows held out of other fits.

    Parameters
    ----------
    alpha : float, optional
        The weight of the norm; None is the ratio of the spreads. ``published_alpha``
        has other people's.
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
        The weight of the norm.
    centre_ : float
        From where the norm is counted; 0 if ``alpha`` is given.
    mean_ : ndarray of shape (n_features,)
        :math:`\mu`, the mean of the training rows.
    mean_logits_ : ndarray of shape (n_classes,)
        Its logits.
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
    .. [1] Liu and Qin, "Detecting out-of-distribution through the lens of neural
       collapse", CVPR 2025.

    Examples
    --------
    >>> from skood import NCI
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = NCI().fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    alpha: float | None = None

    published_alpha: ClassVar[dict[str, float]] = {"OpenOOD": 1e-4, "pytorch-ood": 0.0}
    """Defaults elsewhere; OpenOOD searches 1e-4 to 1e-1 on outliers."""

    _elementwise = True

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "alpha": [Interval(Real, 0, None, closed="left"), None],
    }

    def _learn_head(self, training: Training) -> None:
        assert self.head_ is not None
        self.mean_ = mean_row(self, training)
        self.mean_logits_ = self.head_.weight @ self.mean_ + self.head_.bias
        self.alpha_, self.centre_ = balance(self, training, self.alpha)

    def _terms(self, h: Any, z: Any) -> tuple[Any, Any]:
        return self._angle(h, z), row_sums(array_namespace(h).abs(h))

    def _angle(self, h: Any, z: Any) -> Any:
        best = array_namespace(z).argmax(z, axis=1)
        # w (h - mean), without the row's weights
        along = best_logit(z) - like(self.mean_logits_, z)[best]
        return along / nonzero(lengths(h - like(self.mean_, h)))

    def _head_scores(self, h: Any, z: Any) -> Any:
        if self.alpha_ == 0:
            return self._angle(h, z)
        angle, size = self._terms(h, z)
        return angle + self.alpha_ * (size - self.centre_)
