"""The name of the data set that each outlier comes from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import column_or_1d

from skood.numerics.arrays import as_array, is_missing


def outlier_sources(
    mask: NDArray[np.bool_], sources: ArrayLike, argument: str
) -> NDArray[Any]:
    """Return the source of each outlier.

    Parameters
    ----------
    mask : ndarray of bool, shape (n,)
        True where the row is in-distribution.
    sources : array-like of shape (n,)
        One name per row; those of inliers are ignored.
    argument : str
        What `sources` is called where the user gave it, for the errors.

    Returns
    -------
    ndarray of shape (n_outliers,)
        In the order of the rows.

    Raises
    ------
    ValueError
        If the lengths differ or an outlier's name is None or NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.metrics.sources import outlier_sources
    >>> outlier_sources(np.array([True, False]), [None, "noise"], "groups").tolist()
    ['noise']
    """
    names = column_or_1d(as_array(sources, argument))
    if len(names) != len(mask):
        raise ValueError(
            f"{argument} has {len(names)} rows but y {len(mask)}; one name per row is "
            "wanted (those of inliers are ignored)."
        )
    names = names[~mask]
    n_missing = int(is_missing(names).sum())
    if n_missing:
        raise ValueError(
            f"{argument} has {n_missing} missing names among the outliers; name the "
            "source of every row of label -1."
        )
    return names
