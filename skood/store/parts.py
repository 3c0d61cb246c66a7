"""Parts of a data set: the rows that one of several ranks extracts, by itself."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import numpy as np

from skood.store.index import Keys

__all__ = ["FIRST_ROWS", "MOST_RANKS", "PART", "Part", "data_digest"]

PART = "part"
"""What a part of a data set is called in a shard's text."""

MOST_RANKS = 1_000_000

FIRST_ROWS = 2
"""Rows of a data set by which ranks know that they have the same one."""


@dataclass(frozen=True)
class Part:
    """A range of a data set, which is that of one rank among several.

    Ranges are whole batches, so that every row goes through the network beside the
    same rows as in a single process.

    Parameters
    ----------
    rank, world : int
        The rank, from 0, and how many there are.
    n_rows : int
        Rows of the whole data set.
    batch : int
        Rows in a batch.
    data : str
        What :func:`data_digest` says of the data set.

    Examples
    --------
    >>> from skood.store.parts import Part
    >>> [Part(rank, 3, 100, 16, "").rows for rank in range(3)]
    [range(0, 32), range(32, 64), range(64, 100)]
    """

    rank: int
    world: int
    n_rows: int
    batch: int
    data: str

    @property
    def rows(self) -> range:
        """The numbers of its rows, none where there are more ranks than batches."""
        n_batches = -(-self.n_rows // self.batch)
        ends = (n_batches * rank // self.world for rank in (self.rank, self.rank + 1))
        return range(*(min(end * self.batch, self.n_rows) for end in ends))

    @property
    def prefix(self) -> str:
        """How the names of its shards begin."""
        return f"part-{self.rank}-of-{self.world}-"

    @property
    def data_set(self) -> tuple[str, int]:
        """The data set that it is of."""
        return self.data, self.n_rows

    def of_rank(self, rank: int) -> Part:
        """Return the part of another rank."""
        return replace(self, rank=rank)

    def text(self) -> str:
        """Return it as it stands in a shard's text."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> Part:
        """Return the part that a shard's text names.

        Raises
        ------
        ValueError
            If it names none.
        """
        return _part_of(text)


@lru_cache(maxsize=1024)  # all shards of a rank have the same text
def _part_of(text: str) -> Part:
    try:
        values = json.loads(text)
        part = Part(**values)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    numbers = part.rank, part.world, part.n_rows, part.batch
    whole = all(type(number) is int for number in numbers) and type(part.data) is str
    is_rank = whole and 0 <= part.rank < part.world <= MOST_RANKS
    if not (is_rank and min(part.n_rows, part.batch) > 0):
        raise ValueError(f"there is no part {values}.")
    return part


def data_digest(keys: Keys) -> str:
    """Return what tells data sets of as many rows apart: a digest of the first rows.

    Parameters
    ----------
    keys : ndarray of uint8, shape (n, 16)
        The keys of the rows; the first two count.
    """
    first = np.ascontiguousarray(keys[:FIRST_ROWS])
    return hashlib.sha256(first.tobytes()).hexdigest()[:16]
