"""Files of arrays whose header bears its own digest, written piece by piece.

The layout is safetensors'. The library neither digests a header, so that it can be
read before all of the file is, nor writes to a file that is open, nor says the digest
of what it writes, by which shards are named.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from skood.files.digest import digest_of
from skood.files.tensors import DTYPES, DamagedFileError, Entry, Header

__all__ = ["file_parts", "read_header"]

ALIGNMENT = 64
CHECK = "header_digest"
LONGEST_HEADER = 1 << 26
"""Bytes; a file that says more is none of ours, however large it is."""

_UNREADABLE = (
    *(ValueError, KeyError, TypeError, AttributeError),
    *(ArithmeticError, RecursionError, MemoryError),
)
"""What comes of reading a text that somebody else has written."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


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
            "dtype": _NAMES[array.dtype],
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
    return digest_of(json.dumps(layout).encode())[:32]


def _entry(about: Mapping[str, Any], origin: int) -> Entry:
    first, last = about["data_offsets"]
    shape = tuple(int(length) for length in about["shape"])
    entry = Entry(DTYPES[about["dtype"]], shape, origin + int(first))
    if min(shape, default=0) < 0 or entry.start < origin or entry.stop != origin + last:
        raise ValueError(f"{about} does not fit")
    return entry
