"""Energy in the subspace that decides, likeness to training rows in the rest."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skood._sklearn_compat import Interval
from skood.detectors.class_means import ClassSums
from skood.detectors.head.bank import NearestDetector, top_mean
from skood.detectors.head.moments import term_moments
from skood.detectors.head.signs import check_positive, guarded_product
from skood.detectors.head.subspaces import row_space
from skood.detectors.training import Training
from skood.numerics.device import array_namespace, like
from skood.numerics.logsumexp import log_sum_exp
from skood.numerics.rows import lengths, nonzero, unit_rows

__all__ = ["ActSub"]

CLOSEST = 1e-12
"""The least 1 - cosine of which the logarithm is taken."""


class ActSub(NearestDetector):
    r"""Energy in the subspace that decides, likeness to training rows in the rest.

    The right singular vectors of the head's weights, the first m of them, span what
    decides about the class; m is where the lengths of both parts of the training rows,
    :math:`h = h_d + h_r`, are equal in the mean. The score [1]_ is

    .. math::

       s = E\left(W e^{r} h_d + b\right)
           \Big(-\log\big(1 - \operatorname{mean}_i \cos(h_r, h_{r,i})\big)\Big)^\lambda

    with the energy E, the mean over the nearest training rows, and SCALE's factor: r
    is the sum of all entries of :math:`h_d` over that of the largest ones.

    Both factors have to be positive. A likeness below zero counts as zero, a row with
    a negative energy scores the energy, and a mean energy below zero in the training
    rows is refused; r is 0 where the largest entries do not add up to more than zero.
    m is at most the weights' rank: beyond it, singular vectors are arbitrary.

    The authors choose the percentile and :math:`\lambda` with outliers (95 and 2 for
    ResNet-50, 97.5 and 1 for ViT-B/16); the defaults here were chosen without.

    The threshold comes from leave-one-out scores: a training row is not compared with
    itself.

    Parameters
    ----------
    n_neighbors : int, default=10
        Nearest training rows.
    percentile : float, default=90
        Of the entries of :math:`h_d` that are not among the largest.
    exponent : float, default=2.0
        :math:`\lambda`.
    max_rows : int, default=10000
        At most so many training rows are kept, evenly of the classes; None keeps all.
    random_state : int, RandomState instance or None, default=0
        Seed of which rows are kept.
    head : LinearHead, optional
        The network's last linear map; None takes the one of the features, or finds it.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    decisive_ : ndarray of shape (n_axes, n_features)
        The singular vectors.
    bank_ : ndarray of shape (n_kept, n_features)
        The other part of training rows, of length one.
    bank_rows_ : ndarray of int, shape (n_kept,)
        Their numbers among the training rows.
    head_ : LinearHead
        The last linear map.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there is no head, or features have one column; if there are fewer rows than
        neighbours, or energies are negative in the mean.

    References
    ----------
    .. [1] Zöngür, Hesse and Roth, "Activation subspaces for out-of-distribution
       detection", ICCV 2025.

    Examples
    --------
    >>> from skood import ActSub
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = ActSub().fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    percentile: float = 90.0
    exponent: float = 2.0

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "percentile": [Interval(Real, 0, 100, closed="left")],
        "exponent": [Interval(Real, 0, None, closed="left")],
    }

    def _learn_head(self, training: Training) -> None:
        self.decisive_ = self._decisive(training)
        ((energy,), _) = term_moments(self, training, lambda h, z: (self._energy(h),))
        check_positive(
            "ActSub", "the energy", energy, "add a constant to the head's bias"
        )
        self._keep(training, lambda h, z: (unit_rows(self._rest(h)),), self.n_neighbors)

    def _decisive(self, training: Training) -> NDArray[np.float64]:
        assert self.head_ is not None
        space = row_space(self.head_)
        most = min(len(space), space.shape[1] - 1)
        if most < 1:
            raise ValueError(
                f"the head's weight, of shape {self.head_.weight.shape}, does not make "
                "two parts of the features, one that decides and the rest: ActSub is "
                "for more columns, and weights that are not zero."
            )

        def lead(h: Any, z: Any, _: Any) -> ClassSums:
            """Return by how much the first part is longer, for each m."""
            xp, axes = array_namespace(h), like(space, h)
            coordinates = h @ axes.T
            outside = lengths(h - coordinates @ axes)[:, None] ** 2
            squares = coordinates * coordinates
            first = xp.cumulative_sum(squares, axis=1)
            beyond = xp.flip(
                xp.cumulative_sum(xp.flip(squares, axis=1), axis=1), axis=1
            )
            rest = beyond - squares + outside
            leads = xp.sqrt(first) - xp.sqrt(xp.where(rest > 0, rest, 0 * rest))
            return ClassSums.of(leads, np.zeros(len(h), np.intp), 1)

        leads = np.abs(self._gathered(lead, training).overall[:most])
        return space[: self._choice("axes", lambda: int(leads.argmin()) + 1)]

    def _rest(self, h: Any) -> Any:
        axes = like(self.decisive_, h)
        return h - (h @ axes.T) @ axes

    def _energy(self, h: Any) -> Any:
        xp, axes = array_namespace(h), like(self.decisive_, h)
        assert self.head_ is not None
        part = (h @ axes.T) @ axes
        width = part.shape[1]
        n_largest = max(width - round(width * self.percentile / 100), 1)
        largest = n_largest * top_mean(part, n_largest)
        ratio = xp.sum(part, axis=1) / nonzero(largest)
        factor = xp.exp(xp.where(largest > 0, ratio, 0 * ratio))[:, None]
        weight, bias = like(self.head_.weight, h), like(self.head_.bias, h)
        return log_sum_exp(factor * (part @ weight.T) + bias)

    def _directions(self, h: Any) -> Any:
        return unit_rows(self._rest(h))

    def _scores_of(self, h: Any, z: Any, compared: Any) -> Any:
        xp = array_namespace(h)
        away = 1 - compared
        away = xp.where(away > CLOSEST, away, 0 * away + CLOSEST)
        likeness = -xp.log(xp.where(away < 1, away, 0 * away + 1))
        return guarded_product(self._energy(h), likeness**self.exponent)
