"""Files of named arrays in the safetensors layout, read as memory maps.

The library writes and checks them; it has no way to map an array of NumPy, so that
where each one lies is read from the header here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

__all__ = ["DTYPES", "DamagedFileError", "Entry", "Header", "read_header", "write"]

DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16),
    "F16": np.dtype(np.float16),
    "U32": np.dtype(np.uint32),
    "I32": np.dtype(np.int32),
    "F32": np.dtype(np.float32),
    "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64),
    "F64": np.dtype(np.float64),
}
"""NumPy's types among those that the layout knows."""


class DamagedFileError(ValueError):
    """A file is not whole, or not what its name says it is."""


@dataclass(frozen=True)
class Entry:
    """Where an array is in a file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int

    @property
    def stop(self) -> int:
        """The first byte after it."""
        return self.start + self.dtype.itemsize * prod(self.shape)

    def within(self, data: NDArray[np.uint8]) -> NDArray[Any]:
        """Return the array as a view of the file's bytes."""
        return data[self.start : self.stop].view(self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class Header:
    """What a file holds.

    Parameters
    ----------
    metadata : dict of str to str
        The text that came with the arrays.
    entries : dict of str to Entry
        The arrays' places.
    size : int
        Bytes of the whole file.
    """

    metadata: dict[str, str]
    entries: dict[str, Entry]
    size: int


def write(
    path: Path,
    arrays: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a file of arrays; they are not copied.

    Parameters
    ----------
    path : Path
        The file; it is not waited for until it is on the disk.
    arrays : mapping of str to ndarray
        In C order, of the types in ``DTYPES``.
    metadata : mapping of str to str, optional
        Text to keep with them.
    """
    save_file(dict(arrays), path, metadata=None if metadata is None else {**metadata})


def read_header(path: Path) -> Header:
    """Return what a file holds.

    Raises
    ------
    DamagedFileError
        If it is no such file, or its arrays do not fill it one after another.
    """
    try:
        with safe_open(path, "numpy") as checked, path.open("rb") as file:
            metadata, names = checked.metadata() or {}, checked.keys()
            length = int.from_bytes(file.read(8), "little")
            layout = json.loads(file.read(length))
            size = file.seek(0, 2)
        entries = {name: _entry(layout[name], 8 + length) for name in names}
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedFileError(f"its header cannot be read: {error}") from error
    return Header(metadata, entries, size)


def _entry(about: Mapping[str, Any], origin: int) -> Entry:
    start = origin + about["data_offsets"][0]
    return Entry(DTYPES[about["dtype"]], tuple(about["shape"]), start)
