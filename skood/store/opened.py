"""A store as a process has it open, shared by all who use the folder there."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.store.atomic import UNFINISHED, write_text
from skood.store.catalogue import SCHEMA, Catalogue, newer_schema
from skood.store.claims import Claims
from skood.store.memory import MemoryClaims, MemoryFolder
from skood.store.shard import (
    CREATED,
    KEYS_DIGEST,
    LISTING,
    QUARANTINE,
    Shard,
    digest_of,
    is_sound,
)
from skood.store.shard_folder import ShardFolder

__all__ = ["OpenedStore", "listing_prefix", "opened"]

MANIFEST = "store.json"
FORMAT = "skood feature store"
PARTS = {MANIFEST, "shards", "claims", QUARANTINE}

_open: dict[Path | None, OpenedStore] = {}
_registry = Lock()


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
        if path not in _open:
            _open[path] = OpenedStore(path)
        return _open[path]


class OpenedStore:
    """What is in a store, and who works at it.

    Parameters
    ----------
    path : Path or None
        The folder; None for memory.

    Attributes
    ----------
    catalogue : Catalogue
        What is where.
    claims : Claims or MemoryClaims
        Who computes what.
    counts : Counter
        Hits and misses of this process.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.folder: ShardFolder | MemoryFolder
        self.claims: Claims | MemoryClaims
        if path is None:
            self.folder, self.claims = MemoryFolder(), MemoryClaims()
        else:
            self.folder, self.claims = (
                ShardFolder(path / "shards"),
                Claims(path / "claims"),
            )
        self.catalogue = Catalogue(self.folder)
        self.counts: Counter[str] = Counter()
        self.folder.sweep()

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
        """
        if self.path is not None and not (self.path / MANIFEST).exists():
            self.path.mkdir(parents=True, exist_ok=True)
            manifest = {"format": FORMAT, "schema": SCHEMA}
            write_text(self.path / MANIFEST, json.dumps(manifest))
        now = str(time.time_ns())
        metadata = {"schema": str(SCHEMA), "kind": kind, CREATED: now, **about}
        if kind == "features":
            metadata[KEYS_DIGEST] = _digest(arrays["keys"])
        prefix = (
            listing_prefix(about["source"], arrays["keys"]) if kind == "rows" else ""
        )
        return self.folder.add(arrays, metadata, prefix)

    def notes(self, name: str) -> Iterator[Shard]:
        """Yield the sound shards of kind "note" with a name.

        A note is something found out about a network.
        """
        self.catalogue.refresh()
        for note in self.catalogue.of_kind("note"):
            if note.metadata["name"] == name and is_sound(note):
                yield note

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
        self.catalogue.refresh()
        for shard in list(self.catalogue.shards.values()):
            self.folder.remove(shard)
        if self.path is not None:
            shutil.rmtree(self.path / QUARANTINE, ignore_errors=True)
        self.catalogue.refresh()
        self.counts.clear()


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
        raise ValueError(f"path={str(path)!r} is a file; a feature store is a folder.")
    manifest = path / MANIFEST
    try:
        schema = int(json.loads(manifest.read_text(encoding="utf-8"))["schema"])
    except FileNotFoundError:
        # Another process may just be making it.
        strange = {e.name for e in path.iterdir() if e.suffix != UNFINISHED} - PARTS
        if strange and not (path / "shards").is_dir():
            raise FileExistsError(
                f"{path} holds something that is no feature store: it is left as it "
                "is. Give another folder."
            ) from None
    except (ValueError, KeyError, TypeError):
        message = f"{manifest} is damaged and will be written again."
        warnings.warn(message, UserWarning, stacklevel=4)
        manifest.unlink(missing_ok=True)
    else:
        if schema > SCHEMA:
            raise newer_schema(str(path), schema)
