"""The entropy of the softmax."""

from __future__ import annotations

from typing import Any

from skood.detectors.logits.base import LogitDetector
from skood.numerics.device import array_namespace
from skood.numerics.probabilities import behind_best
from skood.numerics.rows import row_dots, row_sums

__all__ = ["Entropy"]


class Entropy(LogitDetector):
    r"""Minus the entropy of the softmax.

    The score is :math:`\sum_k p_k \log p_k`, from minus the logarithm of the number of
    classes to 0.

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
        If there are no logits, or they have one column.

    References
    ----------
    Chan, Rottmann and Gottschalk, "Entropy maximization and meta classification for
    out-of-distribution detection in semantic segmentation", ICCV 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Entropy
    >>> logits = np.random.default_rng(0).normal(size=(100, 3)) + [9, 0, 0]
    >>> detector = Entropy().fit(logits)
    >>> detector.predict([[9, 0, 0], [1, 1, 1]])
    array([ 1, -1])
    """

    _several_classes = True

    def _logit_scores(self, logits: Any) -> Any:
        xp = array_namespace(logits)
        behind, others = behind_best(logits)
        rest = row_sums(others)
        return row_dots(others, behind) / (1 + rest) - xp.log1p(rest)
