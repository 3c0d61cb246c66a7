"""Correlations between channels outside of the range of the predicted class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skood._chunks import by_chunks, merged_statistics
from skood._device import array_namespace, like, to_numpy
from skood._splits import share
from skood.detectors.base import BaseDetector
from skood.detectors.declared import field
from skood.detectors.logits._probabilities import log_softmax
from skood.detectors.training import Training
from skood.features import LOGITS, LayerFeatures, Layers

__all__ = ["Gram"]

Key = tuple[str, str]

HELD_OUT = 0.1
"""The share of the rows that sets the layers' normalisers, the authors'."""

SMALL = 1e-6
"""What is added to the ends of ranges, as a part of the layer's largest."""


class Gram(BaseDetector):
    r"""Correlations between channels outside of the range of the predicted class.

    Of each layer the row sums of Gram matrices of several powers are read (the
    statistic ``"gram"``). For the training rows that are *predicted* as class c, the
    least and largest value of each are kept. A new row's deviation in layer l is

    .. math::

       \delta_l = \sum_j \frac{\max(0, \min_{cj} - g_j)}{|\min_{cj}|}
                  + \frac{\max(0, g_j - \max_{cj})}{|\max_{cj}|}

    and its score :math:`-\frac{1}{\max_k p_k} \sum_l \delta_l / \bar\delta_l`, with the
    mean deviation :math:`\bar\delta_l` of a tenth of the training rows, drawn by a seed
    and left out of the ranges.

    The authors take :math:`\bar\delta_l` from a tenth of the *test* data and read every
    convolution and activation; OpenOOD takes true labels for the ranges and powers up
    to 5; pytorch-ood leaves the probability out. A class that no row is predicted as
    has the range of all rows. The authors add 1e-6 to the ends of the ranges, here it
    is that part of the layer's largest, so that units are no matter.

    The threshold comes from rows held out of other fits.

    Parameters
    ----------
    layers : str or sequence of str, optional
        The layers to use; None takes all that have the statistic.
    contamination : float, default=0.05
        Share of new in-distribution data that may be rejected, in (0, 0.5].
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    lower_, upper_ : dict of (str, str) to ndarray of shape (C, n_columns)
        The ranges, by layer and statistic.
    normalisers_ : ndarray of shape (n_layers,)
        The mean deviations.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there are no logits, no layer has the statistic, or there are so few rows
        that none deviates.

    References
    ----------
    Sastry and Oore, "Detecting out-of-distribution examples with Gram matrices", ICML
    2020.

    Examples
    --------
    >>> from skood import Gram
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = Gram().fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    layers: Layers = field(default=None, kw_only=False)

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "layers": [str, list, tuple, None]
    }

    def _needed(self, features: LayerFeatures) -> LayerFeatures:
        names = features.select(self.layers, "gram").block_names
        return features.select_blocks([*names, (LOGITS, LOGITS)])

    def _takes_arrays(self) -> bool:
        return False

    def _fit(self, training: Training) -> None:
        features = training.features
        held_out = share(len(features), HELD_OUT)
        others = features[np.setdiff1d(np.arange(len(features)), held_out)]
        self.lower_, self.upper_ = {}, {}
        for name in features.block_names[:-1]:
            of_layer = others.select_blocks([name, (LOGITS, LOGITS)])
            of_chunk = partial(self._ranges, name=name)
            nobody = np.zeros(len(others), np.intp)
            ranges = merged_statistics(of_chunk, of_layer, nobody).filled()
            self.lower_[name], self.upper_[name] = ranges.lower, ranges.upper
        self.normalisers_ = self._mean_deviations(features[held_out])

    def _ranges(
        self, chunk: LayerFeatures, _: NDArray[np.intp], *, name: Key
    ) -> Ranges:
        values = to_numpy(self._array(chunk, *name)).astype(np.float64)
        classes, n_classes, _ = self._predictions(chunk)
        return Ranges.of(values, to_numpy(classes), n_classes)

    def _predictions(self, chunk: LayerFeatures) -> tuple[Any, int, Any]:
        """Return predicted classes, their number, and the logs of their probability."""
        logits = self._array(chunk, LOGITS, LOGITS)
        xp = array_namespace(logits)
        best = xp.max(log_softmax(logits), axis=1)
        return xp.argmax(logits, axis=1), logits.shape[1], best

    def _mean_deviations(self, features: LayerFeatures) -> NDArray[np.float64]:
        means = []
        for place, (layer, _) in enumerate(self.lower_):

            def deviations(
                chunk: LayerFeatures, _: slice, place: int = place
            ) -> NDArray[Any]:
                return to_numpy(self._deviations(chunk)[place])

            means.append(by_chunks(deviations, features).mean())
            if not means[-1] > 0:
                raise ValueError(
                    f"none of {len(features)} rows that were held out deviates from "
                    f"the ranges of the others in layer {layer!r}: Gram needs more "
                    "rows."
                )
        return np.array(means)

    def _deviations(self, chunk: LayerFeatures) -> list[Any]:
        """Return the deviation in each layer, of shape (rows,)."""
        classes, _, _ = self._predictions(chunk)
        found = []
        for name, lower in self.lower_.items():
            values = self._array(chunk, *name)
            xp = array_namespace(values)
            values = xp.astype(values, xp.float64)
            upper = self.upper_[name]
            small = SMALL * max(np.abs(lower).max(), np.abs(upper).max())
            below, above = like(lower, values)[classes], like(upper, values)[classes]
            under = xp.clip(below - values, 0, None) / xp.abs(below + small)
            over = xp.clip(values - above, 0, None) / xp.abs(above + small)
            found.append(xp.sum(under + over, axis=1))
        return found

    def _score(self, chunk: LayerFeatures) -> Any:
        _, _, log_best = self._predictions(chunk)
        layers = zip(self._deviations(chunk), self.normalisers_, strict=True)
        total = sum(deviation / mean for deviation, mean in layers)
        return -total / array_namespace(log_best).exp(log_best)


@dataclass(frozen=True, eq=False)
class Ranges:
    """The least and the largest of each column by class.

    Parameters
    ----------
    lower, upper : ndarray of shape (C, n_columns)
        Infinite for a class without rows.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]

    @classmethod
    def of(
        cls, values: NDArray[np.float64], classes: NDArray[np.intp], n_classes: int
    ) -> Ranges:
        """Return the ranges of some rows."""
        lower = np.full((n_classes, values.shape[1]), np.inf)
        upper = np.full((n_classes, values.shape[1]), -np.inf)
        for k in np.unique(classes):
            rows = values[classes == k]
            lower[k], upper[k] = rows.min(axis=0), rows.max(axis=0)
        return cls(lower, upper)

    def merge(self, other: Ranges) -> Ranges:
        """Return the ranges of both sets of rows."""
        return Ranges(
            np.minimum(self.lower, other.lower), np.maximum(self.upper, other.upper)
        )

    def filled(self) -> Ranges:
        """Return them with the range of all rows for a class that has none."""
        lower, upper = self.lower.min(axis=0), self.upper.max(axis=0)
        empty = np.isinf(self.lower)
        return Ranges(
            np.where(empty, lower, self.lower), np.where(empty, upper, self.upper)
        )
