"""Generalised entropy."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

from skood._sklearn_compat import Interval
from skood.detectors.declared import field
from skood.detectors.logits.base import LogitDetector
from skood.numerics.probabilities import largest_softmax
from skood.numerics.rows import powers, row_sums

__all__ = ["GEN"]


class GEN(LogitDetector):
    r"""Generalised entropy of the softmax.

    With the M largest probabilities, the score is

    .. math::

       s = -\sum_{m=1}^{M} p_m^\gamma (1 - p_m)^\gamma .

    A small :math:`\gamma` makes it feel small deviations from a sure prediction, where
    :math:`(1 - p)^\gamma` is steepest: both p and 1 - p are computed without
    cancellation.

    The defaults are the authors' for networks with 1,000 classes; with fewer than M
    classes, all are used, as they do. CADRef's copy takes the largest 10 or a tenth of
    the classes instead, and the inverse of the sum.

    Parameters
    ----------
    gamma : float, default=0.1
        The exponent, in (0, 1).
    n_largest : int, default=100
        M, the probabilities that count.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there are no logits, or they have one column.

    References
    ----------
    Liu, Lochman and Zach, "GEN: pushing the limits of softmax-based out-of-distribution
    detection", CVPR 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import GEN
    >>> logits = np.random.default_rng(0).normal(size=(100, 3)) + [9, 0, 0]
    >>> detector = GEN().fit(logits)
    >>> detector.predict([[9, 0, 0], [1, 1, 1]])
    array([ 1, -1])
    """

    gamma: float = field(default=0.1, kw_only=False)
    n_largest: int = 100

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "gamma": [Interval(Real, 0, 1, closed="neither")],
        "n_largest": [Interval(Integral, 1, None, closed="left")],
    }

    _several_classes = True

    def _logit_scores(self, logits: Any) -> Any:
        p, rest = largest_softmax(logits, self.n_largest)
        return -row_sums(powers(p * rest, self.gamma))
