"""How far the scores by some rows drift from those by all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

__all__ = ["drift", "drift_rows"]

DRIFT_ROWS = 256
"""So many rows are compared with all others."""


def drift_rows(n_rows: int) -> NDArray[np.intp]:
    """Return the numbers of the rows that are looked at, drawn with a seed."""
    rng = np.random.default_rng(0)
    return np.sort(rng.choice(n_rows, min(n_rows, DRIFT_ROWS), replace=False))


def drift(kept: NDArray[np.float64], whole: NDArray[np.float64]) -> dict[str, float]:
    """Return how scores by the rows that are kept differ from those by all rows.

    Parameters
    ----------
    kept, whole : ndarray of shape (m,)
        The scores of the same rows.

    Returns
    -------
    dict of str to float
        ``"rank_correlation"`` (Spearman's): 1 where all rows stand in the same order.
        ``"shift"``: the mean difference, in standard deviations of ``whole``.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.numerics.drift import drift
    >>> found = drift(np.array([0.0, 1, 2]), np.array([1.0, 2, 3]))
    >>> round(found["rank_correlation"], 6), round(found["shift"], 3)
    (1.0, -1.225)
    """
    spread = float(whole.std())
    shift = float((kept - whole).mean())
    if spread == 0 or kept.std() == 0:
        return {"rank_correlation": np.nan, "shift": 0.0 if shift == 0 else np.nan}
    rank_correlation = float(spearmanr(kept, whole).statistic)
    return {"rank_correlation": rank_correlation, "shift": shift / spread}
