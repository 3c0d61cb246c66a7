"""A network behind a feature store: what is there is read, the rest is computed."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
from torch import nn

from skood.extraction.feeding import fed, with_keys
from skood.extraction.forward import PROBE_ROWS, Settings, first_batch, probed
from skood.extraction.hooks import Probe
from skood.extraction.inputs import Inputs, Loaded
from skood.extraction.memory import addresses
from skood.extraction.probe import Channels
from skood.extraction.streams import Stream
from skood.features import Key, LinearHead
from skood.store import FeatureStore
from skood.store.filling import Filling
from skood.store.identity.network import (
    changed_settings,
    code_fingerprint,
    leave_out,
    left_out,
)
from skood.store.identity.source import Source
from skood.store.index import Keys
from skood.store.opened import OpenedStore
from skood.store.row_keys import numbered_keys, row_keys
from skood.store.stored_array import VanishedRowsError
from skood.store.trouble import NotAStoreError, StoreTroubleError, names_store

__all__ = [
    "Cache",
    "as_store",
    "keys_of",
    "note_changes",
    "note_head",
    "noted_probe",
    "source_of",
    "stored_blocks",
    "windows",
]

Result = TypeVar("Result")

WINDOW_BATCHES = 16
"""Batches of an array that are looked up together."""

_asked: WeakKeyDictionary[nn.Module, WeakSet[OpenedStore]] = WeakKeyDictionary()

GATHERED_ROWS = 16
"""Rows of a pass that is too small for a shard of its own."""

ATTEMPTS = 3
"""To read rows that other processes may delete to keep a size limit."""


def as_store(cache: Any, name: str = "cache") -> FeatureStore | None:
    """Return the store that a parameter of this name means.

    Raises
    ------
    TypeError
        If it is no store, folder or None.
    """
    if cache is None or isinstance(cache, FeatureStore):
        return cache
    if isinstance(cache, (str, Path)):
        return FeatureStore(cache)
    shown = f"={cache}" if isinstance(cache, (int, float)) else ""  # X may be long
    raise TypeError(
        f"{name}{shown} is a {type(cache).__name__}; wanted is a folder, a "
        "FeatureStore, 'memory' or None."
    )


class Cache:
    """A store that is used as long as it can be.

    Parameters
    ----------
    given : str, Path, FeatureStore or None
        What a user gives as ``cache``.
    strict : bool, default=False
        Whether trouble is an error.

    Raises
    ------
    TypeError, ValueError
        If that is no folder at all.

    Warns
    -----
    UserWarning
        If it is, but cannot be used.
    """

    def __init__(self, given: Any, *, strict: bool = False) -> None:
        self.strict = strict
        self.store: FeatureStore | None = None
        try:
            self.store = as_store(given)
        except (OSError, NotAStoreError) as error:
            _warn_unusable(given, error)

    def tried(self, work: Callable[[FeatureStore], Result]) -> Result | None:
        """Return what work with the store gives; None if there is no usable one.

        Warns
        -----
        UserWarning
            If it gives trouble; it is then used no more.
        """
        if self.store is None:
            return None
        try:
            return work(self.store)
        except StoreTroubleError as error:
            if self.strict:
                raise
            _warn_unusable(self.store, error)
            self.store = None
            return None


def _warn_unusable(cache: Any, error: Exception) -> None:
    shown = repr(cache) if isinstance(cache, str) else str(cache)
    reason = str(error).rstrip(".")
    message = (
        f"the cache {shown} cannot be used: {reason}. Features are computed "
        "without it, and not kept."
    )
    warnings.warn(message, UserWarning, stacklevel=4)


def windows(
    inputs: Inputs | Stream, batch_size: int, first: int | None = None
) -> Iterator[Loaded]:
    """Yield consecutive rows in portions that fit into memory, each loaded once.

    Parameters
    ----------
    inputs : Inputs or Stream
        The rows.
    batch_size : int
        Rows in a batch. A portion is a batch, or some of them where rows are cut from
        an array.
    first : int, optional
        Rows in the first of these portions, if there are fewer.
    """
    if isinstance(inputs, Stream):
        yield from inputs.windows(batch_size)
        return
    if inputs.feeding is not None:
        yield from fed(inputs, batch_size)
        return
    step = batch_size * (WINDOW_BATCHES if inputs.is_array else 1)
    starts = [0, *range(first or step, len(inputs), step)]
    ends = [*starts[1:], len(inputs)]
    slices = [*map(slice, starts, ends)]
    if inputs.is_array:
        yield from map(inputs.loaded, slices)
    else:
        yield from _keyed_ahead(inputs, slices)


def _keyed_ahead(inputs: Inputs, slices: Sequence[slice]) -> Iterator[Loaded]:
    """Yield rows with their keys, which are made while the next rows are loaded.

    Not so if these are loaded into the same memory, or if rows hold what may have code
    of its own, and may mind in which thread that runs.
    """
    loaded = inputs.loaded(slices[0])
    here = addresses(loaded.given)
    with ThreadPoolExecutor(1) as thread:
        for number, rows in enumerate(slices[1:], 1):
            if None in here:
                yield loaded
                yield from map(inputs.loaded, slices[number:])
                return
            ready = thread.submit(with_keys, loaded)
            try:
                following = inputs.loaded(rows)
            except Exception:  # what is loaded goes first
                yield ready.result()
                raise
            there = addresses(following.given)
            if not here.isdisjoint(there):
                ready.exception()  # it is over, and of no use
                yield from map(inputs.loaded, slices[number - 1 :])
                return
            yield ready.result()
            loaded, here = following, there
    yield loaded


def stored_blocks(
    filling: Filling,
    inputs: Inputs,
    batch_size: int,
    progress: Callable[[int], Any],
    *,
    numbered: bool = False,
) -> dict[Key, Any]:
    """Return the wanted blocks of some inputs from a store, filled where it must be.

    Parameters
    ----------
    filling : Filling
        Of the wanted blocks.
    inputs : Inputs of n rows
        The rows.
    batch_size : int
        Rows in one forward.
    progress : callable
        Told the number of rows done.
    numbered : bool, default=False
        Whether a row's number in X decides what its features are.

    Returns
    -------
    dict
        From (layer, statistic) to an array of n rows: one that reads from the store
        when asked, or, where the store may delete rows to keep a size limit, one in
        memory.
    """
    limit = filling.store.max_bytes
    filling.gathers = len(inputs) <= GATHERED_ROWS
    keys, parts = [], []
    for loaded in windows(inputs, batch_size):
        keys.append(keys_of(loaded, numbered))
        if limit is None:
            filling.fill(keys[-1], loaded.inputs)
        else:
            parts.append(_read(filling, keys[-1], loaded.inputs))
            with names_store(filling.store.path):
                filling.store.opened.evict(limit)
        progress(len(loaded.inputs))
    if limit is None and filling.gathers:
        with suppress(VanishedRowsError):  # written, and deleted, meanwhile
            return filling.arrays(np.concatenate(keys))
        return filling.computed(inputs)
    if limit is None:
        return filling.arrays(np.concatenate(keys))
    return {b: np.concatenate([part[b] for part in parts]) for b in filling.blocks}


def note_head(store: FeatureStore, source: str, head: LinearHead | None) -> None:
    """Keep a network's final linear map with the features, once."""
    if head is not None and store.head(source) is None:
        arrays = {"weight": head.weight, "bias": head.bias}
        store.opened.add("note", arrays, {"name": f"head {source}"})


def keys_of(loaded: Loaded, numbered: bool = False) -> Keys:
    """Return the keys of rows, with their numbers in X where these count too."""
    keys = row_keys(loaded.given) if loaded.keys is None else loaded.keys
    if numbered:
        return numbered_keys(keys, loaded.inputs.numbers(slice(None)))
    return keys


def _read(filling: Filling, keys: Keys, inputs: Inputs) -> dict[Key, Any]:
    """Return rows in memory, however fast other processes delete them."""
    for _ in range(ATTEMPTS):
        filling.fill(keys, inputs)
        with suppress(VanishedRowsError):
            return {b: np.asarray(array) for b, array in filling.arrays(keys).items()}
    return filling.computed(inputs)


def noted_probe(
    filling: Filling,
    module: nn.Module,
    inputs: Inputs,
    channels: Channels,
    settings: Settings,
) -> Probe:
    """Return what a forward of the first rows tells, from the store if it is there.

    What it tells may depend on the form of the input, and so a note is of one form: no
    result depends on what else went through the network before. The length of texts
    under an attention mask is no part of it, since that depends on their neighbours.

    Parameters
    ----------
    filling : Filling
        Of the wanted blocks. Those of the first rows are kept in its store, so that
        these rows too go through the network once, unless it had to be guessed where
        their channels are.
    module : nn.Module
        The network.
    inputs : Inputs
        What it is to be run on.
    channels : {"auto", "first", "last"} or mapping of str to these
        Where the channels are.
    settings : Settings
        How to run it.

    Returns
    -------
    Probe
    """
    first = inputs.loaded(slice(0, min(PROBE_ROWS, settings.batch_size)))
    batch = first_batch(first.inputs, settings.batch_size)
    form = batch.form(sizes=batch.mask is None)
    opened, name = filling.store.opened, f"probe {filling.source.name} {form}"
    known = _noted(opened, name, filling.blocks)
    if known is not None:
        return known
    with opened.claims.alone(name.replace(" ", "-")):
        known = _noted(opened, name, filling.blocks)  # somebody may have been faster
        if known is not None:
            return known
        found, values = probed(module, first.inputs, filling.blocks, channels, settings)
        filling.has_run = True
        keys = row_keys(first.given)
        lacking = () if found.guessed else filling.lacking(keys)
        if lacking:
            filling.keep(keys, {block: values[block] for block in lacking})
            filling.flush()
        text = json.dumps({"blocks": filling.blocks, **vars(found)})
        opened.add("note", {}, {"name": name, "text": text})
        return found


def source_of(store: FeatureStore, module: nn.Module, **settings: Any) -> Source:
    """Return where features come from, but for what forwards change in the network.

    Parameters
    ----------
    store : FeatureStore
        It has notes of what a forward of a network with this code has changed.
    module : nn.Module
        The network.
    **settings
        As :meth:`Source.of` takes them.
    """
    opened = store.opened
    asked = _asked.setdefault(module, WeakSet())
    if opened not in asked:
        leave_out(module, _noted_changes(opened, code_fingerprint(module)))
        asked.add(opened)
    source = Source.of(module, **settings)
    if left_out(module):
        return replace(source, kept_as=_kept_as(opened, source))
    return source


def note_changes(opened: OpenedStore, module: nn.Module, source: Source) -> None:
    """Keep in mind what a network holds that is not as when its source was looked at.

    Parameters
    ----------
    opened : OpenedStore
        The others who use it are told. What it keeps of that source stays known.
    module : nn.Module
        The network, which has run since.
    source : Source
        As :func:`source_of` gave it.
    """
    changed, code = changed_settings(module), code_fingerprint(module)
    if changed:
        leave_out(module, changed)
        if changed - _noted_changes(opened, code):
            text = json.dumps(sorted(changed))
            opened.add("note", {}, {"name": f"changing {code}", "text": text})
        now = source.again(module)
        if _kept_as(opened, now) is None:
            about = {"name": f"kept as {now.digest}", "text": source.name}
            opened.add("note", {}, about)


def _kept_as(opened: OpenedStore, source: Source) -> str | None:
    """Return the name under which features of a source are kept, if it is another."""
    found = (n.metadata.get("text") for n in opened.notes(f"kept as {source.digest}"))
    return next((name for name in found if isinstance(name, str)), None)


def _noted_changes(opened: OpenedStore, code: str) -> set[str]:
    """Return the attributes that forwards of networks with this code have changed."""
    found: set[str] = set()
    for note in opened.notes(f"changing {code}"):
        with suppress(ValueError, KeyError, TypeError):
            names = json.loads(note.metadata["text"])
            found |= {name for name in names if isinstance(name, str)}
    return found


def _noted(opened: OpenedStore, name: str, blocks: Sequence[Key]) -> Probe | None:
    """Return a probe with these blocks, or more, that was noted before."""
    for note in opened.notes(name):
        with suppress(ValueError, KeyError, TypeError, AttributeError):  # no such note
            known = json.loads(note.metadata["text"])
            if set(blocks) <= set(map(tuple, known.pop("blocks"))):
                wanted = {layer for layer, _ in blocks}
                guessed = [layer for layer in known.pop("guessed") if layer in wanted]
                return Probe(**known, guessed=guessed)
    return None
