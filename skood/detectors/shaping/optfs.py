"""A piecewise constant factor of the activations, learned in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skood._sklearn_compat import Interval
from skood.detectors.class_means import predicted
from skood.detectors.shaping.base import ShapingDetector
from skood.detectors.training import Training
from skood.numerics.device import array_namespace, like, to_numpy

__all__ = ["OptFS"]

NORM = 1000.0
"""The length of the factors, the authors'."""

TAIL = 0.1
"""The percentage of all activations on each side that is left out, the authors'."""


class OptFS(ShapingDetector):
    r"""Optimal feature shaping: a factor for each size of activation.

    The range from the 0.1 % to the 99.9 % quantile of all activations is cut into equal
    bins; the features become :math:`h'_j = \theta_{\text{bin}(h_j)} h_j`, and 0 outside
    of the range. Each factor is proportional to what the activations of its bin
    contribute to the logit of the predicted class c, in the mean of the training rows:

    .. math::

       \theta_i \propto \frac{1}{n} \sum_x \sum_j W_{cj} h_j \, 1[h_j \in \text{bin } i]

    Among all such functions, these factors make the logit of the predicted class as
    large as it goes on in-distribution data, without any outliers. Their length is
    1,000, as in the authors' code. Its plain variant scores the contribution to the
    original prediction, without the bias; here any score of the new logits is taken.

    The threshold comes from rows held out of other fits.

    Parameters
    ----------
    n_bins : int, default=100
        Bins of equal width.
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
    range_ : ndarray of shape (2,)
        Where the bins begin and end.
    factors_ : ndarray of shape (n_bins + 2,)
        The factors of the bins, between those below and above the range, which are 0.
    head_ : LinearHead
        The last linear map.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there is no head, or the activations do not vary.

    References
    ----------
    Zhao et al., "Towards optimal feature-shaping methods for out-of-distribution
    detection", ICLR 2024.

    Examples
    --------
    >>> from skood import OptFS
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = OptFS(n_bins=20).fit(features, y)
    >>> detector.factors_.shape
    (22,)
    """

    n_bins: int = 100

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_bins": [Interval(Integral, 1, None, closed="left")],
    }

    def _learn_shape(self, training: Training) -> None:
        self.range_ = np.array(self._percentiles(training, TAIL, 100 - TAIL))
        if self.range_[0] == self.range_[1]:
            raise ValueError(
                f"all but {2 * TAIL} % of the activations are {self.range_[0]:g}: "
                "there are no sizes of activations to tell apart."
            )
        totals = self._gathered(self._contributions, training).totals
        totals[[0, -1]] = 0.0
        length = np.linalg.norm(totals)
        if not length > 0:
            raise ValueError(
                "no activation contributes to the logit of the predicted class: the "
                "head's weights, or the features, are zero."
            )
        self.factors_ = NORM * totals / length

    def _contributions(self, h: Any, z: Any, _classes: Any) -> Contributions:
        own = like(self._linear.weight, h)[predicted(z)]
        parts = to_numpy(h * own).ravel()
        bins = to_numpy(self._bins(h)).ravel()
        totals = np.bincount(bins, parts, self.n_bins + 2).astype(np.float64)
        return Contributions(totals)

    def _bins(self, h: Any) -> Any:
        """Return the bins of the activations, 0 and n_bins + 1 out of the range."""
        xp = array_namespace(h)
        first, last = self.range_
        places = xp.floor((h - first) * (self.n_bins / (last - first))) + 1
        return xp.astype(xp.clip(places, 0, self.n_bins + 1), xp.int64)

    def _shaped(self, h: Any) -> Any:
        return h * like(self.factors_, h)[self._bins(h)]


@dataclass(frozen=True, eq=False)
class Contributions:
    """What the activations of each bin contribute.

    Parameters
    ----------
    totals : ndarray of shape (n_bins + 2,)
        Sums over rows and units.
    """

    totals: NDArray[np.float64]

    def merge(self, other: Contributions) -> Contributions:
        """Return the contributions of both sets of rows."""
        return Contributions(self.totals + other.totals)
