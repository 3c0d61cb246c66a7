"""CARef's distance, in a part that speaks for the class and one against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from skood._sklearn_compat import StrOptions
from skood.detectors.head.caref import CARef
from skood.detectors.head.moments import term_moments
from skood.detectors.head.signs import check_positive
from skood.detectors.head.subspaces import without_rounding
from skood.detectors.training import Training
from skood.numerics.device import array_namespace, like
from skood.numerics.logsumexp import log_sum_exp
from skood.numerics.probabilities import largest_softmax, softmax
from skood.numerics.rows import best_logit, powers, row_sums

__all__ = ["CADRef"]

LOWEST = 1e-2
"""The least logit score that is divided by, over the mean of the training rows."""

SUREST = 1e-30
"""The least generalised entropy: of probabilities that float64 tells from 0 and 1."""


class CADRef(CARef):
    r"""Distance to the mean of the predicted class, decoupled by the weights' signs.

    The entries of :math:`h - m_c` (see :class:`CARef`) whose sign is that of the
    predicted class's weight raise its logit, the others lower it. With
    :math:`e_+` and :math:`e_-` their L1 norms over :math:`\|h\|_1`, the score [1]_ is

    .. math::

       s = -\frac{e_+}{L(z)} - \frac{e_-}{\bar L}

    for a score L of the logits with mean :math:`\bar L` in the training rows. L has to
    be positive, which the energy and the largest logit need not be: nothing below one
    hundredth of :math:`\bar L` is divided by, and a negative :math:`\bar L` is refused.

    Entries with a weight of zero count in neither part.

    The threshold comes from rows held out of other fits.

    Parameters
    ----------
    score : {"energy", "max_logit", "msp", "gen"}, default="energy"
        L; ``"gen"`` is one over the generalised entropy
        :math:`\sum_j p_j^{0.1} (1 - p_j)^{0.1}` of the largest C / 10, but at least
        10, probabilities, which the authors take for networks of many classes.
    head : LinearHead, optional
        The network's last linear map; None takes the one of the features, or finds it.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    means_ : ndarray of shape (n_classes, n_features)
        :math:`m_k`.
    signs_ : ndarray of shape (n_classes, n_features)
        Of the weights.
    mean_score_ : float
        :math:`\bar L`.
    head_ : LinearHead
        The last linear map.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there is no head, or L is negative in the mean of the training rows.

    References
    ----------
    .. [1] Ling, Chang, Zhao and Xu, "CADRef: robust out-of-distribution detection via
       class-aware decoupled relative feature leveraging", CVPR 2025.

    Examples
    --------
    >>> from skood import CADRef
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = CADRef().fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    score: str = "energy"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "score": [StrOptions({"energy", "max_logit", "msp", "gen"})],
    }

    def _learn_head(self, training: Training) -> None:
        super()._learn_head(training)
        assert self.head_ is not None
        self.signs_ = np.sign(without_rounding(self.head_.weight))
        logit_score = _LOGIT_SCORES[self.score]
        ((mean,), _) = term_moments(self, training, lambda h, z: (logit_score(z),))
        self.mean_score_ = float(mean)
        mend = "take score='gen' or 'msp', which always are"
        check_positive("CADRef", f"score={self.score!r}", mean, mend)

    def _head_scores(self, h: Any, z: Any) -> Any:
        xp = array_namespace(h)
        apart, predicted = self._parts(h, z)
        agreeing = apart * like(self.signs_, h)[predicted]
        for_class = row_sums(xp.clip(agreeing, 0, None))
        against = for_class - row_sums(agreeing)
        level, lowest = _LOGIT_SCORES[self.score](z), LOWEST * self.mean_score_
        level = xp.where(level > lowest, level, 0 * level + lowest)
        return -for_class / level - against / self.mean_score_


def _gen(z: Any) -> Any:
    p, rest = largest_softmax(z, max(z.shape[1] // 10, 10))
    entropy = row_sums(powers(p * rest, 0.1))
    return 1 / array_namespace(z).where(entropy > SUREST, entropy, 0 * entropy + SUREST)


_LOGIT_SCORES: dict[str, Callable[[Any], Any]] = {
    "energy": log_sum_exp,
    "max_logit": best_logit,
    "msp": lambda z: best_logit(softmax(z)),
    "gen": _gen,
}
