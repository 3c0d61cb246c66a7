"""The one rule for labels: -1 marks an outlier, everything else is a class."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import column_or_1d

from skood.numerics.arrays import as_array, is_missing

OUTLIER = -1
OUTLIER_AS_FLOAT = "-1.0"

SPARSE = 4
"""Whole numbers up to so many times the number of rows are counted."""


def label_array(y: ArrayLike, name: str = "y") -> NDArray[Any]:
    """Return labels as one array, of whatever library they come.

    Parameters
    ----------
    y : array-like of shape (n,)
        Numbers or texts: a list, array, tensor or a column of a frame. A column's
        index is of no account.
    name : str, default="y"
        What the labels are called where the user gave them, for the errors.

    Returns
    -------
    ndarray of shape (n,)
        Texts are of a text type, with -1 among them as ``"-1"``.

    Raises
    ------
    ValueError
        If a label is missing or infinite, if texts and numbers other than -1 are mixed,
        or one is the text ``"-1.0"``.
    TypeError
        If they cannot be read, as :func:`skood.numerics.arrays.check_readable` says.

    Examples
    --------
    >>> import pandas as pd
    >>> from skood.numerics.labels import label_array
    >>> label_array(pd.Series(["cat", "dog", -1], index=[7, 8, 9]))
    array(['cat', 'dog', '-1'], dtype='<U3')
    """
    labels = column_or_1d(as_array(y, name))
    if labels.dtype.kind == "U" and isinstance(y, (list, tuple)):
        # NumPy has made texts of all that is in a list, of NaN and numbers too.
        labels = column_or_1d(np.array(y, dtype=object))
    missing = np.flatnonzero(is_missing(labels))
    if len(missing):
        raise ValueError(
            f"Input {name} contains NaN: {len(missing)} of {len(labels)} labels are "
            f"missing, the first in row {missing[0]}. Give each row its class, or -1 "
            "where it is an outlier."
        )
    if labels.dtype.kind == "f":
        assert_all_finite(labels, input_name=name)
    if labels.dtype == object:
        labels = _of_objects(labels, name)
    if labels.dtype.kind == "U" and (labels == OUTLIER_AS_FLOAT).any():
        raise ValueError(
            f"{name} has the text {OUTLIER_AS_FLOAT!r}, a number written as a float: "
            f"an outlier among texts is {str(OUTLIER)!r}."
        )
    return labels


def inlier_mask(y: ArrayLike, name: str = "y") -> NDArray[np.bool_]:
    """Return which rows are in-distribution.

    Parameters
    ----------
    y : array-like of shape (n,)
        Class labels of any dtype; -1 (or the text ``"-1"``) marks an outlier.
    name : str, default="y"
        For the errors.

    Returns
    -------
    ndarray of bool, shape (n,)
        True where the row is in-distribution.

    Raises
    ------
    ValueError, TypeError
        As :func:`label_array`.

    Examples
    --------
    >>> from skood.numerics.labels import inlier_mask
    >>> inlier_mask([3, -1, 0])
    array([ True, False,  True])
    """
    labels = label_array(y, name)
    if labels.dtype.kind in "US":
        return np.asarray(labels.astype(str) != str(OUTLIER))
    return np.asarray(labels != OUTLIER, dtype=bool)


def class_numbers(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the classes, ascending, and each row's number among them.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        Of :func:`label_array`.

    Returns
    -------
    names : ndarray of shape (C,)
    numbers : ndarray of int, shape (n,)

    Examples
    --------
    >>> import numpy as np
    >>> from skood.numerics.labels import class_numbers
    >>> class_numbers(np.array([7, 3, 7]))
    (array([3, 7]), array([1, 0, 1]))
    """
    whole = labels.dtype.kind in "iu" and len(labels) > 0
    if not whole or labels.min() < 0 or labels.max() > SPARSE * len(labels):
        names, numbers = np.unique(labels, return_inverse=True)
        return names, numbers
    # Small whole numbers are counted, which takes a tenth of the time of a sort.
    small = labels.astype(np.intp)
    names = np.flatnonzero(np.bincount(small))
    places = np.zeros(names[-1] + 1, dtype=np.intp)
    places[names] = np.arange(len(names))
    return names.astype(labels.dtype), places[small]


def _of_objects(labels: NDArray[Any], name: str) -> NDArray[Any]:
    """Return Python objects as texts or numbers where they are that."""
    values = labels.tolist()
    texts = [isinstance(value, str) for value in values]
    if not any(texts):
        numbers = all(isinstance(value, Real) for value in values)
        return np.asarray(values) if numbers else labels
    for value, is_text in zip(values, texts, strict=True):
        if not is_text and value != OUTLIER:
            raise ValueError(
                f"{name} mixes texts and numbers ({value!r}): give labels of one kind; "
                "-1 alone may stand among texts."
            )
    pairs = zip(values, texts, strict=True)
    return np.array([value if text else str(OUTLIER) for value, text in pairs])
