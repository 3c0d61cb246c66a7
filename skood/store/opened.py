"""A store as a process has it open, shared by all who use the folder there."""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import stat
import time
import warnings
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock, Timer
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from skood.files.atomic import UNFINISHED, write_text
from skood.store.catalogue import SCHEMA, Catalogue, array_name, newer_schema
from skood.store.claims import Claims
from skood.store.gathered import Gathered
from skood.store.index import Keys
from skood.store.memory import MemoryClaims, MemoryFolder
from skood.store.parts import PART, Part
from skood.store.paying import Paying
from skood.store.shard import (
    CREATED,
    KEYS_DIGEST,
    LISTING,
    QUARANTINE,
    Shard,
    digest_of,
    is_sound,
    reader,
)
from skood.store.shard_folder import ShardFolder
from skood.store.trouble import NotAStoreError, names_store

__all__ = ["OpenedStore", "listing_prefix", "opened"]

MANIFEST = "store.json"
FORMAT = "skood feature store"
PARTS = {MANIFEST, "shards", "claims", QUARANTINE}

_open: WeakValueDictionary[Path | None, OpenedStore] = WeakValueDictionary()
_last_used: OrderedDict[Path | None, OpenedStore] = OrderedDict()
_registry = Lock()

KEPT_OPEN = 8
"""Stores that stay open though nobody holds them; the others are let go."""


def opened(path: Path | None) -> OpenedStore:
    """Return the store of a folder, or of this process's memory for None.

    Raises
    ------
    ValueError
        If the path is a file, or the store is of a newer version of skood.
    FileExistsError
        If the folder holds something else.

    Warns
    -----
    UserWarning
        If the manifest is damaged.
    """
    if path is not None:
        _check_folder(path)
    with _registry:
        store = _open.get(path)
        if store is None:
            store = _open[path] = OpenedStore(path)
        _last_used[path] = store
        _last_used.move_to_end(path)
        others = (p for p in _last_used if p is not None)  # memory has but one place
        let_go = list(others)[:-KEPT_OPEN]
        idle = [_last_used.pop(p) for p in let_go]
    for other in idle:
        other.write_gathered()
    return store


class OpenedStore:
    """What is in a store, and who works at it.

    Parameters
    ----------
    path : Path or None
        The folder; None for memory.
    part : Part, optional
        Of a data set, whose rank works here by itself: it sees what was there at first
        and what it writes, and takes no locks.

    Attributes
    ----------
    about : dict of str to str
        What is said in the text of each shard.
    catalogue : Catalogue
        What is where.
    claims : Claims or MemoryClaims
        Who computes what.
    counts : Counter
        Hits and misses of this process.
    gathered : Gathered
        Rows that wait to be written.
    paying : Paying
        Whether it is of any use.
    """

    def __init__(self, path: Path | None, part: Part | None = None) -> None:
        self.path = path
        self.about = {} if part is None else {PART: part.text()}
        self._prefix = "" if part is None else part.prefix
        self.folder: ShardFolder | MemoryFolder
        self.claims: Claims | MemoryClaims
        if path is None:
            self.folder, self.claims = MemoryFolder(), MemoryClaims()
        else:
            self.folder = ShardFolder(path / "shards", self._prefix)
            # The ranges of ranks are disjoint, so that nobody else wants the same rows.
            self.claims = Claims(path / "claims") if part is None else MemoryClaims()
        self.catalogue = Catalogue(self.folder)
        self.counts: Counter[str] = Counter()
        self.gathered, self.paying = Gathered(), Paying()
        self._timer: Timer | None = None
        self.folder.sweep()

    def of_part(self, part: Part) -> OpenedStore:
        """Return the same store as the rank of a part sees it; hits count here."""
        other = OpenedStore(self.path, part)
        other.counts, other.paying = self.counts, self.paying
        return other

    def count(self, **numbers: int) -> None:
        """Add to the numbers of hits and misses."""
        with _registry:
            self.counts.update(numbers)

    def add(
        self, kind: str, arrays: Mapping[str, NDArray[Any]], about: Mapping[str, str]
    ) -> Shard:
        """Write a shard and return it.

        Parameters
        ----------
        kind : {"features", "rows", "note"}
            What it is.
        arrays : mapping of str to ndarray
            Its arrays.
        about : mapping of str to str
            Its text.

        Returns
        -------
        Shard

        Raises
        ------
        StoreTroubleError
            If it cannot be written.
        """
        now = str(time.time_ns())
        given = {**self.about, **about}
        metadata = {"schema": str(SCHEMA), "kind": kind, CREATED: now, **given}
        if kind == "features":
            metadata[KEYS_DIGEST] = _digest(arrays["keys"])
        prefix = self._prefix
        if kind == "rows":
            prefix = listing_prefix(about["source"], arrays["keys"])
        with names_store(self.path):
            self._write_manifest()
            return self.folder.add(arrays, metadata, prefix)

    def _write_manifest(self) -> None:
        if self.path is not None and not (self.path / MANIFEST).exists():
            self.path.mkdir(parents=True, exist_ok=True)
            manifest = {"format": FORMAT, "schema": SCHEMA}
            write_text(self.path / MANIFEST, json.dumps(manifest))

    def gather(
        self, about: Mapping[str, str], keys: Keys, values: Any, seconds: float
    ) -> None:
        """Keep a few rows in memory, to be written with others after a while.

        Parameters
        ----------
        about, keys, values
            As for :meth:`Gathered.add`.
        seconds : float
            How long they may wait.
        """
        self.gathered.add(about, keys, values)
        with _registry:
            if self._timer is None or not self._timer.is_alive():  # as after a fork
                self._timer = Timer(seconds, self.write_gathered)
                self._timer.daemon = True
                self._timer.start()

    def write_gathered(self) -> None:
        """Write the rows that wait.

        Warns
        -----
        UserWarning
            If that cannot be done: they will be computed again.
        """
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        try:
            for about, keys, values in self.gathered.tables():
                arrays = {array_name(block): array for block, array in values.items()}
                self.add("features", {"keys": keys, **arrays}, about)
        except OSError as error:
            self.gathered.clear()
            message = f"rows could not be written to the store {self.path}: {error}."
            warnings.warn(message, UserWarning, stacklevel=2)

    def refresh(self) -> None:
        """Write what waits, and take notice of what others have written."""
        self.write_gathered()
        self.catalogue.refresh()

    def notes(self, name: str) -> Iterator[Shard]:
        """Yield the sound shards of kind "note" with a name.

        A note is something found out about a network.
        """
        with names_store(self.path):
            self.catalogue.refresh()
        for note in self.catalogue.of_kind("note"):
            if note.metadata["name"] == name and is_sound(note):
                yield note

    def verify(self) -> list[str]:
        """Compare every byte of every shard; return what was set aside meanwhile."""
        before = {name for name, _ in self.folder.lost()}
        self.refresh()
        for shard in list(self.catalogue.shards.values()):
            reader.forget(shard.path)
            is_sound(shard)
        self.catalogue.refresh()
        return sorted({name for name, _ in self.folder.lost()} - before)

    def evict(self, max_bytes: int) -> None:
        """Delete the shards that were unused the longest, down to a size."""
        self.catalogue.refresh()
        shards = self.catalogue.of_kind("features")
        excess = sum(shard.nbytes for shard in shards) - max_bytes
        for shard in sorted(shards, key=self.folder.last_use):
            if excess <= 0:
                break
            self.folder.remove(shard)
            excess -= shard.nbytes
        self.catalogue.refresh()

    def clear(self) -> None:
        """Delete everything, what was set aside too."""
        self.refresh()
        for shard in list(self.catalogue.shards.values()):
            self.folder.remove(shard)
        if self.path is not None:
            shutil.rmtree(self.path / QUARANTINE, ignore_errors=True)
        self.catalogue.refresh()
        self.counts.clear()
        self.paying = Paying()


@atexit.register
def _write_all() -> None:
    for store in list(_open.values()):
        store.write_gathered()


def listing_prefix(source: str, keys: NDArray[Any] | None = None) -> str:
    """Return how the names of listings of a source, or of some rows of it, begin.

    So a listing that can no longer be read still says of what it was.
    """
    prefix = f"{LISTING}{hashlib.sha256(source.encode()).hexdigest()[:8]}-"
    return prefix if keys is None else f"{prefix}{_digest(keys)[:16]}-"


def _digest(keys: NDArray[Any]) -> str:
    return digest_of([np.ascontiguousarray(keys).data.cast("B")])


def _check_folder(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise NotAStoreError(
            f"path={str(path)!r} is a file; a feature store is a folder."
        )
    manifest = path / MANIFEST
    try:
        schema = _schema_in(manifest)
    except FileNotFoundError:
        # Another process may just be making it.
        strange = {e.name for e in path.iterdir() if e.suffix != UNFINISHED} - PARTS
        if strange and not (path / "shards").is_dir():
            raise FileExistsError(
                f"{path} holds something that is no feature store: it is left as it "
                "is. Give another folder."
            ) from None
    except (ValueError, KeyError, TypeError, IsADirectoryError):
        message = f"{manifest} is damaged and will be written again."
        warnings.warn(message, UserWarning, stacklevel=4)
        _take_away(manifest)
    else:
        if schema > SCHEMA:
            raise newer_schema(str(path), schema)


def _take_away(manifest: Path) -> None:
    if not manifest.is_dir():
        manifest.unlink(missing_ok=True)
        return
    aside = manifest.parent / QUARANTINE
    aside.mkdir(exist_ok=True)
    manifest.rename(aside / f"{MANIFEST}-{time.time_ns()}")


def _schema_in(manifest: Path) -> int:
    if stat.S_ISFIFO(manifest.stat().st_mode):
        raise ValueError  # reading it would wait for ever
    return int(json.loads(manifest.read_text(encoding="utf-8"))["schema"])
