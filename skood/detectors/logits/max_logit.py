"""The largest logit."""

from __future__ import annotations

from typing import Any

from skood.detectors.logits.base import LogitDetector
from skood.numerics.rows import best_logit

__all__ = ["MaxLogit"]


class MaxLogit(LogitDetector):
    """Largest logit.

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

    See Also
    --------
    MSP : The largest probability.
    Energy : All logits at once.

    References
    ----------
    Hendrycks et al., "Scaling out-of-distribution detection for real-world settings",
    ICML 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import MaxLogit
    >>> logits = np.random.default_rng(0).normal(size=(100, 3)) + [9, 0, 0]
    >>> detector = MaxLogit().fit(logits)
    >>> detector.score_samples([[9, 0, 0], [1, 1, 1]])
    array([9., 1.])
    >>> detector.predict([[9, 0, 0], [1, 1, 1]])
    array([ 1, -1])
    """

    def _logit_scores(self, logits: Any) -> Any:
        return best_logit(logits)
