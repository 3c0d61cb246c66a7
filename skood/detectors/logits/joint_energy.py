"""The energies of all labels of a multi-label network, added."""

from __future__ import annotations

from typing import Any

from skood.detectors.logits.base import LogitDetector
from skood.numerics.device import array_namespace
from skood.numerics.rows import row_sums

__all__ = ["JointEnergy"]


class JointEnergy(LogitDetector):
    r"""Minus the sum of the labels' energies, for networks of several labels an input.

    The score is :math:`\sum_k \log(1 + e^{z_k})`, in which each logit stands for a
    label of its own, behind a sigmoid. For classes of which one is true, take
    :class:`skood.Energy`.

    What ``fit`` gets as y only tells outliers (-1) from other rows.

    The threshold comes from the scores of the rows given to ``fit``. A network is
    surer of its own training data than of new data: give in-distribution rows that it
    was not trained on, as X or as ``threshold_data``.

    Parameters
    ----------
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
        If there are no logits.

    References
    ----------
    Wang, Liu, Bocchieri and Li, "Can multi-label classification networks know what they
    don't know?", NeurIPS 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import JointEnergy
    >>> logits = np.random.default_rng(0).normal(size=(100, 3)) + [9, 7, 0]
    >>> detector = JointEnergy().fit(logits)
    >>> detector.predict([[9, 7, 0], [1, 1, 1]])
    array([ 1, -1])
    """

    def _logit_scores(self, logits: Any) -> Any:
        xp = array_namespace(logits)
        z = xp.astype(logits, xp.float64)
        return row_sums(xp.clip(z, 0, None) + xp.log1p(xp.exp(-xp.abs(z))))
