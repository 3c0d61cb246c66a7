"""Rows that lie on disk, as an array that networks are trained on batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from skood.features import LayerFeatures

__all__ = ["StoredRows", "rows_where"]


class StoredRows:
    """The blocks of features joined to one matrix, of which asked-for rows are read.

    Parameters
    ----------
    features : LayerFeatures of n rows
        In a store, say.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import LayerFeatures
    >>> from skood.neural.stored_rows import StoredRows
    >>> rows = StoredRows(LayerFeatures({"a": np.eye(3), "b": np.ones((3, 1))}))
    >>> rows[1:]
    array([[0., 1., 0., 1.],
           [0., 0., 1., 1.]])
    """

    ndim = 2

    def __init__(self, features: LayerFeatures) -> None:
        self.features = features

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.features.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the entries: float32 or float64."""
        found = self.features.dtype
        if found in (np.float32, np.float64):
            return found
        return np.dtype(np.float32 if found.itemsize < 4 else np.float64)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return np.asarray(self.features[key]).astype(self.dtype, copy=False)

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        return np.array(self[:], dtype=dtype, copy=copy)


def rows_where(rows: Any, mask: NDArray[np.bool_]) -> Any:
    """Return some of the rows; those on disk stay there.

    Parameters
    ----------
    rows : ndarray or StoredRows of n rows
        The rows.
    mask : ndarray of bool, shape (n,)
        Which of them.

    Returns
    -------
    ndarray or StoredRows
    """
    if mask.all():
        return rows
    if isinstance(rows, StoredRows):
        return StoredRows(rows.features[mask])
    return rows[mask]
