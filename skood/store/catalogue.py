"""What a store holds: its shards, and where each row's blocks are among them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from threading import RLock
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skood.features import Key
from skood.store.index import Keys, Places, Table, first_of_each
from skood.store.memory import MemoryFolder
from skood.store.parts import PART, Part
from skood.store.shard import (
    CREATED,
    DamagedShardError,
    Shard,
    is_sound,
    set_aside,
)
from skood.store.shard_folder import ShardFolder
from skood.store.stored_array import ShardedArray, VanishedRowsError
from skood.store.trouble import NotAStoreError

__all__ = ["SCHEMA", "Blocks", "Catalogue", "array_name"]

SCHEMA = 1

LONGEST_TIME = 20
"""Digits of a time in nanoseconds, for some thousand years."""

Blocks: TypeAlias = tuple[Key, ...]
"""Names of blocks."""

_Families: TypeAlias = dict[Blocks, Table]


class Catalogue:
    """The shards of a folder by what they hold.

    It is made from the shards alone, and follows what other processes add and remove.

    Parameters
    ----------
    folder : ShardFolder or MemoryFolder
        Where the shards are.

    Attributes
    ----------
    shards : dict of int to Shard
        By number; a number is never used again.
    """

    def __init__(self, folder: ShardFolder | MemoryFolder) -> None:
        self.folder = folder
        self.lock = RLock()
        self.shards: dict[int, Shard] = {}
        self._numbers: dict[str, int] = {}
        self._next = 0
        self._families: dict[str, _Families] = {}

    # Following the folder --------------------------------------------------------

    def refresh(self) -> None:
        """Take notice of shards that came and went.

        Warns
        -----
        UserWarning
            If a shard is damaged; it is named and set aside.
        """
        with self.lock:
            names = self.folder.names()
            gone = self._numbers.keys() - names
            if gone:
                for name in gone:
                    del self.shards[self._numbers.pop(name)]
                self._families = {}
                for number in list(self.shards):
                    self._file(number)
            new = [self.folder.open(name) for name in names - self._numbers.keys()]
            shards = [s for s in new if s is not None and _is_ours(s)]
            for shard in sorted(shards, key=_age):
                self._add(shard)

    def _add(self, shard: Shard) -> None:
        number, self._next = self._next, self._next + 1
        self.shards[number], self._numbers[shard.name] = shard, number
        self._file(number)

    def _file(self, number: int) -> None:
        shard = self.shards[number]
        if shard.metadata.get("kind") != "features":
            return
        family = tuple(
            _block_of(name) for name in shard.header.entries if name != "keys"
        )
        keys = self._keys_of(number)
        if keys is None:
            return
        families = self._families.setdefault(shard.metadata["source"], {})
        families.setdefault(family, Table()).add(keys, number)

    def _keys_of(self, number: int) -> Keys | None:
        """Return the keys of a shard, which is forgotten when it is not there."""
        shard = self.shards[number]
        try:
            return shard.keys()
        except FileNotFoundError:
            pass
        except DamagedShardError as error:
            warnings.warn(str(error), UserWarning, stacklevel=2)
        # What is later found under its name is another file, with other keys perhaps.
        del self.shards[self._numbers.pop(shard.name)]
        return None

    # Looking up ------------------------------------------------------------------

    def of_kind(self, kind: str) -> list[Shard]:
        """Return the shards of a kind, the oldest first."""
        with self.lock:
            every = list(self.shards.values())
        shards = [shard for shard in every if shard.metadata.get("kind") == kind]
        return sorted(shards, key=_age)

    def blocks(self, source: str) -> list[Key]:
        """Return the names of a source's blocks."""
        with self.lock:
            families = list(self._families.get(source, {}))
        return list(dict.fromkeys(block for family in families for block in family))

    def keys(self, source: str) -> Keys:
        """Return the keys of a source's rows, each once, in the order of writing."""
        with self.lock:
            tables = self._families.get(source, {}).values()
            contents = [table.contents() for table in tables]
            order = sorted(self.shards, key=lambda n: _age(self.shards[n]))
        if not contents:
            return np.empty((0, 16), dtype=np.uint8)
        keys = np.concatenate([keys for keys, _ in contents])
        shard = np.concatenate([places.shard for _, places in contents])
        row = np.concatenate([places.row for _, places in contents])
        rank = np.zeros(max(order, default=0) + 1, dtype=np.int64)
        rank[order] = np.arange(len(order))
        keys = keys[np.lexsort((row, rank[shard]))]
        return keys[first_of_each(keys)]

    def n_rows(self) -> int:
        """Return the number of rows of all sources."""
        with self.lock:
            return sum(len(self.keys(source)) for source in self._families)

    def places(self, source: str, blocks: Iterable[Key], keys: Keys) -> list[Places]:
        """Return where each block of some rows is.

        Parameters
        ----------
        source : str
            Where the features come from.
        blocks : iterable of (layer, statistic)
            The wanted blocks.
        keys : ndarray of uint8, shape (n, 16)
            The wanted rows.

        Returns
        -------
        list of Places
            One for each block; those that lie together share one.
        """
        with self.lock:
            families = self._families.get(source, {})
            known: dict[tuple[Blocks, ...], Places] = {}
            found = []
            for block in blocks:
                together = tuple(family for family in families if block in family)
                if together not in known:
                    tables = [families[family] for family in together]
                    known[together] = _find(tables, keys)
                found.append(known[together])
            return found

    def verified_places(
        self, source: str, blocks: Iterable[Key], keys: Keys
    ) -> list[Places]:
        """Return where each block of some rows is, in shards that are sound.

        Warns
        -----
        UserWarning
            If a shard is damaged; it is named and set aside, and its rows are not
            found.
        """
        blocks = list(blocks)
        while True:
            self.refresh()
            found = self.places(source, blocks, keys)
            if self._all_sound(found):
                return found

    def _all_sound(self, found: list[Places]) -> bool:
        for number in _numbers_in(found):
            shard = self.shards.get(number)
            if shard is None or not is_sound(shard):
                return False
            self.folder.mark_used(shard)
        return True

    def arrays(self, blocks: Iterable[Key], found: list[Places]) -> dict[Key, Any]:
        """Return found rows as arrays that are read when asked.

        Raises
        ------
        ValueError
            If rows of one block differ in their number of columns or type.
        VanishedRowsError
            If another thread has noticed that a shard is gone.
        """
        with self.lock:
            narrowed: dict[int, tuple[tuple[Shard, ...], Places]] = {}
            arrays = {}
            for block, places in zip(blocks, found, strict=True):
                if id(places) not in narrowed:
                    narrowed[id(places)] = self._narrowed(places)
                shards, own = narrowed[id(places)]
                _check_alike(block, shards)
                arrays[block] = ShardedArray(array_name(block), shards, own)
            return arrays

    def _narrowed(self, places: Places) -> tuple[tuple[Shard, ...], Places]:
        numbers, shard = np.unique(places.shard, return_inverse=True)
        try:
            shards = tuple(self.shards[number] for number in numbers.tolist())
        except KeyError as error:
            raise VanishedRowsError(
                "rows have vanished from the feature store while they were looked up: "
                "it is being cleared, or kept within a size limit."
            ) from error
        return shards, Places(shard.astype(np.int32), places.row)


def _find(tables: Iterable[Table], keys: Keys) -> Places:
    shard = np.full(len(keys), -1, dtype=np.int32)
    row = np.zeros(len(keys), dtype=np.int32)
    for table in tables:
        left = np.flatnonzero(shard < 0)
        found = table.find(keys[left])
        shard[left], row[left] = found.shard, found.row
    return Places(shard, row)


def _numbers_in(found: Iterable[Places]) -> list[int]:
    distinct = {id(places): places.shard for places in found}
    numbers: NDArray[np.int32] = np.unique(np.concatenate([[-1], *distinct.values()]))
    return [int(number) for number in numbers if number >= 0]


def _age(shard: Shard) -> tuple[int, str]:
    return shard.created, shard.name


def array_name(block: Key) -> str:
    """Return the name that a block's array has in a shard."""
    layer, statistic = block
    return f"{statistic}/{layer}"


def _block_of(name: str) -> Key:
    statistic, _, layer = name.partition("/")
    return layer, statistic


_TEXT = {"features": ("source", "description"), "rows": ("source",), "note": ("name",)}
"""What the text of a shard of each kind says."""


def _is_ours(shard: Shard) -> bool:
    """Return whether a shard is one that a store could have written.

    Warns
    -----
    UserWarning
        If it is not; it is named and set aside.
    """
    schema = shard.metadata.get("schema", "")
    if schema.isdecimal() and len(schema) < LONGEST_TIME and int(schema) > SCHEMA:
        raise newer_schema(str(shard.path.parent.parent), schema)
    strange = _strange(shard)
    if strange:
        error = set_aside(shard.path, f"it is whole, but {strange}")
        warnings.warn(str(error), UserWarning, stacklevel=2)
    return not strange


def _strange(shard: Shard) -> str | None:
    """Return what is odd about a shard whose digest may well be right."""
    text, entries = shard.metadata, shard.header.entries
    kind = text.get("kind", "")
    if kind not in _TEXT:
        return f"of no known kind ({kind!r})"
    if text.get("schema") != str(SCHEMA):
        return f"of no known format ({text.get('schema')!r})"
    if not text.get(CREATED, "").isdecimal() or len(text[CREATED]) > LONGEST_TIME:
        return f"has no time of writing ({text.get(CREATED)!r})"
    lacking = [name for name in _TEXT[kind] if name not in text]
    if lacking:
        return f"says nothing of its {' and '.join(lacking)}"
    if PART in text and not _is_part(text[PART]):
        return f"of no part that a rank could have ({text[PART]!r})"
    return None if kind == "note" else _strange_rows(kind, entries)


def _is_part(text: str) -> bool:
    try:
        Part.of(text)
    except ValueError:
        return False
    return True


def _strange_rows(kind: str, entries: Mapping[str, Any]) -> str | None:
    keys = entries.get("keys")
    if keys is None or keys.dtype != np.uint8 or keys.shape[1:] != (16,):
        return "has no keys of its rows"
    columns = [entry.shape for name, entry in entries.items() if name != "keys"]
    if any(shape[:1] != keys.shape[:1] for shape in columns):
        return "has arrays of several lengths"
    if kind == "features" and any(len(shape) != 2 for shape in columns):
        return "has features that are no table"
    return None


def newer_schema(where: str, schema: Any) -> NotAStoreError:
    """Return the error for a store that a later version of skood has written."""
    return NotAStoreError(
        f"the feature store {where} has format {schema}, this version of skood reads "
        f"up to {SCHEMA}: update skood, or use another folder."
    )


def _check_alike(block: Key, shards: tuple[Shard, ...]) -> None:
    name = array_name(block)
    kinds = {(shard.shape(name)[1], shard.dtype(name).name) for shard in shards}
    if len(kinds) > 1:
        listed = " and ".join(f"{width} ({dtype})" for width, dtype in sorted(kinds))
        raise ValueError(
            f"layer {block[0]!r} has {listed} columns of {block[1]!r} for different "
            "rows: inputs of several sizes need a statistic that pools."
        )
