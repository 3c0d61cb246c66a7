"""Correlations between channels outside of the range of the predicted class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skood.detectors.base import BaseDetector
from skood.detectors.declared import field
from skood.detectors.training import Training
from skood.features import LOGITS, LayerFeatures, Layers
from skood.features.chunks import by_chunks, merged_statistics
from skood.numerics.device import array_namespace, like, to_numpy
from skood.numerics.probabilities import log_softmax

__all__ = ["Gram"]

Key = tuple[str, str]

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

    and its score :math:`-\frac{1}{\max_k p_k} \sum_l \delta_l / \bar\delta_l`. The
    normaliser :math:`\bar\delta_l` is the mean deviation of the training rows, each
    from the range of the others of its class (of all others, where it is the only one):
    only the least and the largest deviate from it, as far as the next ones are away.

    That is ours: the authors take the mean of a tenth of the *test* data, OpenOOD and
    pytorch-ood hold training rows out. The authors read every convolution and
    activation; OpenOOD takes true labels for the ranges and powers up to 5; pytorch-ood
    leaves the probability out. A class that no row is predicted as has the range of all
    rows. The authors add 1e-6 to the ends of the ranges, here it is that part of the
    layer's largest, so that units are no matter.

    The threshold comes from leave-one-out scores: a training row is compared with the
    range of the others.

    Parameters
    ----------
    layers : str or sequence of str, optional
        The layers to use; None takes all that have the statistic.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    lower_, upper_ : dict of (layer, statistic) to ndarray
        The ranges, of shape (n_classes, n_columns).
    normalisers_ : dict of (layer, statistic) to float
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
        self.lower_, self.upper_, self._next, self.normalisers_ = {}, {}, {}, {}
        for name in features.block_names[:-1]:
            of_layer = features.select_blocks([name, (LOGITS, LOGITS)])
            of_chunk = partial(self._ranges, name=name)
            ranges = merged_statistics(of_chunk, of_layer)
            mean = ranges.own_deviation(SMALL) / len(features)
            (self.lower_[name], next_lower), (self.upper_[name], next_upper) = (
                ranges.ends()
            )
            self._next[name] = next_lower, next_upper
            if not mean > 0:
                raise ValueError(
                    f"no row deviates from the range of the others in layer {name[0]!r}"
                    f", of {len(features)} rows: Gram needs more of them, or a layer "
                    "that varies."
                )
            self.normalisers_[name] = mean

    def _ranges(self, chunk: LayerFeatures, *, name: Key) -> Ranges:
        values = to_numpy(self._array(chunk, *name)).astype(np.float64)
        classes, n_classes, _best = self._predictions(chunk)
        return Ranges.of(values, to_numpy(classes), n_classes)

    def _predictions(self, chunk: LayerFeatures) -> tuple[Any, int, Any]:
        """Return predicted classes, their number, and the logs of their probability."""
        logits = self._array(chunk, LOGITS, LOGITS)
        xp = array_namespace(logits)
        best = xp.max(log_softmax(logits), axis=1)
        return xp.argmax(logits, axis=1), logits.shape[1], best

    def _deviation(self, chunk: LayerFeatures, name: Key, unseen: bool) -> Any:
        """Return the deviation in a layer, of shape (rows,)."""
        classes, _, _ = self._predictions(chunk)
        values = self._array(chunk, *name)
        xp = array_namespace(values)
        values = xp.astype(values, xp.float64)
        ends = self.lower_[name], self.upper_[name]
        small = SMALL * max(np.abs(end).max() for end in ends)
        below, above = (like(end, values)[classes] for end in ends)
        if unseen:
            lower, upper = (like(end, values)[classes] for end in self._next[name])
            below = xp.where(values <= below, lower, below)
            above = xp.where(values >= above, upper, above)
        under = xp.clip(below - values, 0, None) / xp.abs(below + small)
        over = xp.clip(values - above, 0, None) / xp.abs(above + small)
        return xp.sum(under + over, axis=1)

    def _unseen_scores(
        self, training: Training, rows: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        return by_chunks(
            lambda chunk: to_numpy(self._score(chunk, unseen=True)),
            training.features,
        )

    def _score(self, chunk: LayerFeatures, unseen: bool = False) -> Any:
        _, _, log_best = self._predictions(chunk)
        total = sum(
            self._deviation(chunk, name, unseen) / mean
            for name, mean in self.normalisers_.items()
        )
        return -total / array_namespace(log_best).exp(log_best)


@dataclass(frozen=True, eq=False)
class Ranges:
    """The two least and the two largest of each column by class.

    Parameters
    ----------
    lower, upper : ndarray of shape (2, C, n_columns)
        The outermost first; infinite for a class with fewer rows.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]

    @classmethod
    def of(
        cls, values: NDArray[np.float64], classes: NDArray[np.intp], n_classes: int
    ) -> Ranges:
        """Return the ranges of some rows."""
        lower = np.full((2, n_classes, values.shape[1]), np.inf)
        upper = -lower
        for k in np.unique(classes):
            rows = np.sort(values[classes == k], axis=0)
            lower[: len(rows), k], upper[: len(rows), k] = rows[:2], rows[::-1][:2]
        return cls(lower, upper)

    def merge(self, other: Ranges) -> Ranges:
        """Return the ranges of both sets of rows."""
        lower = np.sort(np.concatenate([self.lower, other.lower]), axis=0)[:2]
        upper = np.sort(np.concatenate([self.upper, other.upper]), axis=0)[:-3:-1]
        return Ranges(lower, upper)

    def ends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return both, with those of all rows for a class that has too few."""
        return _filled(self.lower), -_filled(-self.upper)

    def own_deviation(self, small: float) -> float:
        """Return the summed deviation of all rows, each from the range of the others.

        ``small`` is added to the ends, as a part of the largest of them.
        """
        ends = self.ends()
        least = small * max(np.abs(end[0]).max() for end in ends)
        if least == 0:  # of zeros, which do not deviate
            return 0.0
        return float(
            sum(
                (np.abs(end[1] - end[0]) / np.abs(end[1] + least)).sum() for end in ends
            )
        )


def _filled(lower: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the two least of each class, where it has so many, (2, C, n_columns).

    A class without rows has twice the least of all rows. The only row of a class is
    compared with all others: it deviates by as much as it is below these.
    """
    least, next_least = np.sort(lower.reshape(-1, lower.shape[2]), axis=0)[:2]
    none, alone = np.isinf(lower[0]), np.isinf(lower[1])
    first = np.where(none, least, lower[0])
    others = np.where(first == least, next_least, least)
    second = np.where(none, first, np.maximum(first, others))
    return np.stack([first, np.where(alone, second, lower[1])])
