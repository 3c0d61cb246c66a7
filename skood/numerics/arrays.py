"""What users give, as NumPy arrays: tensors, frames and columns of any library."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.sparse import issparse

from skood._sklearn_compat import validate_data

__all__ = [
    "as_array",
    "check_readable",
    "is_missing",
    "on_host",
    "unread_columns",
    "validated_table",
]


def check_readable(values: Any, name: str = "X") -> None:
    """Raise where there are no values to read as they stand.

    Parameters
    ----------
    values : object
        What a user gave.
    name : str, default="X"
        What it is called where the user gave it, for the errors.

    Raises
    ------
    TypeError
        For a polars LazyFrame, and for a torch tensor without data or of a sparse
        layout.
    ValueError
        For a masked array with masked entries.
    """
    if type(values) is np.ndarray:
        return
    if type(values).__name__ == "LazyFrame":
        raise TypeError(
            f"{name} is a LazyFrame, which has no rows yet: call its collect()."
        )
    if _is_tensor(values) and values.is_meta:
        raise TypeError(f"{name} is a tensor on the device 'meta', without any data.")
    if _is_tensor(values) and values.layout != _torch().strided:
        raise TypeError(
            f"{name} is a sparse tensor ({values.layout}): call its to_dense()."
        )
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError(
            f"{name} is a masked array with {np.ma.count_masked(values)} masked "
            "entries: fill them in by its filled(...), or leave their rows out."
        )


def on_host(values: Any, name: str = "X") -> Any:
    """Return tensors as arrays, and anything else as it is.

    Parameters
    ----------
    values : object
        A tensor of any device and type, with or without a gradient, a list of such,
        or anything else.
    name : str, default="X"
        For the errors.

    Returns
    -------
    object
        A tensor's values as an ndarray, which shares memory where it can; types that
        NumPy does not have (bfloat16) become float32.

    Raises
    ------
    TypeError, ValueError
        As :func:`check_readable`.
    """
    check_readable(values, name)
    if isinstance(values, (list, tuple)) and len(values) and _is_tensor(values[0]):
        return [on_host(value, name) for value in values]
    if not _is_tensor(values):
        return values
    tensor = values.detach().cpu().resolve_conj().resolve_neg()
    if tensor.is_floating_point() and not _has_numpy_type(tensor):
        tensor = tensor.float()
    return tensor.numpy()


def as_array(
    values: Any, name: str = "X", dtype: DTypeLike | None = None
) -> NDArray[Any]:
    """Return tensors, frames, columns and nested lists as one array.

    Parameters
    ----------
    values : array-like, tensor, DataFrame or Series
        Of pandas (with nullable types too), polars, pyarrow, torch or NumPy.
    name : str, default="X"
        For the errors.
    dtype : dtype, optional
        The type wanted; by default the one it has.

    Returns
    -------
    ndarray
        Not a copy where none is needed.

    Raises
    ------
    TypeError, ValueError
        As :func:`check_readable`, and for a sparse matrix, columns of dates and a list
        whose rows differ in length.

    Examples
    --------
    >>> import pandas as pd
    >>> from skood.numerics.arrays import as_array
    >>> as_array(pd.DataFrame({"a": [1, 2], "b": [True, False]}, dtype="object")).dtype
    dtype('O')
    >>> as_array(pd.DataFrame({"a": [1, None]}, dtype="Int64"))
    array([[ 1.],
           [nan]])
    """
    if type(values) is np.ndarray and dtype is None:
        return values
    if issparse(values):
        raise TypeError(
            f"{name} is a sparse {type(values).__name__}: call its toarray()."
        )
    values = on_host(values, name)
    _check_no_dates(values, name)
    if dtype is None and hasattr(values, "iloc") and values.ndim == 2:
        return _of_frame(values)
    try:
        return np.asarray(values, dtype=dtype)
    except ValueError as error:
        raise _ragged(values, name) or error from error


def is_missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which entries are NaN, None or a frame library's own missing value."""
    if values.dtype.kind in "fc":
        return np.isnan(values)
    if values.dtype != object:
        return np.zeros(values.shape, dtype=bool)
    import pandas as pd

    return np.asarray(pd.isna(cast(Any, values)), dtype=bool)


def validated_table(estimator: Any, X: Any, **options: Any) -> NDArray[Any]:
    """Return X as ``sklearn.utils.validation.validate_data`` does.

    Parameters
    ----------
    estimator : estimator
        Its ``n_features_in_`` and ``feature_names_in_`` are set or compared.
    X : array-like, tensor or DataFrame of shape (n, d)
        The rows.
    **options : dict
        Of ``validate_data``.

    Returns
    -------
    ndarray of shape (n, d)

    Raises
    ------
    ValueError
        If X is not a table of finite numbers with the columns of ``fit``; columns of
        texts or dates are named.
    TypeError
        If X cannot be read, as :func:`check_readable` says.
    """
    X = on_host(X)
    _check_no_dates(X)
    try:
        return cast(NDArray[Any], validate_data(estimator, X, **options))
    except (TypeError, ValueError) as error:
        ragged = _ragged(X, "X")
        if ragged is not None:
            raise ragged from error
        unread = "; ".join(unread_columns(X))
        if not unread or "feature names" in str(error):
            raise
        raise _not_numbers("X", unread) from error


def unread_columns(X: Any) -> Iterator[str]:
    """Yield the columns of a pandas or polars frame that are no numbers, with types."""
    for number, (name, kind) in enumerate(_columns_of(X)):
        column = np.asarray(X.iloc[:, number] if hasattr(X, "iloc") else X[name])
        try:
            readable = column.ndim == 1 and not _is_of_time(kind)
            column.astype(np.float64)
        except (TypeError, ValueError):
            readable = False
        if not readable:
            yield f"{name!r} ({kind})"


def _ragged(values: Any, name: str) -> ValueError | None:
    """Return the error of a list whose rows differ in length, or None."""
    if not isinstance(values, (list, tuple)):
        return None
    lengths = [len(row) if hasattr(row, "__len__") else None for row in values]
    for row, length in enumerate(lengths):
        if length != lengths[0]:
            return ValueError(
                f"{name} is a ragged list: row 0 {_size(lengths[0])}, but row {row} "
                f"{_size(length)}. Give rows of one length."
            )
    return None


def _size(length: int | None) -> str:
    return "is a number" if length is None else f"has length {length}"


def _check_no_dates(X: Any, name: str = "X") -> None:
    """Raise ValueError for columns that polars, or NumPy, would make numbers of."""
    dates = [
        f"{label!r} ({kind})" for label, kind in _columns_of(X) if _is_of_time(kind)
    ]
    if dates:
        raise _not_numbers(name, "; ".join(dates))


def _not_numbers(name: str, columns: str) -> ValueError:
    return ValueError(
        f"{name} has columns that are not numbers: {columns}. Leave them out or encode "
        "them (sklearn.preprocessing.OneHotEncoder)."
    )


def _columns_of(X: Any) -> list[tuple[Any, Any]]:
    if not (hasattr(X, "columns") and hasattr(X, "dtypes")):
        return []
    return list(zip(X.columns, X.dtypes, strict=True))


def _is_of_time(kind: Any) -> bool:
    if hasattr(kind, "is_temporal"):  # polars
        return bool(kind.is_temporal())
    return getattr(kind, "kind", "O") in "mM"


def _of_frame(frame: Any) -> NDArray[Any]:
    """Return a pandas frame as an array, of numbers if every column is of numbers."""
    array = np.asarray(frame)
    if array.dtype != object or array.shape[1] == 0:
        return array
    columns = [_of_column(frame.iloc[:, number]) for number in range(array.shape[1])]
    if any(column.dtype.kind not in "biuf" for column in columns):
        return array
    return np.column_stack(columns)


def _of_column(column: Any) -> NDArray[Any]:
    array = np.asarray(column)
    # pandas 2 gives nullable columns with missing values as objects
    if array.dtype == object and getattr(column.dtype, "kind", "O") in "biuf":
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    return array


def _torch() -> Any:
    return sys.modules["torch"]


def _is_tensor(values: Any) -> bool:
    return "torch" in sys.modules and isinstance(values, _torch().Tensor)


def _has_numpy_type(tensor: Any) -> bool:
    torch = _torch()
    return tensor.dtype in (torch.float16, torch.float32, torch.float64)
