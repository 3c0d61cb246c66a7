"""Frames of pandas and polars as values to make outliers from, and back again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.numerics.arrays import as_array, is_missing

Values = NDArray[Any]


def is_frame(X: Any) -> bool:
    """Return whether X is a DataFrame of pandas or polars."""
    return _is_pandas(X) or hasattr(X, "with_columns")


def frame_values(X: Any) -> Values:
    """Return a frame as an array: of objects, unless all columns are of numbers."""
    values = as_array(X)
    # The numbers of a categorical column are names, and not to be reckoned with.
    if _is_pandas(X) and any(str(kind) == "category" for kind in X.dtypes):
        return values.astype(object)
    return values


def appended_frame(X: Any, values: Values) -> Any:
    """Return a frame with more rows, whose columns keep their types.

    Parameters
    ----------
    X : DataFrame of shape (n, d)
        Of pandas or polars.
    values : ndarray of shape (m, d)
        The rows to add. In columns of integers they are rounded and kept in range.

    Returns
    -------
    DataFrame of shape (n + m, d)
    """
    return _appended_pandas(X, values) if _is_pandas(X) else _appended_polars(X, values)


def _appended_pandas(X: Any, values: Values) -> Any:
    import pandas as pd

    columns = [
        pd.Series(_in_range(values[:, number], kind)).astype(kind)
        for number, kind in enumerate(X.dtypes)
    ]
    added = pd.concat(columns, axis=1).set_axis(X.columns, axis=1)
    return pd.concat([X, added], ignore_index=True)


def _appended_polars(X: Any, values: Values) -> Any:
    import polars as pl

    columns = []
    for number, (name, kind) in enumerate(X.schema.items()):
        column = _in_range(
            values[:, number], pl.Series([], dtype=kind).to_numpy().dtype
        )
        entries = column.tolist()
        if X[name].null_count():  # as an array a missing number is NaN
            gaps = is_missing(column).tolist()
            entries = [None if g else e for e, g in zip(entries, gaps, strict=True)]
        columns.append(pl.Series(name, entries, dtype=kind, strict=False))
    return pl.concat([X, pl.DataFrame(columns)])


def _in_range(values: Values, kind: Any) -> Values:
    """Return numbers for a column of some type: whole ones where it has such."""
    kind = getattr(kind, "numpy_dtype", kind)
    if getattr(kind, "kind", "O") not in "iu" or values.dtype.kind != "f":
        return values
    bounds = np.iinfo(kind)
    return np.clip(np.rint(values), bounds.min, bounds.max)


def _is_pandas(X: Any) -> bool:
    return hasattr(X, "iloc") and hasattr(X, "columns")
