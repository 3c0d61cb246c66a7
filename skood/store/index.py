"""Where the rows of a store are: from a row's key to a shard and a row in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Keys", "Places", "Table"]

Keys = NDArray[Any]
"""Row keys: an array of uint8 of shape (n, 16)."""


@dataclass(frozen=True)
class Places:
    """Where some rows are.

    Parameters
    ----------
    shard : ndarray of int32, shape (n,)
        Number of the shard, -1 where there is none.
    row : ndarray of int32, shape (n,)
        Row within the shard.
    """

    shard: NDArray[np.int32]
    row: NDArray[np.int32]

    @property
    def found(self) -> NDArray[np.bool_]:
        """Which rows are somewhere."""
        return self.shard >= 0


@dataclass
class _Run:
    """Different keys in order, as two numbers each, with their places."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    places: Places
    widest: int

    def __len__(self) -> int:
        return len(self.high)

    @classmethod
    def of(cls, high: Any, low: Any, shard: Any, row: Any) -> _Run:
        """Return the keys in order; the first of equal ones counts."""
        order = np.lexsort((low, high))
        order = order[_begins(high[order]) | _begins(low[order])]
        # How many keys share their first number, almost always one.
        starts = np.flatnonzero(_begins(high[order]))
        widest = int(np.diff(starts, append=len(order)).max())
        places = Places(shard[order], row[order])
        return cls(high[order], low[order], places, widest)

    def united(self, later: _Run) -> _Run:
        """Return the keys of both in order, with this run's first among equals."""
        pairs = (
            (self.high, later.high),
            (self.low, later.low),
            (self.places.shard, later.places.shard),
            (self.places.row, later.places.row),
        )
        return _Run.of(*(np.concatenate(pair) for pair in pairs))

    def search(
        self, high: NDArray[np.uint64], low: NDArray[np.uint64]
    ) -> NDArray[np.intp]:
        """Return the place of each key in the run, -1 where it is not."""
        start = np.searchsorted(self.high, high)
        found = np.full(len(high), -1, dtype=np.intp)
        for step in range(self.widest):
            at = np.minimum(start + step, len(self) - 1)
            same = (self.high[at] == high) & (self.low[at] == low)
            found[same] = at[same]
        return found


@dataclass
class Table:
    """From keys to places; of equal keys, those that were added first count.

    Runs of keys in order, united when they are of similar length, so that adding
    shards one by one to many costs little each time.
    """

    runs: list[_Run] = field(default_factory=list)

    def add(self, keys: Keys, shard: int) -> None:
        """Add the rows of a shard, at least one."""
        high, low = _numbers(keys)
        rows = np.arange(len(keys), dtype=np.int32)
        self.runs.append(_Run.of(high, low, np.full(len(keys), shard, np.int32), rows))
        while len(self.runs) > 1 and len(self.runs[-2]) < 2 * len(self.runs[-1]):
            later = self.runs.pop()
            self.runs[-1] = self.runs[-1].united(later)

    def contents(self) -> tuple[Keys, Places]:
        """Return all keys and their places, in no particular order."""
        keys = [np.column_stack([run.high, run.low]) for run in self.runs]
        shard = [run.places.shard for run in self.runs]
        row = [run.places.row for run in self.runs]
        together = np.concatenate(keys).view(np.uint8).reshape(-1, 16)
        return together, Places(np.concatenate(shard), np.concatenate(row))

    def find(self, keys: Keys) -> Places:
        """Return where the rows with these keys are."""
        high, low = _numbers(keys)
        shard = np.full(len(keys), -1, dtype=np.int32)
        row = np.zeros(len(keys), dtype=np.int32)
        for run in self.runs:
            left = np.flatnonzero(shard < 0)
            at = run.search(high[left], low[left])
            left, at = left[at >= 0], at[at >= 0]
            shard[left], row[left] = run.places.shard[at], run.places.row[at]
        return Places(shard, row)


def _begins(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a value differs from the one before."""
    begins = np.ones(len(values), dtype=bool)
    begins[1:] = values[1:] != values[:-1]
    return begins


def _numbers(keys: Keys) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    pairs = np.ascontiguousarray(keys).view(np.uint64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def first_of_each(keys: Keys) -> NDArray[np.intp]:
    """Return the rows at which a key comes for the first time, in order.

    Parameters
    ----------
    keys : ndarray of uint8, shape (n, 16)
        Keys.

    Returns
    -------
    ndarray of int, shape (distinct keys,)
    """
    high, low = _numbers(keys)
    order = np.lexsort((low, high))
    return np.sort(order[_begins(high[order]) | _begins(low[order])])


def stacked(keys: Iterable[bytes]) -> Keys:
    """Return keys of 16 bytes each as one array."""
    return np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, 16)
