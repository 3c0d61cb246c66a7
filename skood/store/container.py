"""The file of a shard: named arrays and a little text, in the safetensors layout.

Eight bytes with the length of a JSON header, the header, then the arrays one after
another. Nothing in it is executed, and every array is where a memory map can use it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["DamagedFileError", "Header", "file_parts", "read_header"]

ALIGNMENT = 64
CHECK = "header_digest"
LONGEST_HEADER = 1 << 26
"""Bytes; a file that says more is none of ours, however large it is."""

_UNREADABLE = (
    *(ValueError, KeyError, TypeError, AttributeError),
    *(ArithmeticError, RecursionError, MemoryError),
)
"""What comes of reading a text that somebody else has written."""

_NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "int64": "I64",
    "uint8": "U8",
}
_DTYPES = {name: np.dtype(dtype) for dtype, name in _NAMES.items()}


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


def file_parts(
    arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> Iterator[memoryview]:
    """Yield the bytes of a file, piece by piece and without copying the arrays.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        None of them empty; of float16, float32, float64, int64 or uint8.
    metadata : mapping of str to str
        Text to keep with them.

    Yields
    ------
    memoryview
        To be written one after another.
    """
    # Wide numbers first, so that each array begins at a multiple of its item.
    ordered = sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize)
    layout: dict[str, Any] = {"__metadata__": dict(metadata)}
    start = 0
    for name, array in ordered:
        offsets = [start, start + array.nbytes]
        layout[name] = {
            "dtype": _NAMES[array.dtype.name],
            "shape": array.shape,
            "data_offsets": offsets,
        }
        start = offsets[1]
    layout["__metadata__"][CHECK] = _digest_of(layout)
    text = json.dumps(layout).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    yield memoryview(len(text).to_bytes(8, "little") + text)
    for _, array in ordered:
        yield np.ascontiguousarray(array).data.cast("B")


def read_header(file: BinaryIO, size: int) -> Header:
    """Return what an open file holds.

    Parameters
    ----------
    file : binary file
        At its beginning.
    size : int
        Its size in bytes.

    Returns
    -------
    Header

    Raises
    ------
    DamagedFileError
        If that is no such file, or its size is not the one it should have.
    """
    length = int.from_bytes(file.read(8), "little")
    if not 0 < length <= min(size - 8, LONGEST_HEADER):
        raise DamagedFileError(f"its header should have {length} bytes")
    try:
        layout = json.loads(file.read(length))
        is_whole = layout["__metadata__"].pop(CHECK) == _digest_of(layout)
        metadata = {str(k): str(v) for k, v in layout.pop("__metadata__").items()}
        entries = {
            str(name): _entry(about, 8 + length) for name, about in layout.items()
        }
    except _UNREADABLE as error:
        raise DamagedFileError("its header cannot be read") from error
    if not is_whole:
        raise DamagedFileError("its header is not the one that was written")
    expected = max((entry.stop for entry in entries.values()), default=8 + length)
    if expected != size:
        raise DamagedFileError(f"it has {size} bytes and should have {expected}")
    return Header(metadata, entries, size)


def _digest_of(layout: Mapping[str, Any]) -> str:
    """Return the digest of a header; it is read before the file's own is verified."""
    return hashlib.sha256(json.dumps(layout).encode()).hexdigest()[:32]


def _entry(about: Mapping[str, Any], origin: int) -> Entry:
    first, last = about["data_offsets"]
    shape = tuple(int(length) for length in about["shape"])
    entry = Entry(_DTYPES[about["dtype"]], shape, origin + int(first))
    if min(shape, default=0) < 0 or entry.start < origin or entry.stop != origin + last:
        raise ValueError(f"{about} does not fit")
    return entry
