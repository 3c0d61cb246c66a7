"""The share of a row that lies in the principal space of the training rows."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np

from skood._sklearn_compat import Interval
from skood.detectors.head.base import HeadDetector
from skood.detectors.head.moments import row_moments
from skood.detectors.head.signs import guarded_product
from skood.detectors.head.subspaces import (
    component_number,
    principal_axes,
    spans_about_all,
)
from skood.detectors.training import Training
from skood.numerics.device import like
from skood.numerics.rows import best_logit, lengths, nonzero

__all__ = ["NECO"]


class NECO(HeadDetector):
    r"""The share of a row that lies in the principal space of the training rows.

    Every column is centred and scaled to unit variance in the training rows, giving
    x; P has the D principal axes of these rows. The score [1]_ is

    .. math::

       s = \|P^\top x\| / \|x\| ,

    times the largest logit with ``max_logit=True``, as the authors have it for
    networks other than ResNets. There, a row whose largest logit is negative scores
    that logit. Columns that do not vary are centred only.

    The authors choose D for each network. The default is ours: as many axes as have
    90 % of the variance.

    The threshold comes from rows held out of other fits or, where about as many rows as
    columns decide which directions are left, from a fifth of the rows (up to two, where
    the rate takes as many), of which nothing is learned.

    Parameters
    ----------
    n_components : int or float, default=0.9
        D, or the share of the variance that they have.
    max_logit : bool, default=False
        Multiply by the largest logit, for which the head is needed.
    head : LinearHead, optional
        The network's last linear map; None takes the one of the features, or finds it.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    mean_, scale_ : ndarray of shape (n_features,)
        Of the columns.
    axes_ : ndarray of shape (n_features, n_components)
        P.
    head_ : LinearHead or None
        The last linear map, where it is needed.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If the training rows lie in D dimensions, or there is no head and it is needed.

    References
    ----------
    .. [1] Ben Ammar, Belkhir, Popescu, Manzanera and Franchi, "NECO: neural collapse
       based out-of-distribution detection", ICLR 2024.

    Examples
    --------
    >>> from skood import NECO
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = NECO().fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    n_components: float = 0.9
    max_logit: bool = False

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
        ],
        "max_logit": ["boolean"],
    }

    @property
    def _uses_head(self) -> bool:  # type: ignore[override]
        return self.max_logit

    def _learn_head(self, training: Training) -> None:
        moments = row_moments(self, training)
        covariance = moments.covariance()
        deviations = np.sqrt(np.diag(covariance))
        self.mean_ = moments.means[0]
        self.scale_ = np.where(deviations > 0, deviations, 1.0)
        values, axes = principal_axes(covariance / np.outer(self.scale_, self.scale_))
        self.axes_ = axes[:, : component_number(self, values)].copy()

    def _hangs_on_few(self, training: Training) -> bool:
        return spans_about_all(len(training), len(self.mean_))

    def _head_scores(self, h: Any, z: Any) -> Any:
        x = (h - like(self.mean_, h)) / like(self.scale_, h)
        share = lengths(x @ like(self.axes_, h)) / nonzero(lengths(x))
        return guarded_product(best_logit(z), share) if self.max_logit else share
