"""A shard: a file written once, named by its content, and checked when read."""

from __future__ import annotations

import errno
import os
import stat
import time
import warnings
from collections import OrderedDict
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from threading import RLock
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from skood.files import digest
from skood.files.sealed import read_header
from skood.files.tensors import Header

__all__ = [
    "CREATED",
    "KEYS_DIGEST",
    "LISTING",
    "MERGED",
    "QUARANTINE",
    "DamagedShardError",
    "Shard",
    "digest_of",
    "ignored",
    "is_sound",
    "reader",
    "set_aside",
]

Stamp = tuple[int, int, int]

CREATED = "created"
"""What the time of writing is called in a shard's text."""

MERGED = "merged"
"""What the shards that one was made of are called in its text."""

LISTING = "rows-"
"""The names of shards begin with it that list the rows of a data set."""

QUARANTINE = "quarantine"
"""The folder of what was set aside."""

KEYS_DIGEST = "keys_digest"
"""What the digest of a shard's keys is called in its text."""


class DamagedShardError(ValueError):
    """A shard's bytes are not those that were written; it has been set aside."""


class Shard:
    """One immutable file of rows.

    Its name ends in the SHA-256 digest of its bytes, cut to 128 bits. The digest is
    compared when a process first reads the file, and again if the file changes.
    It pickles as path and header.

    Parameters
    ----------
    path : Path
        The file.
    header : Header
        What it holds.
    """

    pickles_as_path = True

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = path, header

    @property
    def name(self) -> str:
        """What it is called: what it was given, and the digest of its bytes."""
        return self.path.stem

    @property
    def created(self) -> int:
        """When it was written, in nanoseconds: a copy of the file keeps that."""
        return int(self.metadata.get(CREATED, "0"))

    @property
    def metadata(self) -> dict[str, str]:
        """The text that came with the arrays."""
        return self.header.metadata

    @property
    def nbytes(self) -> int:
        """Bytes of the whole file."""
        return self.header.size

    @property
    def exists(self) -> bool:
        """Whether it is still there."""
        return self.path.exists()

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array without reading it."""
        return self.header.entries[name].shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """Return the type of an array without reading it."""
        return self.header.entries[name].dtype

    def verify(self) -> None:
        """Compare the file with its name, unless this process has done so.

        Raises
        ------
        DamagedShardError
            If they differ; the shard is then set aside.
        FileNotFoundError
            If there is no such file.
        """
        reader.data(self)

    def array(self, name: str) -> NDArray[Any]:
        """Return an array of the file: a read-only view of a memory map.

        Raises
        ------
        DamagedShardError
            If the file is not what was written; it is then set aside.
        FileNotFoundError
            If there is no such file.
        """
        return self.header.entries[name].within(reader.data(self))

    def keys(self) -> NDArray[np.uint8]:
        """Return the keys of its rows, compared with a digest of their own.

        That makes an index of many shards without reading all of each.

        Raises
        ------
        DamagedShardError
            If they are not what was written; the shard is then set aside.
        FileNotFoundError
            If there is no such file.
        """
        entry = self.header.entries["keys"]
        _checked_stamp(self)
        # A map, so that keys which are not those that were written, however many
        # there seem to be, never come into memory together.
        data = np.asarray(np.memmap(self.path, dtype=np.uint8, mode="r"))
        keys = entry.within(data)
        if digest_of([keys.reshape(-1).data]) != self.metadata.get(KEYS_DIGEST):
            raise set_aside(self.path, "its keys have changed")
        return np.array(keys)


class Reader:
    """The files that this process has found good, and maps of those it read last."""

    KEPT = 4

    def __init__(self) -> None:
        self._lock = RLock()
        self._good: dict[Path, Stamp] = {}
        self._maps: OrderedDict[Path, NDArray[np.uint8]] = OrderedDict()

    def data(self, shard: Shard) -> NDArray[np.uint8]:
        """Return the bytes of a shard, once they have been found good."""
        with self._lock:
            stamp = _checked_stamp(shard)
            if self._good.get(shard.path) != stamp:
                self.forget(shard.path)
            if shard.path not in self._maps:
                self._maps[shard.path] = self._mapped(shard, stamp)
            while len(self._maps) > self.KEPT:
                self._maps.popitem(last=False)
            self._maps.move_to_end(shard.path)
            return self._maps[shard.path]

    def _mapped(self, shard: Shard, stamp: Stamp) -> NDArray[np.uint8]:
        # As a plain array: what np.memmap adds to each view costs time.
        data = np.asarray(np.memmap(shard.path, dtype=np.uint8, mode="r"))
        if self._good.get(shard.path) != stamp:
            is_named = shard.name.endswith(digest_of([data.data]))
            if not is_named or _header(data) != shard.header:
                raise set_aside(shard.path, "its bytes have changed")
            self._good[shard.path] = stamp
            mark_used(shard.path)
        return data

    def trust(self, path: Path) -> None:
        """Take a file that this process has just written for good."""
        with self._lock, suppress(FileNotFoundError):
            self._good[path] = _stamp_of(path)

    def forget(self, path: Path) -> None:
        """Forget what is known about a file."""
        with self._lock:
            self._good.pop(path, None)
            self._maps.pop(path, None)


reader = Reader()

ignored: set[Path] = set()
"""Damaged files that could not be moved."""


def is_sound(shard: Shard) -> bool:
    """Return whether a shard is there and whole.

    Warns
    -----
    UserWarning
        If it is damaged; it is named and set aside.
    """
    try:
        shard.verify()
    except FileNotFoundError:
        return False
    except DamagedShardError as error:
        warnings.warn(str(error), UserWarning, stacklevel=3)
        return False
    return True


def digest_of(parts: list[memoryview]) -> str:
    """Return the digest of some bytes, as it is part of a name."""
    return digest.digest_of(*parts)[:32]


def _header(data: NDArray[np.uint8]) -> Header:
    length = int.from_bytes(data[:8].tobytes(), "little")
    return read_header(BytesIO(data[: 8 + length].tobytes()), len(data))


def _checked_stamp(shard: Shard) -> Stamp:
    """Return what tells a change of a file, which is one still, and of its size."""
    path = shard.path
    try:
        about = path.stat()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise set_aside(path, "it is a link to itself") from error
    if not stat.S_ISREG(about.st_mode):
        raise set_aside(path, "it is no file")  # opening a FIFO would wait
    if about.st_size != shard.nbytes:
        raise set_aside(path, f"{about.st_size} bytes of {shard.nbytes}")
    return _stamp(about)


def _stamp_of(path: Path) -> Stamp:
    return _stamp(path.stat())


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_ino, found.st_size, found.st_mtime_ns


def mark_used(path: Path) -> None:
    """Note that a file is in use."""
    # The time of the last reading, which the system itself keeps only now and then.
    with suppress(OSError):
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def set_aside(path: Path, why: str) -> DamagedShardError:
    """Move a damaged file out of reach, and return the error that says so.

    Where it cannot be moved this process looks at it no more.
    """
    folder = path.parent.parent / QUARANTINE
    target = folder / path.name
    if os.path.lexists(target):
        target = folder / f"{path.stem}-{uuid4().hex[:8]}{path.suffix}"
    reader.forget(path)
    try:
        folder.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # another process was first
            os.replace(path, target)
            os.utime(target)  # when it was set aside
        done = f"It is set aside as {target.parent.name}/{target.name}"
    except OSError as error:
        ignored.add(path)
        done = f"It cannot be set aside ({error}) and is ignored"
    lost = "its rows count as missing, and extracting again computes them"
    if path.name.startswith(LISTING):
        lost = (
            "it lists the rows of a data set in their order, with labels: write them "
            "again by extract_to"
        )
    return DamagedShardError(
        f"shard {path.name} of the feature store {path.parent.parent} is damaged "
        f"({why}). {done}; {lost}."
    )
