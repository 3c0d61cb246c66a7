"""The energy beside a virtual logit, made of what the head does not see."""

from __future__ import annotations

from typing import Any

from skood.detectors.head.moments import term_moments
from skood.detectors.head.residual import Residual
from skood.detectors.training import Training
from skood.numerics.logsumexp import log_sum_exp
from skood.numerics.rows import best_logit

__all__ = ["ViM"]


class ViM(Residual):
    r"""The energy of the logits, less a virtual logit of the residual.

    The score [1]_ is

    .. math::

       s = \log \sum_k e^{z_k} - \alpha \, \|R^\top (h - u)\|

    with the residual of :class:`Residual`. The factor :math:`\alpha` is the mean of
    the largest logit over that of the residual's length, both in the training rows.

    D is as in :class:`Residual`: the default holds 99 % of the second moment and is
    ours, ``published_components(d)`` is the authors'.

    The threshold comes from rows held out of other fits or, where about as many rows as
    columns decide which directions are left, from a fifth of the rows (up to two, where
    the rate takes as many), of which nothing is learned.

    Parameters
    ----------
    n_components : int or float, default=0.99
        D, or the share of the second moment that they hold.
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
        The factor of the residual.
    origin_ : ndarray of shape (n_features,)
        u.
    residual_axes_ : ndarray of shape (n_features, n_features - n_components)
        R.
    head_ : LinearHead
        The last linear map.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there is no head, the training rows lie in D dimensions, or the largest
        logit is negative in the mean: the factor would be, too.

    References
    ----------
    .. [1] Wang, Li, Feng and Zhang, "ViM: out-of-distribution with virtual-logit
       matching", CVPR 2022.

    Examples
    --------
    >>> from skood import ViM
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = ViM().fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    _reads_logits = True

    def _learn_head(self, training: Training) -> None:
        super()._learn_head(training)
        # Rows that few others hold in place leave a residual of another size: a fit
        # without them would weigh it by another factor, and new rows otherwise.
        self.alpha_ = self._choice("alpha", lambda: self._factor(training))

    def _factor(self, training: Training) -> float:
        (logit, residual), _ = term_moments(
            self, training, lambda h, z: (best_logit(z), self._residuals(h))
        )
        if logit <= 0:
            raise ValueError(
                f"the largest logit is {logit:.3g} in the mean of the training rows, "
                "and ViM's factor of the residual would be negative with it: use "
                "Residual, which has no factor."
            )
        return float(logit / residual)

    def _head_scores(self, h: Any, z: Any) -> Any:
        return log_sum_exp(z) - self.alpha_ * self._residuals(h)
