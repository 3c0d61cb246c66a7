"""Data sets that ranks have extracted, a part each: joined if all parts are there."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias

from skood.store.listing import Listing
from skood.store.parts import PART, Part
from skood.store.shard import Shard

__all__ = ["joined_data_sets", "listing_of"]

SHOWN = 5
"""Missing ranges, and data sets, that a message names."""

DataSet: TypeAlias = tuple[str, int]
"""The digest of its first rows, and how many there are."""

_Listed: TypeAlias = dict[Part, Shard]
"""Parts that are complete, each with the last list of its rows."""


def joined_data_sets(
    source: str, shards: Collection[Shard], known: Collection[DataSet], store: str
) -> list[tuple[int, Listing]]:
    """Return the data sets that ranks have extracted to a store.

    Of a data set that was extracted several times, by other numbers of ranks, the last
    complete set of parts counts.

    Parameters
    ----------
    source : str
        Name of the source.
    shards : collection of Shard
        Features and lists of rows of all sources, the oldest first.
    known : collection of (str, int)
        Data sets that need no parts: one process has extracted them as a whole.
    store : str
        What the store is called in messages.

    Returns
    -------
    list of (int, Listing)
        When each of them was completed, and its rows.

    Raises
    ------
    ValueError
        If parts are missing; the message names them.
    """
    here, elsewhere = _begun(source, shards)
    whole, torn = [], []
    for data_set, splits in here.items():
        lacking = [_lacking(split, listed) for split, listed in splits.items()]
        pairs = zip(lacking, splits.values(), strict=True)
        complete = [_joined(listed) for parts, listed in pairs if not parts]
        if complete:
            whole.append(max(complete, key=lambda pair: pair[0]))
        elif data_set not in known:
            torn += [_said(parts, elsewhere) for parts in lacking]
    if torn:
        raise ValueError(_message(torn, store))
    return whole


def listing_of(shard: Shard) -> Listing:
    """Return the listing that a shard holds."""
    return Listing.of({name: shard.array(name) for name in shard.header.entries})


def _begun(
    source: str, shards: Collection[Shard]
) -> tuple[dict[DataSet, dict[Part, _Listed]], dict[Part, str]]:
    """Return what ranks have begun to extract of a source, and completed of others.

    That is the complete parts by their data set and the first part of their split, and
    the names of other sources by the parts that they have.
    """
    here: dict[DataSet, dict[Part, _Listed]] = {}
    elsewhere: dict[Part, str] = {}
    for shard in shards:
        if PART not in shard.metadata:
            continue
        part, is_list = Part.of(shard.metadata[PART]), shard.metadata["kind"] == "rows"
        if shard.metadata["source"] == source:
            splits = here.setdefault(part.data_set, {})
            listed = splits.setdefault(part.of_rank(0), {})
            if is_list:
                listed[part] = shard
        elif is_list:
            elsewhere[part] = shard.metadata["source"]
    return here, elsewhere


def _lacking(split: Part, listed: _Listed) -> list[Part]:
    """Return the parts that are missing, in their order."""
    parts = map(split.of_rank, range(split.world))
    return [part for part in parts if part.rows and part not in listed]


def _joined(listed: _Listed) -> tuple[int, Listing]:
    """Return the rows of all parts one behind the other, and when the last came."""
    order = sorted(listed, key=lambda part: part.rank)
    listing = Listing.joined(listing_of(listed[part]) for part in order)
    return max(shard.created for shard in listed.values()), listing


def _said(lacking: list[Part], elsewhere: dict[Part, str]) -> str:
    ranges = []
    for part in lacking[:SHOWN]:
        rows = f"rows {part.rows[0]} to {part.rows[-1]} (shard=({part.rank}, "
        other = elsewhere.get(part)
        note = f"; source {other!r} has them: another network, or other settings"
        ranges.append(f"{rows}{part.world}){note if other else ''})")
    if len(lacking) > SHOWN:
        ranges.append(f"those of {len(lacking) - SHOWN} more ranks")
    split = lacking[0]
    return (
        f"of a data set of {split.n_rows} rows ({split.world} ranks, batches of "
        f"{split.batch}) it lacks {', '.join(ranges)}"
    )


def _message(torn: list[str], store: str) -> str:
    mend = (
        "Call extract_to again for them, as before: what was computed is not computed "
        "again."
    )
    if len(torn) == 1:
        return f"{store} is not complete: {torn[0]}. {mend}"
    more = f"; and so on, {len(torn)} in all" if len(torn) > SHOWN else ""
    return (
        f"{store} has parts that cannot be joined, since they differ in the length or "
        "first rows of the data set, the number of ranks or the batch size: "
        f"{'; '.join(torn[:SHOWN])}{more}. {mend} One complete set of parts of a data "
        "set is enough."
    )
