"""The shards of one folder: found, added, removed."""

from __future__ import annotations

import errno
import json
import os
import stat
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from skood.files.atomic import UNFINISHED, replacing
from skood.files.sealed import file_parts, read_header
from skood.files.tensors import DamagedFileError
from skood.store.shard import (
    MERGED,
    QUARANTINE,
    Shard,
    digest_of,
    ignored,
    is_sound,
    mark_used,
    reader,
    set_aside,
)

__all__ = ["ShardFolder", "where_merged"]

SUFFIX = ".safetensors"
ABANDONED_AFTER = 3600.0
"""Seconds after which an unfinished file belongs to nobody any more."""


class ShardFolder:
    """The shards of one folder.

    Parameters
    ----------
    path : Path
        The folder; it is made when the first shard is added.
    prefix : str, default=""
        How the names of shards begin that are looked for, beside those that were there
        at first. Without one all are.
    """

    def __init__(self, path: Path, prefix: str = "") -> None:
        self.path, self.prefix = path, prefix
        self._before = self._all_names() if prefix else set()

    def names(self) -> set[str]:
        """Return the names of the shards that are there."""
        names = self._all_names()
        own = {name for name in names if name.startswith(self.prefix)}
        return own | (names & self._before)

    def _all_names(self) -> set[str]:
        with suppress(FileNotFoundError), os.scandir(self.path) as entries:
            names = {e.name for e in entries if e.name.endswith(SUFFIX)}
            names -= {path.name for path in ignored if path.parent == self.path}
            return {name[: -len(SUFFIX)] for name in names}
        return set()

    def lost(self, prefix: str = "") -> list[tuple[str, int]]:
        """Return the shards that were set aside, the last one first.

        Parameters
        ----------
        prefix : str, default=""
            What their names begin with.

        Returns
        -------
        list of (str, int)
            Names, and when they were set aside, in nanoseconds.
        """
        files = (self.path.parent / QUARANTINE).glob(f"{prefix}*{SUFFIX}")
        with suppress(FileNotFoundError):
            found = [(file.stem, file.stat().st_mtime_ns) for file in files]
            return sorted(found, key=lambda pair: -pair[1])
        return []

    def open(self, name: str) -> Shard | None:
        """Return a shard by name; None if it is gone, or was damaged and set aside."""
        path = self.path / f"{name}{SUFFIX}"
        try:
            return _opened(path)
        except FileNotFoundError:
            return None
        except (DamagedFileError, IsADirectoryError, PermissionError) as error:
            warnings.warn(str(set_aside(path, str(error))), stacklevel=2)
            return None

    def add(
        self,
        arrays: Mapping[str, NDArray[Any]],
        metadata: Mapping[str, str],
        prefix: str = "",
    ) -> Shard:
        """Write a shard, which appears whole or not at all, and return it.

        Its name is the prefix and its digest.

        Raises
        ------
        OSError
            If it cannot be written (no space left, say); nothing of it stays.

        Warns
        -----
        UserWarning
            If it was there already, and damaged.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        parts = list(file_parts(arrays, metadata))
        path = self.path / f"{prefix}{digest_of(parts)}{SUFFIX}"
        known = self.open(path.stem)
        if known is not None and is_sound(known):
            return known
        with replacing(path) as file:
            for part in parts:
                file.write(part)
        reader.trust(path)
        # Not opened again: another process may have evicted it already.
        header = read_header(BytesIO(parts[0]), sum(part.nbytes for part in parts))
        return Shard(path, header)

    def remove(self, shard: Shard) -> None:
        """Delete a shard; one that is open elsewhere on Windows stays for now."""
        reader.forget(shard.path)
        with suppress(FileNotFoundError, PermissionError):
            shard.path.unlink()

    def last_use(self, shard: Shard) -> float:
        """Return when a shard was last read by a process for the first time."""
        try:
            return shard.path.stat().st_atime
        except FileNotFoundError:
            return 0.0

    def mark_used(self, shard: Shard) -> None:
        """Note that a shard is in use."""
        mark_used(shard.path)

    def sweep(self) -> None:
        """Delete what writers that died have left unfinished."""
        for path in self.path.glob(f"*{UNFINISHED}"):
            with suppress(FileNotFoundError, PermissionError):
                if time.time() - path.stat().st_mtime > ABANDONED_AFTER:
                    path.unlink()


def where_merged(shard: Shard) -> tuple[Shard, int] | None:
    """Return the shard that has the rows of a deleted one, and the first of them.

    None if there is none: the rows were evicted or cleared.
    """
    folder = ShardFolder(shard.path.parent)
    for name in folder.names() if shard.pickles_as_path else ():
        with suppress(OSError, ValueError, KeyError, TypeError):
            other = _opened(folder.path / f"{name}{SUFFIX}")
            starts = dict(json.loads(other.metadata[MERGED]))
            return other, int(starts[shard.name])
    return None


def _opened(path: Path) -> Shard:
    # Without waiting: opening a FIFO would, until somebody writes into it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        file_number = os.open(path, flags)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise DamagedFileError("it is a link to itself") from error
    with open(file_number, "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise DamagedFileError("it is no file")
        return Shard(path, read_header(file, about.st_size))
