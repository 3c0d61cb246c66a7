"""Rows that lie in the shards of a store, as an array that is read when asked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from skood.store.index import Places
from skood.store.shard import Shard
from skood.store.shard_folder import where_merged

__all__ = ["ShardedArray", "VanishedRowsError"]


class VanishedRowsError(ValueError):
    """Rows are no longer in the store they were found in."""


class ShardedArray:
    """A two-dimensional array whose rows lie in shards.

    Reading rows that follow one another in one shard copies nothing. It pickles as
    the shards' paths and digests and the rows' places.

    Parameters
    ----------
    name : str
        The array's name in the shards.
    shards : tuple of Shard
        Where the rows lie.
    places : Places
        The shard (its number in ``shards``) and the row of each row.

    Raises
    ------
    ValueError
        When rows are read whose shard is gone or damaged; the message says which.
    """

    ndim = 2

    def __init__(self, name: str, shards: tuple[Shard, ...], places: Places) -> None:
        self.name, self.shards, self.places = name, shards, places

    @property
    def pickles_as_path(self) -> bool:
        """Whether another process can open the shards."""
        return all(shard.pickles_as_path and shard.exists for shard in self.shards)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self), self.shards[0].shape(self.name)[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the entries."""
        return self.shards[0].dtype(self.name)

    def __len__(self) -> int:
        return len(self.places.shard)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        shard, row = self.places.shard[key], self.places.row[key]
        if len(shard) and _consecutive(shard, row):
            return self._part(shard[0])[row[0] : row[0] + len(row)]
        values = np.empty((len(shard), self.shape[1]), dtype=self.dtype)
        for number, where in _by_shard(shard):
            part = self._part(number)
            if isinstance(where, slice):
                # "clip" lets NumPy write in place; every row is within the part.
                np.take(part, row[where], axis=0, out=values[where], mode="clip")
            else:
                values[where] = part[row[where]]
        return values

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        return np.array(self[:], dtype=dtype, copy=copy)

    def narrowed(self, rows: Any) -> ShardedArray:
        """Return an array of some of the rows, with the shards they need."""
        shard = np.asarray(self.places.shard[rows])
        used, shard = np.unique(shard, return_inverse=True)
        places = Places(shard.astype(np.int32), np.asarray(self.places.row[rows]))
        # Of no rows too, it has a width and a type.
        kept = used if len(used) else [0]
        return ShardedArray(self.name, tuple(self.shards[n] for n in kept), places)

    def _part(self, number: int) -> NDArray[Any]:
        shard = self.shards[number]
        try:
            return shard.array(self.name)
        except (FileNotFoundError, NotADirectoryError) as error:
            moved = where_merged(shard)
            if moved is not None:
                found, start = moved
                return found.array(self.name)[start : start + shard.shape(self.name)[0]]
            raise VanishedRowsError(
                f"shard {shard.name} is no longer in the feature store: it was "
                "cleared, or evicted to keep the store within its size limit. Make "
                "the features again by transform, extract_to or features()."
            ) from error


def _consecutive(shard: NDArray[np.int32], row: NDArray[np.int32]) -> bool:
    # Almost always the ends tell.
    ends = shard[0] == shard[-1] and row[-1] - row[0] == len(row) - 1
    return bool(ends and (np.diff(row) == 1).all() and (np.diff(shard) == 0).all())


def _by_shard(
    shard: NDArray[np.int32],
) -> list[tuple[int, slice | NDArray[np.intp]]]:
    """Return the numbers of the shards, each with the rows that lie in it."""
    starts = np.flatnonzero(np.diff(shard, prepend=-1))
    if len(starts) <= len(np.unique(shard[starts])):
        ends = [*starts[1:].tolist(), len(shard)]
        runs = zip(starts.tolist(), ends, strict=False)
        return [(int(shard[start]), slice(start, end)) for start, end in runs]
    used = np.unique(shard)
    return [(int(number), np.flatnonzero(shard == number)) for number in used]
