"""Small shards, united into larger ones, and found again by who still wants them."""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from skood.store.parts import PART
from skood.store.shard import CREATED, MERGED, Shard, is_sound

if TYPE_CHECKING:
    from skood.store.opened import OpenedStore

__all__ = ["merge_small"]

AT_ONCE = 32
"""Small shards that are left alone, and those that at least are united."""

SMALL = 8
"""A shard is small below this part of ``shard_bytes``."""

REMEMBERED = 1024
"""Shards whose rows can be found where they went."""


def merge_small(opened: OpenedStore, shard_bytes: int) -> None:
    """Unite the small shards of a store where there are many, each kind by itself.

    A merged shard is written before those that it holds are deleted: a process that
    dies between leaves rows twice, of which one counts. What lies in the deleted ones
    is found in the new one by :class:`~skood.store.stored_array.ShardedArray`.
    """
    if not _worth_it(opened, shard_bytes):
        return
    with opened.claims.alone("merging"):
        opened.catalogue.refresh()
        for shards in _worth_it(opened, shard_bytes):
            sound = [shard for shard in shards if is_sound(shard)]
            with suppress(FileNotFoundError):  # cleared, or evicted, meanwhile
                _merged(opened, sound)
                for shard in sound:
                    opened.folder.remove(shard)
        opened.catalogue.refresh()


def _worth_it(opened: OpenedStore, shard_bytes: int) -> list[list[Shard]]:
    """Return groups of small shards that have the same blocks of one source."""
    alike: dict[Any, list[Shard]] = defaultdict(list)
    for shard in opened.catalogue.of_kind("features"):
        # What a rank has written is its own affair: it looks for no other names.
        is_own = shard.metadata.get(PART) == opened.about.get(PART)
        if is_own and shard.nbytes * SMALL < shard_bytes:
            entries = shard.header.entries.items()
            columns = str([(name, e.dtype, e.shape[1]) for name, e in entries])
            about = shard.metadata["source"], shard.metadata["description"]
            alike[about, columns].append(shard)
    many = [shards for shards in alike.values() if len(shards) >= AT_ONCE]
    return [_up_to(shards, shard_bytes) for shards in many]


def _up_to(shards: list[Shard], size: int) -> list[Shard]:
    ends = np.cumsum([shard.nbytes for shard in shards])
    return shards[: max(2, int(np.searchsorted(ends, size)))]


def _merged(opened: OpenedStore, shards: list[Shard]) -> None:
    if len(shards) < 2:
        return
    names = shards[0].header.entries
    arrays = {n: np.concatenate([shard.array(n) for shard in shards]) for n in names}
    before: list[list[Any]] = []
    start = 0
    for shard in shards:
        held = json.loads(shard.metadata.get(MERGED, "[]"))
        before += [[name, start + row] for name, row in held]
        before.append([shard.name, start])
        start += shard.shape("keys")[0]
    text = shards[0].metadata
    about = {"source": text["source"], "description": text["description"]}
    # In the order of writing its rows stand where the first of them stood.
    about |= {CREATED: text[CREATED], MERGED: json.dumps(before[-REMEMBERED:])}
    opened.add("features", arrays, about)
