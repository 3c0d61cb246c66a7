"""Ends of axes on which a few far values do not squeeze all others."""

from __future__ import annotations

import numpy as np

from skood.plotting._axes import Floats

REACH = 5.0
"""How far an axis goes beyond the bulk, in widths of the bulk."""


def readable_limits(
    values: Floats, bulk: Floats, share: float = 0.98
) -> tuple[float, float]:
    """Return the ends of an axis that shows all values, or all that are not far.

    Far is what lies more than five times the width of the bulk beyond the bulk, which
    so has at least an eleventh of the axis, however far the others are.

    Parameters
    ----------
    values : ndarray
        What is shown; infinite values and NaN do not count.
    bulk : ndarray
        The values that have to be told apart.
    share : float, default=0.98
        Of the bulk, between two quantiles, whose distance is its width.

    Returns
    -------
    low, high : float
        With low < high.
    """
    values = values[np.isfinite(values)]
    bulk = bulk[np.isfinite(bulk)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if len(bulk):
        first, last = np.quantile(bulk, [(1 - share) / 2, (1 + share) / 2])
        reach = REACH * (last - first)
        if reach > 0:
            low, high = max(low, float(first - reach)), min(high, float(last + reach))
    return low, (high if high > low else low + 1)
