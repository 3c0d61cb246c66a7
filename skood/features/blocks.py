"""One block of features: what it may be, and how its rows are chosen and read."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from skood.features.names import Key
from skood.numerics.arrays import as_array, check_readable, unread_columns

__all__ = ["Rows", "block_rows", "checked_block", "row_key"]

Rows: TypeAlias = range | NDArray[np.intp]


def checked_block(key: Key, block: Any) -> Any:
    """Return a block as an array, which may still be read when rows are wanted.

    Raises
    ------
    ValueError
        If it is not two-dimensional, has no columns or is not of real numbers.
    TypeError
        If it cannot be read: a sparse matrix, a LazyFrame.
    """
    if type(block) is np.ndarray and _is_block(block):
        return block
    name = f"block {'/'.join(key)}"
    given = block
    check_readable(block, name)
    if not _is_array(block):
        block = as_array(block, name)
    if block.dtype.kind not in "biuf":
        unread = "; ".join(unread_columns(given)) or f"entries of type {block.dtype}"
        raise ValueError(f"{name} has {unread}: a block holds real numbers.")
    if len(block.shape) != 2:
        raise ValueError(f"{name} has shape {tuple(block.shape)}: a block is (n, d).")
    if block.shape[1] == 0:
        raise ValueError(
            f"{name} has 0 columns (shape {tuple(block.shape)}): a block has at least "
            "one. Leave the layer out, or look at how its columns were chosen."
        )
    return block


def _is_block(array: NDArray[Any]) -> bool:
    return array.ndim == 2 and array.shape[1] > 0 and array.dtype.kind in "biuf"


def _is_array(block: Any) -> bool:
    """Return whether it is an array, perhaps one that is read when rows are wanted."""
    is_other = hasattr(block, "detach") or issparse(block)
    has_type = isinstance(getattr(block, "dtype", None), np.dtype)
    return hasattr(block, "shape") and has_type and not is_other


def block_rows(block: Any, rows: Rows) -> NDArray[Any]:
    """Return some rows as an array; not a copy of all of them, or of a slice."""
    if isinstance(rows, range):
        if rows == range(len(block)):
            return _native(block)
        if rows.step > 0:
            return _native(block[rows.start : rows.stop : rows.step])
    return _native(block[np.asarray(rows, dtype=np.intp)])


def _native(block: Any) -> NDArray[Any]:
    """Return an array whose bytes are in the machine's order, as torch wants them."""
    array: NDArray[Any] = np.asarray(block)
    kind = array.dtype
    return array if kind.isnative else array.astype(kind.newbyteorder("="))


def row_key(key: Any) -> int | slice | NDArray[Any]:
    """Return what an index chooses rows by: one number, a slice, numbers or a mask.

    Raises
    ------
    TypeError, IndexError
        If it is a name, chooses columns, or is of no such kind.
    """
    if isinstance(key, tuple):
        key = _row_part(key)
    if getattr(key, "ndim", None) == 0:
        key = key.item()
    if isinstance(key, str):
        raise TypeError(
            f"features[{key!r}]: indexing is by row; use features.block({key!r}) "
            f"or features.select({key!r})."
        )
    return key if isinstance(key, (int, slice)) else _as_index(key)


def _row_part(key: tuple[Any, ...]) -> Any:
    """Return the rows of ``[rows, ...]`` and ``[rows, :]``."""
    rest = [part for part in key[1:] if not (part is ... or part == slice(None))]
    if not key or rest:
        raise IndexError(
            f"features[{key!r}]: LayerFeatures are indexed by row; choose columns by "
            "features.select(...), or index np.asarray(features)."
        )
    return key[0]


def _as_index(key: Any) -> NDArray[Any]:
    index = as_array(key, "the index")
    if index.size == 0 and index.dtype != bool:
        return index.astype(np.intp)
    if index.dtype.kind not in "iub" or index.ndim != 1:
        raise IndexError(
            f"rows are chosen by integers, a slice or a mask, not {type(key).__name__} "
            f"of {index.dtype} with {index.ndim} dimensions."
        )
    return index
