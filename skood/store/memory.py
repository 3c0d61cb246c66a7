"""Shards and claims that live in a process's memory and end with it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.files.tensors import Entry, Header
from skood.store.index import Keys
from skood.store.shard import Shard

__all__ = ["MemoryClaims", "MemoryFolder"]


class MemoryShard(Shard):
    """Rows that stay in memory as long as somebody uses them."""

    pickles_as_path = False

    def __init__(self, name: str, arrays: dict[str, NDArray[Any]], text: Any) -> None:
        entries = {k: Entry(v.dtype, v.shape, 0) for k, v in arrays.items()}
        size = sum(array.nbytes for array in arrays.values())
        super().__init__(Path(name), Header(dict(text), entries, size))
        self.used = time.time()
        self._arrays = arrays

    @property
    def exists(self) -> bool:
        """Always: it ends with its last user."""
        return True

    def verify(self) -> None:
        """Nothing to do: memory is taken to be sound."""

    def array(self, name: str) -> NDArray[Any]:
        """Return an array, read-only."""
        return self._arrays[name]

    def keys(self) -> NDArray[Any]:
        """Return the keys of its rows."""
        return self.array("keys")


class MemoryFolder:
    """The counterpart of ``ShardFolder`` for shards in memory."""

    def __init__(self) -> None:
        self._shards: dict[str, MemoryShard] = {}
        self._count = count()

    def names(self) -> set[str]:
        """Return the names of the shards that are there."""
        return set(self._shards)

    def open(self, name: str) -> Shard | None:
        """Return a shard by name; None if it is gone."""
        return self._shards.get(name)

    def lost(self, prefix: str = "") -> list[tuple[str, int]]:
        """Return nothing: memory is taken to be sound."""
        return []

    def add(
        self,
        arrays: Mapping[str, NDArray[Any]],
        metadata: Mapping[str, str],
        prefix: str = "",
    ) -> Shard:
        """Keep arrays as a shard and return it."""
        kept = {name: _frozen(array) for name, array in arrays.items()}
        shard = MemoryShard(f"{prefix}memory-{next(self._count):012d}", kept, metadata)
        self._shards[shard.name] = shard
        return shard

    def remove(self, shard: Shard) -> None:
        """Forget a shard."""
        self._shards.pop(shard.name, None)

    def last_use(self, shard: Shard) -> float:
        """Return when a shard was last looked up."""
        return self._shards[shard.name].used if shard.name in self._shards else 0.0

    def mark_used(self, shard: Shard) -> None:
        """Note that a shard is in use."""
        if shard.name in self._shards:
            self._shards[shard.name].used = time.time()

    def sweep(self) -> None:
        """Nothing to do: nothing is ever left unfinished."""


class MemoryClaim:
    """Rows that a thread is at work on; the counterpart of ``Claim``."""

    def __init__(self, taken: set[bytes], lock: Any) -> None:
        self._names: set[bytes] = set()
        self._taken, self._lock = taken, lock

    def take(self, keys: Keys) -> NDArray[np.bool_]:
        """Claim those of some rows that no thread is at work on."""
        names = [key.tobytes() for key in keys]
        with self._lock:
            mine = np.array([name not in self._taken for name in names], dtype=bool)
            new = {names[row] for row in np.flatnonzero(mine)}
            self._taken |= new
            self._names |= new
            return mine

    def release(self) -> None:
        """Let other threads have the rows."""
        with self._lock:
            self._taken -= self._names
            self._names = set()


class MemoryClaims:
    """The claims of a process's threads; the counterpart of ``Claims``."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._taken: set[bytes] = set()
        self._alone = RLock()

    def begun(self) -> MemoryClaim:
        """Return a claim that holds no rows yet."""
        return MemoryClaim(self._taken, self._lock)

    @contextmanager
    def alone(self, task: str) -> Iterator[None]:
        """Let one thread at a time through."""
        with self._alone:
            yield


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array = array.copy() if array.base is not None else array
    array.flags.writeable = False
    return array
