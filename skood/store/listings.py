"""The listings of a store: which rows each data set has, written, read and missed."""

from __future__ import annotations

from itertools import chain

import numpy as np

from skood.store.identity.source import Source
from skood.store.joining import joined_data_sets, listing_of
from skood.store.listing import Listing
from skood.store.opened import OpenedStore, listing_prefix
from skood.store.parts import PART, data_digest
from skood.store.shard import Shard
from skood.store.stored_array import VanishedRowsError

__all__ = ["add_listing", "united_listing"]


def add_listing(opened: OpenedStore, source: Source, listing: Listing) -> None:
    """Keep the rows of a data set, or of a part, unless they were kept last."""
    opened.catalogue.refresh()
    known = _listings(opened, source.name)
    known = [s for s in known if s.metadata.get(PART) == opened.about.get(PART)]
    arrays = listing.arrays()
    if known and _lost(opened, source.name, known) is None:
        last = {name: known[-1].array(name) for name in known[-1].header.entries}
        same = last.keys() == arrays.keys()
        if same and all(np.array_equal(last[name], arrays[name]) for name in last):
            return
    opened.add("rows", arrays, source.about())


def united_listing(opened: OpenedStore, source: str) -> Listing:
    """Return the rows of all data sets, in order.

    Without a listing these are all rows of the source, in the order of writing. Of what
    ranks have extracted the parts are joined.

    Parameters
    ----------
    opened : OpenedStore
        Refreshed.
    source : str
        Name of the source.

    Returns
    -------
    Listing

    Raises
    ------
    ValueError
        If a listing was damaged, and its data set has not been given again since; or
        if parts of a data set are missing.
    """
    known = _listings(opened, source)
    lost = _lost(opened, source, known)
    if lost is not None:
        raise ValueError(
            f"the list of the rows of a data set in the feature store {opened.path} "
            f"was damaged and is set aside ({lost}): their order, labels and ids are "
            "lost. Give the same data set to extract_to again, which computes nothing "
            "twice; or clear() the store."
        )
    kinds = (opened.catalogue.of_kind(kind) for kind in ("features", "rows"))
    try:
        whole = [(s.created, listing_of(s)) for s in known if PART not in s.metadata]
        complete = {(data_digest(rows.keys), len(rows)) for _, rows in whole}
        name = f"the feature store {opened.path}"
        whole += joined_data_sets(source, [*chain(*kinds)], complete, name)
        if not whole:
            return Listing(opened.catalogue.keys(source))
        whole.sort(key=lambda pair: pair[0])
        return Listing.united(listing for _, listing in whole)
    except FileNotFoundError as error:
        raise VanishedRowsError(
            f"the feature store {opened.path} is being cleared."
        ) from error


def _listings(opened: OpenedStore, source: str) -> list[Shard]:
    every = opened.catalogue.of_kind("rows")
    return [shard for shard in every if shard.metadata["source"] == source]


def _lost(opened: OpenedStore, source: str, known: list[Shard]) -> str | None:
    """Return the name of a listing that was set aside and not written again since."""
    for name, when in opened.folder.lost(listing_prefix(source)):
        # Its digest is the last part of a name, the digest of its rows the one before.
        of_rows = name.rpartition("-")[0]
        again = (shard for shard in known if shard.name.startswith(of_rows))
        if not any(shard.created > when for shard in again):
            return name
    return None
