"""Only the units and weights that matter to the predicted class."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np

from skood._sklearn_compat import Interval
from skood.detectors.class_means import ClassSums
from skood.detectors.shaping.base import ShapingDetector
from skood.detectors.training import Training
from skood.features import LayerFeatures
from skood.numerics.device import array_namespace, like, to_numpy
from skood.numerics.graph import in_graph

__all__ = ["LINe"]


class LINe(ShapingDetector):
    r"""Important neurons: units and weights that matter to the predicted class.

    How much unit j matters to class k is its contribution to the logit,
    :math:`s_{kj} = |W_{kj} \bar h^{(k)}_j|`, with the mean of the training rows that
    are predicted as k: a Taylor approximation of Shapley's value, which is exact for a
    linear head. Activations are cut off at a percentile of all, as in
    :class:`skood.ReAct`. Then, for the class c that the row is predicted as, units
    whose :math:`s_{cj}` is not above a percentile of :math:`s_c` become zero, and so do
    weights whose :math:`s_{cj} W_{kj}` is not above a percentile of these C d numbers.

    The class of a row is that of its own features, cut off. A class that is predicted
    for no training row has the mean of all. The masks of the weights are made anew for
    each class that is predicted: they are never all in memory.

    The percentiles of 10 are the defaults of the authors' code, and the activations' is
    that of :class:`skood.ReAct`: none of them saw outliers here.

    The threshold comes from rows held out of other fits.

    Parameters
    ----------
    percentile : float, default=90
        Of all activations, where they are cut off, in (0, 100].
    unit_percentile, weight_percentile : float, default=10
        Of a class's units and weights, in [0, 100).
    score : LogitDetector, optional
        The score of the new logits; None is ``Energy()``.
    head : LinearHead, optional
        The network's last linear map; None takes the one of the features, or finds it.
    contamination : float, default=0.05
        Share of new in-distribution data that may be rejected, in (0, 0.5].
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    limit_ : float
        The largest activation that counts.
    importance_ : ndarray of shape (C, d)
        s.
    unit_mask_ : ndarray of bool, shape (C, d)
        The units that count for each class.
    weight_limits_ : ndarray of shape (C,)
        What the products of s and the weights have to exceed, for each class.
    head_ : LinearHead
        The last linear map.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there is no head, or features are negative.

    References
    ----------
    Ahn, Park and Kim, "LINe: out-of-distribution detection by leveraging important
    neurons", CVPR 2023.

    Examples
    --------
    >>> from skood import LINe
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = LINe().fit(features, y)
    >>> detector.importance_.shape
    (3, 10)
    """

    percentile: float = 90
    unit_percentile: float = 10
    weight_percentile: float = 10

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "percentile": [Interval(Real, 0, 100, closed="right")],
        "unit_percentile": [Interval(Real, 0, 100, closed="left")],
        "weight_percentile": [Interval(Real, 0, 100, closed="left")],
    }

    _non_negative = True

    def _learn_shape(self, training: Training) -> None:
        weight = self._linear.weight.astype(np.float64)
        (self.limit_,) = self._percentiles(training, self.percentile)
        sums = self._gathered(self._sums, training)
        empty = sums.counts == 0
        means = sums.sums / np.maximum(sums.counts, 1)[:, None]
        means[empty] = sums.overall
        self.importance_ = np.abs(weight * means)
        limits = np.percentile(self.importance_, self.unit_percentile, axis=1)
        self.unit_mask_ = self.importance_ > limits[:, None]
        self.weight_limits_ = np.array(
            [
                np.percentile(s * weight, self.weight_percentile)
                for s in self.importance_
            ]
        )

    def _sums(self, h: Any, _z: Any, _classes: Any) -> ClassSums:
        h, classes = self._cut_off(h)
        return ClassSums.of(h, to_numpy(classes), len(self._linear.bias))

    def _cut_off(self, h: Any) -> tuple[Any, Any]:
        """Return the activations up to the limit, and the classes predicted so."""
        xp = array_namespace(h)
        h = xp.clip(h, None, self.limit_)
        weight, bias = self._weights(h)
        return h, xp.argmax(h @ weight.T + bias, axis=1)

    def _shaped(self, h: Any) -> Any:
        h, classes = self._cut_off(h)
        return h * like(self.unit_mask_, h)[classes]

    def _shaped_logits(self, h: Any) -> Any:
        h, classes = self._cut_off(h)
        h = h * like(self.unit_mask_, h)[classes]
        weight, bias = self._weights(h)
        importance = like(self.importance_, h)
        if in_graph():
            limits = like(self.weight_limits_, h)[classes]
            return _masked_logits(h, importance[classes], weight, limits) + bias
        logits = array_namespace(h).empty_like(h[:, :1] * bias)
        numbers = to_numpy(classes)
        for k in np.unique(numbers):
            kept = importance[k] * weight > self.weight_limits_[k]
            rows = np.flatnonzero(numbers == k)
            logits[rows] = h[rows] @ (weight * kept).T + bias
        return logits

    def _score(self, chunk: LayerFeatures) -> Any:
        # Not in smaller blocks: each would make the masks of nearly all classes anew.
        return self.score_._logit_scores(self._logits(chunk))


def _masked_logits(h: Any, importance: Any, weight: Any, limits: Any) -> Any:
    """Return the logits by the weights that matter to each row's class, (n, C).

    All classes' masks at once: C d numbers a row.
    """
    xp = array_namespace(h)
    kept = importance[:, None, :] * weight > limits[:, None, None]
    return xp.sum(h[:, None, :] * xp.where(kept, weight, 0 * weight), axis=2)
