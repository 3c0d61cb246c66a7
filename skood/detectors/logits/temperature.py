"""Maximum softmax probability at the temperature that fits the labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Tags

from skood.detectors.logits.base import LearnedLogitDetector, LogitsOf
from skood.detectors.training import Training
from skood.features import LayerFeatures
from skood.features.chunks import merged_statistics
from skood.numerics.device import array_namespace, to_numpy
from skood.numerics.probabilities import log_softmax
from skood.numerics.rows import best_logit, power_of_two

__all__ = ["TemperatureScaledMSP"]


class TemperatureScaledMSP(LearnedLogitDetector):
    r"""Maximum softmax probability, calibrated by the rows' labels.

    The score is :math:`\max_k p_k` with :math:`p = \text{softmax}(z / T)`. The
    temperature minimises the cross-entropy of the labels. Only rows that the network
    was not trained on tell how sure it may be: give ``fit`` held-out rows.

    Where every label is predicted, the best temperature would be 0 and all scores 1.
    So each class gets one count more of n + C in each target (our addition, of no
    account with many rows), which makes the minimum finite and unique; it is found by
    Newton's method on 1 / T, in which the problem is convex.

    Labels that are whole numbers below the number of logits, or texts of them, are
    columns of the logits; others are matched with the columns that most of their rows
    are predicted as.

    The threshold comes from rows held out of other fits.

    Parameters
    ----------
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    temperature_ : float
        T.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there are no logits or labels, or the logits do not fit the labels at all.

    References
    ----------
    Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML
    2017.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import TemperatureScaledMSP
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(300) % 3
    >>> logits = 10 * (rng.normal(size=(300, 3)) + 2 * np.eye(3)[y])
    >>> detector = TemperatureScaledMSP().fit(logits, y)
    >>> 4 < detector.temperature_ < 6
    True
    """

    _several_classes = True
    # Other fits have another temperature, and with it scores on another scale.
    _unbiased = "one number is learned, which all rows have in common"

    def _learn_logits(self, training: Training, logits_of: LogitsOf) -> None:
        n_logits = logits_of(training.features[:1]).shape[1]
        columns = self._label_columns(training, logits_of)

        weight = len(training) / (len(training) + n_logits)

        def slope(sharpness: float, unit: float) -> Slope:
            of_chunk = partial(
                _loss_slope,
                logits_of=logits_of,
                sharpness=sharpness,
                weight=weight,
                unit=unit,
            )
            return merged_statistics(of_chunk, training.features, columns)

        with np.errstate(over="ignore"):  # of squares, for which there is no unit yet
            lead = -slope(0.0, 1.0).value / len(training)
        if not lead > 0:
            raise ValueError(
                "the logits of the rows' labels are not above the mean of their row's "
                "logits: are the columns of the logits in the order of the labels in y?"
            )
        unit = power_of_two(lead)
        self.temperature_ = unit / _root(partial(slope, unit=unit))

    def _logit_scores(self, logits: Any) -> Any:
        xp = array_namespace(logits)
        scaled = xp.astype(logits, xp.float64) / self.temperature_
        return xp.exp(best_logit(log_softmax(scaled)))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # columns have to be the classes of y
        tags.target_tags.required = True
        return tags


@dataclass(frozen=True)
class Slope:
    """The first two derivatives of the summed cross-entropy in 1 / T, of some rows."""

    value: float
    rise: float

    def merge(self, other: Slope) -> Slope:
        """Return those of both sets of rows."""
        return Slope(self.value + other.value, self.rise + other.rise)


def _loss_slope(
    chunk: LayerFeatures,
    columns: NDArray[np.intp],
    *,
    logits_of: LogitsOf,
    sharpness: float,
    weight: float,
    unit: float,
) -> Slope:
    """Return the slope of a chunk's rows, whose own logits count by ``weight``.

    Of logits in some unit, in which their squares fit float64.
    """
    z = logits_of(chunk)
    xp = array_namespace(z)
    z = xp.astype(z, xp.float64)
    z = (z - xp.mean(z, axis=1)[:, None]) / unit
    p = xp.exp(log_softmax(sharpness * z))
    mean = xp.sum(p * z, axis=1)
    own = to_numpy(z)[np.arange(len(z)), columns].sum()
    value = float(xp.sum(mean)) - weight * float(own)
    return Slope(value, float(xp.sum(p * (z - mean[:, None]) ** 2)))


def _root(slope: Callable[[float], Slope]) -> float:
    """Return where an increasing function, negative at 0, is zero."""
    lower, upper = 0.0, np.inf
    place = 0.0
    for _ in range(200):
        here = slope(place)
        value, rise = here.value, here.rise
        lower, upper = (place, upper) if value < 0 else (lower, place)
        step = place - value / rise if rise > 0 else np.inf
        if not lower < step < upper:
            step = max(2 * lower, 1) if np.isinf(upper) else (lower + upper) / 2
        if abs(step - place) <= 1e-14 * step:
            break
        place = step
    return place
