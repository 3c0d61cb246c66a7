"""Texts in whatever they come, as an array of objects, and back again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.numerics.arrays import as_array

__all__ = ["appended_texts", "text_values"]

Texts = NDArray[np.object_]


def text_values(X: Any) -> Texts | None:
    """Return the texts of a list, an array or a column, or None if X holds none.

    Raises
    ------
    TypeError
        If X is one text.
    ValueError
        If an entry beside texts is none, or all are bytes.
    """
    if isinstance(X, (str, bytes)):
        raise TypeError(f"X is one text, {X!r:.60}: give a list of texts.")
    if isinstance(X, (list, tuple)):
        if not any(isinstance(entry, (str, bytes)) for entry in X):
            return None
        values = np.empty(len(X), dtype=object)
        values[:] = X
    else:
        array = as_array(X)
        if array.ndim != 1 or array.dtype.kind not in "OSTU":
            return None
        values = array.astype(object)
    kinds = np.array([isinstance(entry, str) for entry in values], dtype=bool)
    bytes_there = any(isinstance(entry, bytes) for entry in values)
    if not kinds.all() and (kinds.any() or bytes_there):
        row = int(kinds.argmin())
        raise ValueError(
            f"X has texts, but row {row} is {values[row]!r:.60}: give a text for each "
            "row (bytes by their decode(), '' for a missing one), or leave it out."
        )
    return values if len(values) and kinds.all() else None


def appended_texts(X: Any, texts: Texts) -> Any:
    """Return the texts of X and then others: a list, an array or a column, as X is.

    The names of a categorical column have no room for others: it becomes one of texts.
    """
    if isinstance(X, (list, tuple)):
        return [*X, *texts]
    if hasattr(X, "iloc"):
        import pandas as pd

        if str(X.dtype) == "category":
            X = X.astype(X.cat.categories.dtype)
        added = pd.Series(texts, dtype=X.dtype, name=X.name)
        return pd.concat([X, added], ignore_index=True)
    if hasattr(X, "to_physical"):  # polars
        import polars as pl

        added = pl.Series(X.name, texts.tolist(), dtype=pl.String)
        return pl.concat([X.cast(pl.String), added])
    values = as_array(X)
    kind = "U" if values.dtype.kind == "U" else values.dtype
    return np.concatenate([values, texts.astype(kind)])
