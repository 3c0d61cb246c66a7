"""The one rule for labels: -1 marks an outlier, everything else is a class."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import column_or_1d

OUTLIER = -1


def inlier_mask(y: ArrayLike) -> NDArray[np.bool_]:
    """Return which rows are in-distribution.

    Parameters
    ----------
    y : array-like of shape (n,)
        Class labels of any dtype; -1 (or the text ``"-1"``) marks an outlier.

    Returns
    -------
    ndarray of bool, shape (n,)
        True where the row is in-distribution.

    Examples
    --------
    >>> from skood._labels import inlier_mask
    >>> inlier_mask([3, -1, 0])
    array([ True, False,  True])
    """
    labels = column_or_1d(np.asarray(y))
    if labels.dtype.kind in "US":
        return np.asarray(labels.astype(str) != str(OUTLIER))
    return np.asarray(labels != OUTLIER, dtype=bool)
