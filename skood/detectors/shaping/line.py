"""Only the units and weights that matter to the predicted class."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from array_api_compat import device as device_of
from numpy.typing import NDArray

from skood._sklearn_compat import Interval
from skood.detectors.class_means import predicted_sums
from skood.detectors.head.base import logits_of, product
from skood.detectors.shaping.base import ShapingDetector
from skood.detectors.training import Training
from skood.features import LayerFeatures
from skood.features.chunks import by_chunks
from skood.numerics.device import array_namespace, like, to_numpy
from skood.numerics.graph import in_graph
from skood.numerics.rows import in_float64

__all__ = ["LINe"]


class LINe(ShapingDetector):
    r"""Important neurons: units and weights that matter to the predicted class.

    How much unit j matters to class k is its contribution to the logit,
    :math:`s_{kj} = W_{kj} \bar h^{(k)}_j`, with the mean of the training rows that
    are predicted as k: a Taylor approximation of Shapley's value, which is exact for a
    linear head. Activations are cut off at a percentile of all, as in
    :class:`skood.ReAct`. Then, for the class c that the row is predicted as, units
    whose :math:`s_{cj}` is not above a percentile of :math:`s_c` become zero, and so do
    weights whose :math:`|s_{cj}| W_{kj}` is not above a percentile of these C d
    numbers.

    The class of a new row is that of its own features, cut off; the means are of
    features that are not. A class that is predicted for no training row has the mean of
    all. The masks of the weights are made anew for each class that is predicted: they
    are never all in memory.

    The authors' code takes means of rows *labelled* k, and cuts activations off at a
    constant: 0.8 for ImageNet and 1 for CIFAR. The percentiles of 10 are the defaults
    of that code, and the activations' is that of :class:`skood.ReAct`: none of them saw
    outliers here. ``published`` has what the authors take for each data set.

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
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    limit_ : float
        The largest activation that counts.
    importance_ : ndarray of shape (n_classes, n_features)
        s.
    unit_mask_ : ndarray of bool, shape (n_classes, n_features)
        The units that count for each class.
    weight_limits_ : ndarray of shape (n_classes,)
        What the products of the size of s and the weights have to exceed, for each
        class.
    head_ : LinearHead
        The last linear map.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there is no head, features are negative, or no activation lies below the
        percentile.

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

    published: ClassVar[dict[str, dict[str, float]]] = {
        "CIFAR-10": {"unit_percentile": 90, "weight_percentile": 90},
        "CIFAR-100": {"unit_percentile": 10, "weight_percentile": 90},
        "ImageNet": {"unit_percentile": 10, "weight_percentile": 10},
    }
    """The authors' for DenseNet-100 (CIFAR) and ResNet-50 (ImageNet)."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "percentile": [Interval(Real, 0, 100, closed="right")],
        "unit_percentile": [Interval(Real, 0, 100, closed="left")],
        "weight_percentile": [Interval(Real, 0, 100, closed="left")],
    }

    _elementwise = False
    _non_negative = True

    def _learn_shape(self, training: Training) -> None:
        weight = self._linear.weight.astype(np.float64)
        self.limit_ = self._cut(training)
        sums = predicted_sums(self, training)
        means = sums.sums / np.maximum(sums.counts, 1)[:, None]
        means[sums.counts == 0] = sums.overall
        self.importance_ = weight * means
        limits = np.percentile(self.importance_, self.unit_percentile, axis=1)
        self.unit_mask_ = self.importance_ > limits[:, None]
        self.weight_limits_ = np.array(
            [
                np.percentile(np.abs(s) * weight, self.weight_percentile)
                for s in self.importance_
            ]
        )

    def _cut_off(self, h: Any) -> tuple[Any, Any]:
        """Return the activations up to the limit, and the classes predicted so."""
        xp = array_namespace(h)
        h = xp.clip(h, None, self.limit_)
        return h, xp.argmax(logits_of(h, self._linear), axis=1)

    def _shaped_logits(self, h: Any) -> Any:
        h, classes = self._cut_off(h)
        if in_graph():
            return self._logits_in_graph(h, classes)
        xp, numbers = array_namespace(h), to_numpy(classes)
        shape = (len(h), len(self._linear.bias))
        logits = xp.empty(shape, dtype=xp.float64, device=device_of(h))
        for k in np.unique(numbers):
            rows = np.flatnonzero(numbers == k)
            logits[rows] = product(h[rows], self._kept_weights(k))
        return logits + like(self._linear.bias, logits)

    def _kept_weights(self, k: int) -> NDArray[np.floating]:
        """Return the weights with zeros where they do not matter to class k."""
        weight, importance = self._linear.weight, np.abs(self.importance_[k])
        kept = importance * weight > self.weight_limits_[k]
        return weight * (kept & self.unit_mask_[k])

    def _scores(self, features: LayerFeatures) -> NDArray[np.float64]:
        """Return the scores of rows, which are read in the order of their classes.

        The weights of a class are made once, not in every chunk anew.
        """
        classes = by_chunks(self._predicted, features)
        order = np.argsort(classes, kind="stable")
        scores = np.empty(len(features))
        scores[order] = super()._scores(features[order])
        return scores

    def _predicted(self, chunk: LayerFeatures) -> NDArray[np.intp]:
        return to_numpy(self._cut_off(self._array(chunk, *chunk.block_names[0]))[1])

    def _logits_in_graph(self, h: Any, classes: Any) -> Any:
        """Return the logits by all classes' masks at once: C d numbers a row."""
        xp = array_namespace(h)
        h = in_float64(h) * like(self.unit_mask_, in_float64(h))[classes]
        weight = like(self._linear.weight, h)
        importance = like(np.abs(self.importance_), h)[classes]
        limits = like(self.weight_limits_, h)[classes]
        kept = importance[:, None, :] * weight > limits[:, None, None]
        logits = xp.sum(h[:, None, :] * xp.where(kept, weight, 0 * weight), axis=2)
        return logits + like(self._linear.bias, h)
