"""E-values: evidence that may be averaged over splits, whatever its dependence."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skood.calibration.false_discovery import discoveries
from skood.numerics.checked import (
    checked_numbers,
    checked_p_values,
    checked_rate,
)

__all__ = ["conformal_e_values", "e_discoveries"]

Floats = NDArray[np.float64]


def conformal_e_values(p_values: ArrayLike, fdr: float) -> Floats:
    r"""Return conformal p-values as e-values, of the rows that they would choose.

    The rows that Benjamini-Hochberg would choose at the rate get one over the largest
    p-value among them, all others 0. For rows that share one set of n calibration rows
    that is :math:`(n + 1) / (1 + \#\{i : S_i \le T\})` for the scores up to a threshold
    T that a backward martingale may stop at, so that the e-values of the
    in-distribution rows, m rows in all, sum to at most m on average. Means over
    several splits do too, whatever the splits have in common.

    Parameters
    ----------
    p_values : array-like of shape (n_samples,)
        Of :func:`conformal_p_values`: all rows by the same calibration rows.
    fdr : float
        In (0, 1).

    Returns
    -------
    ndarray of shape (n_samples,)
        At least 0; large for outliers.

    Raises
    ------
    ValueError
        If a p-value is not in [0, 1], or the rate not in (0, 1).

    See Also
    --------
    e_discoveries : Which rows are then chosen.

    References
    ----------
    Bashari, Epstein, Romano and Sesia, "Derandomized novelty detection with FDR control
    via conformal e-values", NeurIPS 2023.

    Examples
    --------
    >>> from skood.calibration import conformal_e_values
    >>> conformal_e_values([0.01, 0.5, 0.04, 0.02], fdr=0.1)
    array([25.,  0., 25., 25.])
    """
    p = checked_p_values(p_values)
    chosen = discoveries(p, fdr)
    return chosen / p[chosen].max(initial=0.0) if chosen.any() else np.zeros(len(p))


def e_discoveries(e_values: ArrayLike, fdr: float) -> NDArray[np.bool_]:
    """Return which rows are discoveries at a false-discovery rate, by e-values.

    The k largest are chosen, for the largest k at which the smallest of them is at
    least m / (k fdr). It takes no condition on how the e-values of the rows depend on
    each other.

    Parameters
    ----------
    e_values : array-like of shape (n_samples,)
        One a row, large for outliers; those of in-distribution rows sum to at most m on
        average.
    fdr : float
        The rate: expected share of in-distribution rows among those chosen.

    Returns
    -------
    ndarray of bool, shape (n_samples,)

    Raises
    ------
    ValueError
        If an e-value is NaN or below 0, or the rate is not in (0, 1).

    References
    ----------
    Wang and Ramdas, "False discovery rate control with e-values", JRSS B 84, 2022.

    Examples
    --------
    >>> from skood.calibration import e_discoveries
    >>> e_discoveries([25.0, 0.0, 14.0, 25.0], fdr=0.1)
    array([ True, False,  True,  True])
    """
    e = checked_numbers(e_values, "e_values")
    if not (e >= 0).all():
        raise ValueError("e_values has NaN or values below 0: an e-value is from 0 up.")
    fdr = checked_rate(fdr, "fdr")
    ranked = np.sort(e)[::-1]
    # Conformal e-values meet the bound exactly, up to rounding.
    needed = len(e) / (np.arange(1, len(e) + 1) * fdr) * (1 - 1e-12)
    enough = np.flatnonzero(ranked >= needed)
    if len(enough) == 0:
        return np.zeros(len(e), dtype=bool)
    return np.asarray(e >= ranked[enough[-1]])
