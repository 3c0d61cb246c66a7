"""Choosing outliers among many rows with a bound on the share of false ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control

from skood.numerics.checked import checked_p_values, checked_rate

Floats = NDArray[np.float64]


def discoveries(
    p_values: ArrayLike, fdr: float, method: str = "bh"
) -> NDArray[np.bool_]:
    """Return which rows are discoveries at a false-discovery rate.

    Parameters
    ----------
    p_values : array-like of shape (n_samples,)
        One a row, small for outliers.
    fdr : float
        The rate: expected share of in-distribution rows among those chosen.
    method : {"bh", "by"}, default="bh"
        Benjamini-Hochberg, for p-values that are independent or positively dependent,
        or Benjamini-Yekutieli, for any dependence.

    Returns
    -------
    ndarray of bool, shape (n_samples,)

    Raises
    ------
    ValueError
        If a p-value is not in [0, 1], or the rate not in (0, 1).

    References
    ----------
    Benjamini and Hochberg, "Controlling the false discovery rate", JRSS B 57, 1995.
    Benjamini and Yekutieli, "The control of the false discovery rate in multiple
    testing under dependency", Annals of Statistics 29, 2001.

    Examples
    --------
    >>> from skood.calibration import discoveries
    >>> discoveries([0.01, 0.5, 0.04, 0.02], fdr=0.1)
    array([ True, False,  True,  True])
    """
    p, fdr = checked_p_values(p_values), checked_rate(fdr, "fdr")
    if len(p) == 0:
        return np.zeros(0, dtype=bool)
    # Conformal p-values lie on a grid that meets the bound exactly, up to rounding.
    adjusted = false_discovery_control(p, method=method)
    return np.asarray(adjusted <= fdr * (1 + 1e-12))


def conditional_p_values(
    p_values: ArrayLike, n_calibration: int, confidence: float
) -> Floats:
    r"""Turn conformal p-values into ones that are valid for the given calibration rows.

    Plain conformal p-values are valid on average over calibration sets, and depend on
    each other through the one that they share. With probability `confidence` over the
    calibration rows, the values returned here are valid p-values given these rows, and
    independent of each other given them.

    Value j / (n + 1) becomes b_j, where the sorted uniform variables of a sample of n
    stay below :math:`b_1, \dots, b_n` all at once with that probability: the
    generalised Simes inequality with half of the sample,
    :math:`b_{n+1-i} = 1 - \delta^{1/k} \prod_{r=0}^{k-1} ((i - r) / (n - r))^{1/k}`
    with :math:`k = \lfloor n / 2 \rfloor` and :math:`\delta` one minus the confidence.

    Parameters
    ----------
    p_values : array-like of shape (n_samples,)
        Of :func:`conformal_p_values`.
    n_calibration : int
        The number n of calibration rows, at least 2.
    confidence : float
        In (0, 1).

    Returns
    -------
    ndarray of shape (n_samples,)
        No smaller than the p-values given.

    Raises
    ------
    ValueError
        If a p-value is not in [0, 1], or not one of so many calibration rows; if these
        are fewer than 2, or the confidence is not in (0, 1).

    References
    ----------
    Bates, Candès, Lei, Romano and Sesia, "Testing for outliers with conformal
    p-values", Annals of Statistics 51, 2023, section 3.

    Examples
    --------
    >>> from skood.calibration import conditional_p_values
    >>> conditional_p_values([0.01, 0.05, 0.5], 99, confidence=0.9).round(3)
    array([0.046, 0.099, 0.732])
    """
    if n_calibration < 2:
        raise ValueError(f"n_calibration={n_calibration!r}: give a number from 2 on.")
    bounds = _uniform_order_bounds(
        n_calibration, 1 - checked_rate(confidence, "confidence")
    )
    p = checked_p_values(p_values)
    places = np.rint(p * (n_calibration + 1)).astype(np.intp)
    if (places < 1).any():
        raise ValueError(
            f"p_values has {p.min()}: with n_calibration={n_calibration} rows none is "
            f"below 1 / {n_calibration + 1}."
        )
    return bounds[places - 1]


def _uniform_order_bounds(n: int, delta: float) -> Floats:
    """Return b_1, ..., b_n of the generalised Simes inequality, and b_{n+1} = 1."""
    k = max(n // 2, 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    i = np.arange(n, k - 1, -1)
    products = (logs[i] - logs[i - k]) - (logs[n] - logs[n - k])
    bounds = np.ones(n + 1)
    bounds[: len(i)] = 1 - np.exp((np.log(delta) + products) / k)
    return bounds
