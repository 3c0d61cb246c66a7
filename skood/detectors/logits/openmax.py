"""The probability of a class that is none of those known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Tags

from skood._sklearn_compat import Interval
from skood.detectors.class_means import ClassSums, predicted
from skood.detectors.logits._weibull import weibull_fits
from skood.detectors.logits.base import LearnedLogitDetector, LogitsOf
from skood.detectors.training import Training
from skood.features import LayerFeatures
from skood.features.chunks import merged_statistics
from skood.numerics.device import array_namespace, like, to_numpy
from skood.numerics.graph import ascending_order
from skood.numerics.rows import best_logit, lengths

__all__ = ["OpenMax"]


class OpenMax(LearnedLogitDetector):
    r"""Minus the probability that the class is unknown.

    Rows that are predicted as their label give each class k a mean vector of logits,
    :math:`\mu_k`, and a Weibull distribution of the ``n_tail`` largest distances
    :math:`\|z - \mu_k\|`. Of the ``n_revised`` largest logits of a new row, that of
    rank i loses the share :math:`\omega_i F_k(\|z - \mu_k\|)` with
    :math:`\omega_i = (\alpha + 1 - i) / \alpha`. What they lose together is the logit
    of the unknown class; the score is minus its probability in the softmax of all.

    Without labels, every row counts as predicted rightly. Labels are told from the
    columns of the logits as in :class:`skood.TemperatureScaledMSP`. A class with less
    than 3 distances, or equal ones, takes the distances of all classes.

    The defaults are OpenOOD's; pytorch-ood revises 10 logits with a tail of 25. Both
    shift the distances by a constant before the Weibull distribution is fitted, as
    libMR does (1 or 10,000 less the least of the tail); here the distances are fitted
    as they are, so that their units do not matter.

    Two weaknesses are the method's own: a negative logit among the largest is raised
    where it should be lowered, and a row with small logits has little to lose, so that
    it never looks as unknown as a row at the edge of a class. Classes of few rows ask
    for a smaller tail.

    The threshold comes from rows held out of other fits.

    Parameters
    ----------
    n_revised : int, default=3
        :math:`\alpha`, the largest logits that are revised.
    n_tail : int, default=20
        The largest distances that count, at least 3.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``; fitted on the CPU.

    Attributes
    ----------
    means_ : ndarray of shape (n_classes, n_classes)
        The classes' mean logits; zeros for a class without rows.
    shapes_, scales_ : ndarray of shape (n_classes,)
        Of the Weibull distributions.
    known_ : ndarray of bool, shape (n_classes,)
        The classes that had rows; others are not revised.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there are no logits, they have one column, no row is predicted rightly, or
        there are no 3 different distances.

    References
    ----------
    Bendale and Boult, "Towards open set deep networks", CVPR 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import OpenMax
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(300) % 3
    >>> logits = rng.normal(size=(300, 3)) + 9 * np.eye(3)[y]
    >>> detector = OpenMax().fit(logits, y)
    >>> detector.predict([[9, 0, 0], [6, 6, 0]])
    array([ 1, -1])
    """

    n_revised: int = 3
    n_tail: int = 20

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_revised": [Interval(Integral, 1, None, closed="left")],
        "n_tail": [Interval(Integral, 3, None, closed="left")],
    }

    _several_classes = True

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # columns have to be the classes of y
        return tags

    def _learn_logits(self, training: Training, logits_of: LogitsOf) -> None:
        columns = np.full(len(training), -1)
        if training.labels is not None:
            columns = self._label_columns(training, logits_of)
        gather = partial(_gather, logits_of=logits_of)
        of_sums = partial(gather, statistics=ClassSums.of)
        sums = merged_statistics(of_sums, training.features, columns)
        self.known_ = sums.counts > 0
        if not self.known_.any():
            raise ValueError(
                f"none of the {len(training)} rows is predicted as its label: are the "
                "columns of the logits in the order of the labels in y?"
            )
        self.means_ = sums.sums / np.maximum(sums.counts, 1)[:, None]
        of_tails = partial(gather, statistics=self._tails)
        tails = merged_statistics(of_tails, training.features, columns)
        self.shapes_, self.scales_ = weibull_fits(tails.distances)

    def _tails(self, z: NDArray[Any], classes: NDArray[np.intp], _: int) -> Tails:
        distances = np.linalg.norm(z - self.means_[classes], axis=1)
        return Tails.of(distances, classes, len(self.means_), self.n_tail)

    def _logit_scores(self, logits: Any) -> Any:
        xp = array_namespace(logits)
        z = xp.astype(logits, xp.float64)
        means, shapes = like(self.means_, z), like(self.shapes_, z)
        scales, known = like(self.scales_, z), like(self.known_.astype(float), z)
        count = min(self.n_revised, z.shape[1])
        order = ascending_order(-z)
        columns = like(np.arange(z.shape[1]), order)
        unknown, revised = 0 * z[:, 0], z
        for place in range(count):
            k = order[:, place]
            own = xp.where(columns == k[:, None], z, 0 * z)
            share = -xp.expm1(-((lengths(z - means[k]) / scales[k]) ** shapes[k]))
            lost = (share * known[k] * (count - place) / count)[:, None] * own
            revised, unknown = revised - lost, unknown + xp.sum(lost, axis=1)
        top = xp.maximum(best_logit(revised), unknown)
        others = xp.sum(xp.exp(revised - top[:, None]), axis=1)
        return -1 / (1 + others * xp.exp(top - unknown))


def _gather(
    chunk: LayerFeatures,
    columns: NDArray[np.intp],
    *,
    logits_of: LogitsOf,
    statistics: Any,
) -> Any:
    """Return statistics of the rows that are predicted as their label, by class."""
    z = to_numpy(logits_of(chunk)).astype(np.float64)
    classes = predicted(z)
    right = (columns == classes) | (columns < 0)
    return statistics(z[right], classes[right], z.shape[1])


@dataclass(frozen=True, eq=False)
class Tails:
    """The largest distances of each class, in descending order.

    Parameters
    ----------
    distances : ndarray of shape (C, n_tail)
        Filled up with -1.
    """

    distances: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        distances: NDArray[np.float64],
        classes: NDArray[np.intp],
        n_classes: int,
        size: int,
    ) -> Tails:
        """Return the tails of some rows."""
        order = np.lexsort((-distances, classes))
        starts = np.searchsorted(classes[order], np.arange(n_classes))
        places = np.arange(len(order)) - starts[classes[order]]
        kept = places < size
        tails = np.full((n_classes, size), -1.0)
        tails[classes[order][kept], places[kept]] = distances[order][kept]
        return cls(tails)

    def merge(self, other: Tails) -> Tails:
        """Return the tails of both sets of rows."""
        both = np.concatenate([self.distances, other.distances], axis=1)
        return Tails(-np.sort(-both, axis=1)[:, : self.distances.shape[1]])
