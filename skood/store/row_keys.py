"""Keys of inputs: a digest of what an input is, so that the same one is known again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray

from skood.store.index import Keys, stacked

__all__ = ["numbered_keys", "row_keys"]

KEY_BYTES = 16

GIL_BYTES = 1 << 14
"""From about here on, hashing in threads gains more than it costs."""

THREADED_BYTES = 1 << 22

Update = Callable[[Any], None]


def row_keys(part: Any) -> Keys:
    """Return a key for each row of some inputs.

    Parameters
    ----------
    part : array, tensor, DataFrame or list
        Arrays are told apart by type, shape and bytes; rows of frames by columns, types
        of columns and values; texts by their letters; paths
        (``os.PathLike``) by name, size and time of change; images, tuples, lists and
        mappings by what they hold. An object that has a ``cache_key`` is what that
        says.

    Returns
    -------
    ndarray of uint8, shape (n, 16)

    Raises
    ------
    TypeError
        If an input is of a kind whose content cannot be read.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.store.row_keys import row_keys
    >>> keys = row_keys(np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0]]))
    >>> bool((keys[0] == keys[1]).all()), bool((keys[0] == keys[2]).all())
    (True, False)
    """
    if hasattr(part, "iloc") or hasattr(part, "iter_rows"):
        return _frame_keys(part)
    if hasattr(part, "detach"):
        return _array_keys(f"tensor {part.dtype}", _numpy(part))
    if isinstance(part, np.ndarray) and not part.dtype.hasobject:
        return _array_keys(f"array {part.dtype.str}", part)
    return stacked(map(_item_key, part))


def numbered_keys(keys: Keys, numbers: NDArray[np.intp]) -> Keys:
    """Return keys of inputs together with their numbers in a data set."""
    pairs = zip(keys, numbers.astype(np.int64), strict=True)
    digests = (hashlib.sha256(key.tobytes() + n.tobytes()) for key, n in pairs)
    return stacked(digest.digest()[:KEY_BYTES] for digest in digests)


def _array_keys(kind: str, rows: Any) -> Keys:
    prefix = hashlib.sha256(f"{kind} {rows.shape[1:]}".encode())
    rows = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)

    def key(row: Any) -> bytes:
        state = prefix.copy()
        state.update(row)
        return state.digest()[:KEY_BYTES]

    if rows.nbytes < THREADED_BYTES or rows.shape[1] < GIL_BYTES:
        return stacked(map(key, rows))
    with ThreadPoolExecutor(effective_n_jobs(-1)) as threads:
        return stacked(threads.map(key, rows))


def _frame_keys(frame: Any) -> Keys:
    if len(frame.shape) == 1:
        return row_keys(frame.tolist())
    columns = str([*map(str, frame.columns), *map(str, frame.dtypes)])
    # Frames of polars have iter_rows.
    is_pandas = hasattr(frame, "itertuples")
    rows = frame.itertuples(index=False) if is_pandas else frame.iter_rows()
    return stacked(_item_key((columns, *row)) for row in rows)


def _item_key(item: Any) -> bytes:
    state = hashlib.sha256()
    _feed(item, state.update)
    return state.digest()[:KEY_BYTES]


def _feed(item: Any, update: Update) -> None:
    """Put an item's content into a digest; lengths and types keep the parts apart."""
    if hasattr(item, "cache_key"):
        return _feed(("cache_key", str(item.cache_key)), update)
    for kinds, feed in _FEEDS:
        if isinstance(item, kinds):
            return feed(item, update)
    if hasattr(item, "detach"):
        return _feed_array(f"tensor {item.dtype}", _numpy(item), update)
    if hasattr(item, "tobytes") and hasattr(item, "mode"):
        content = (item.mode, item.size, item.tobytes(), item.getpalette())
        return _feed(("image", *content), update)
    raise TypeError(
        f"an input of type {type(item).__name__} cannot be told apart from others by "
        "its content, as a cache must: give arrays, tensors, images, texts or paths, "
        "or give each input an attribute cache_key, a text that says what it is."
    )


def _feed_scalar(item: Any, update: Update) -> None:
    _feed_bytes(
        repr(item).encode("utf-8", "surrogatepass"), type(item).__name__, update
    )


def _feed_bytes(data: Any, kind: str, update: Update) -> None:
    update(f"{kind} {len(data)}:".encode())
    update(data)


def _feed_numpy(item: Any, update: Update) -> None:
    array = np.asarray(item)
    if array.dtype.hasobject:
        return _feed(("objects", array.shape, array.ravel().tolist()), update)
    return _feed_array(f"array {array.dtype.str}", array, update)


def _feed_array(kind: str, array: Any, update: Update) -> None:
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    _feed_bytes(flat, f"{kind} {array.shape}", update)


def _feed_sequence(items: Any, update: Update) -> None:
    update(f"{type(items).__name__} {len(items)}(".encode())
    for item in items:
        _feed(item, update)


def _feed_mapping(items: Mapping[Any, Any], update: Update) -> None:
    update(f"mapping {len(items)}(".encode())
    for name, value in items.items():
        _feed(name, update)
        _feed(value, update)


def _feed_path(item: os.PathLike[Any], update: Update) -> None:
    about = os.stat(item)
    _feed(("path", os.fspath(item), about.st_size, about.st_mtime_ns), update)


_FEEDS: tuple[tuple[Any, Callable[[Any, Update], None]], ...] = (
    ((bool, int, float, complex, str, type(None)), _feed_scalar),
    ((bytes, bytearray), lambda item, update: _feed_bytes(item, "bytes", update)),
    ((np.ndarray, np.generic), _feed_numpy),
    ((tuple, list), _feed_sequence),
    (Mapping, _feed_mapping),
    (os.PathLike, _feed_path),
)


def _numpy(tensor: Any) -> Any:
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    if tensor.element_size() == 2 and tensor.is_floating_point():
        return tensor.view(dtype=_int16()).numpy()  # NumPy has no bfloat16
    return tensor.numpy()


def _int16() -> Any:
    import torch

    return torch.int16
