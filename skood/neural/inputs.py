"""What is given to a network to learn from, as NumPy arrays and batches."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import DataConversionWarning
from sklearn.utils import assert_all_finite
from torch import Tensor

from skood.features import LayerFeatures
from skood.features.chunks import chunks_of
from skood.neural.stored_rows import StoredRows
from skood.numerics.arrays import as_array, unread_columns
from skood.numerics.labels import inlier_mask, label_array

__all__ = [
    "as_batch",
    "as_labels",
    "as_rows",
    "check_shape",
    "encoded",
    "resolved_labels",
]


def as_rows(X: Any) -> NDArray[Any] | StoredRows:
    """Return inputs as one array of numbers.

    Parameters
    ----------
    X : array-like, tensor, DataFrame or LayerFeatures
        Of shape (n, d) or (n, channels, ...).

    Returns
    -------
    ndarray or StoredRows
        Of a type that torch has: not of another byte order, and not longer than
        float64. Not a copy where none is needed; a memory map of such a type stays
        one, and what is in a store stays there.

    Raises
    ------
    TypeError
        If it is a torch Dataset.
    ValueError
        If it has no rows, fewer than two axes, or is not made of finite real numbers.
    """
    if isinstance(X, torch.utils.data.Dataset):
        raise TypeError(
            f"X is a {type(X).__name__}: wanted is an array, a tensor or LayerFeatures "
            "(a memory-mapped array is read batch by batch)."
        )
    if isinstance(X, StoredRows):
        return X  # seen before
    if isinstance(X, LayerFeatures) and not X.in_memory:
        for _, chunk in chunks_of(X):
            assert_all_finite(np.asarray(chunk), input_name="X")
        return StoredRows(X)
    rows = _numbers(as_array(X), X)
    if rows.ndim < 2 or len(rows) == 0:
        raise ValueError(
            f"X has shape {rows.shape}: wanted is (n, d) or (n, channels, ...) with "
            "at least one row. Reshape your data, a single row by X[None]."
        )
    with np.errstate(over="ignore"):  # told as an infinite entry
        rows = rows.astype(_torch_type(rows.dtype), copy=False)
    if rows.dtype.kind == "f":
        assert_all_finite(rows, input_name="X")
    if 0 in rows.shape:
        raise ValueError(
            f"X has 0 feature(s) (shape={rows.shape}) while a minimum of 1 is required."
        )
    return rows


def _numbers(rows: NDArray[Any], given: Any) -> NDArray[Any]:
    """Return an array of real numbers; objects that are such become float64."""
    if rows.dtype.kind in "fiub":
        return rows
    unread = "; ".join(unread_columns(given))
    if rows.dtype == object and not unread:
        return rows.astype(np.float64)  # TypeError or ValueError names what is none
    where = f" in the columns {unread}" if unread else ""
    wrong = "Complex data not supported: " if rows.dtype.kind == "c" else ""
    raise ValueError(f"{wrong}X is of {rows.dtype}{where}: wanted are real numbers.")


def check_shape(
    rows: NDArray[Any] | StoredRows, wanted: tuple[int, ...], name: str
) -> None:
    """Raise ValueError unless each row has the shape of those in ``fit``."""
    if rows.shape[1:] == wanted:
        return
    if len(wanted) == 1 and len(rows.shape) == 2:
        raise ValueError(
            f"X has {rows.shape[1]} features, but {name} is expecting {wanted[0]} "
            "features as input, as many as in fit."
        )
    if rows.shape[1:] != wanted:
        raise ValueError(
            f"X has rows of shape {rows.shape[1:]}, but this {name} was fitted on rows "
            f"of shape {wanted}."
        )


def as_batch(rows: NDArray[Any]) -> Tensor:
    """Return rows as a tensor that shares no memory with them."""
    # A copy: tensors of memory that may not be written to make torch warn. Torch has
    # neither the other order of bytes nor a type beyond float64.
    kind = rows.dtype.newbyteorder("=")
    if kind.kind == "f" and kind.itemsize > 8:
        kind = np.dtype(np.float64)
    return torch.from_numpy(np.array(rows, dtype=kind))


def _torch_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type nearest to one that torch has no tensors of, or itself."""
    if dtype.kind == "f" and dtype.itemsize > 8:
        return np.dtype(np.float64)
    return dtype.newbyteorder("=")


def as_labels(y: ArrayLike | None, n_rows: int) -> NDArray[Any]:
    """Return the labels of ``n_rows`` rows.

    Raises
    ------
    ValueError
        If there are none, their number differs, they are no classes, or all rows are
        outliers.

    Warns
    -----
    DataConversionWarning
        If they are a column.
    """
    if y is None:
        raise ValueError(
            "fit requires y to be passed, but the target y is None: give class labels, "
            "-1 for outliers."
        )
    labels = label_array(y)
    if as_array(y, "y").ndim == 2:
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected. Please change "
            "the shape of y to (n_samples,), for example using ravel().",
            DataConversionWarning,
            stacklevel=3,
        )
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        raise ValueError(
            "Unknown label type: y is continuous (it has "
            f"{labels[labels != np.floor(labels)][0]}). Wanted are class labels: a "
            "classifier does not learn a regression's target."
        )
    if len(labels) != n_rows:
        raise ValueError(f"y has {len(labels)} labels for the {n_rows} rows of X.")
    if not inlier_mask(labels).any():
        raise ValueError(
            "every row of y is -1, an outlier: fit needs in-distribution rows, with "
            "class labels other than -1."
        )
    return labels


def resolved_labels(inliers: NDArray[Any], classes: ArrayLike | None) -> NDArray[Any]:
    """Return the class labels, in the order of the network's outputs.

    Parameters
    ----------
    inliers : ndarray
        The labels of the in-distribution rows.
    classes : array-like, optional
        All labels, where the rows at hand may not have them all.

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        If there is one class only, or -1 is among ``classes``.
    """
    labels = np.unique(inliers) if classes is None else label_array(classes, "classes")
    if not inlier_mask(labels).all():
        raise ValueError("classes has -1, which marks outliers and is no class.")
    if len(labels) < 2:
        raise ValueError(
            f"y has one class ({labels.tolist()}): a classifier needs 2 at least. A "
            "row with the label -1 is an outlier and not of a class."
        )
    return labels


def encoded(y: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
    """Return each label's position among ``labels``.

    Raises
    ------
    ValueError
        If one is not among them.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.neural.inputs import encoded
    >>> encoded(np.array(["cat", "dog"]), np.array(["dog", "cat"]))
    array([1, 0])
    """
    order = np.argsort(labels, kind="stable")
    places = np.searchsorted(labels, y, sorter=order)
    found = order[np.minimum(places, len(labels) - 1)]
    unknown = y[labels[found] != y]
    if len(unknown):
        raise ValueError(
            f"y has the label {unknown.tolist()[0]!r}, which is not among the classes "
            f"{labels.tolist()}. Name all classes on the first call: "
            "partial_fit(X, y, classes=...)."
        )
    return found.astype(np.int64)
