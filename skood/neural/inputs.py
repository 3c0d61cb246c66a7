"""What is given to a network to learn from, as NumPy arrays and batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import assert_all_finite
from torch import Tensor

from skood._arrays import as_array, unread_columns
from skood._chunks import chunks_of
from skood._labels import inlier_mask, label_array
from skood.features import LayerFeatures
from skood.neural.stored_rows import StoredRows

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
    rows = as_array(X)
    if rows.dtype.kind not in "fiub":
        unread = "; ".join(unread_columns(X))
        where = f" in the columns {unread}" if unread else ""
        raise ValueError(f"X is of {rows.dtype}{where}: wanted are real numbers.")
    if rows.ndim < 2 or len(rows) == 0:
        raise ValueError(
            f"X has shape {rows.shape}: wanted is (n, d) or (n, channels, ...) with "
            "at least one row. Reshape a single row by X[None]."
        )
    with np.errstate(over="ignore"):  # told as an infinite entry
        rows = rows.astype(_torch_type(rows.dtype), copy=False)
    if rows.dtype.kind == "f":
        assert_all_finite(rows, input_name="X")
    return rows


def check_shape(
    rows: NDArray[Any] | StoredRows, wanted: tuple[int, ...], name: str
) -> None:
    """Raise ValueError unless each row has the shape of those in ``fit``."""
    if rows.shape[1:] != wanted:
        raise ValueError(
            f"X has rows of shape {rows.shape[1:]}, but this {name} was fitted on rows "
            f"of shape {wanted}."
        )


def as_batch(rows: NDArray[Any]) -> Tensor:
    """Return rows as a tensor that shares no memory with them."""
    # A copy: tensors of memory that may not be written to make torch warn.
    return torch.from_numpy(np.array(rows))


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
        If there are none, their number differs, or all rows are outliers.
    """
    if y is None:
        raise ValueError("y is None: fit needs class labels, -1 for outliers.")
    labels = label_array(y)
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
