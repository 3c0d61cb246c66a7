"""Filling a store: of the rows that are wanted, compute those that it lacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from types import TracebackType
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skood.features import Key
from skood.store.catalogue import Blocks, array_name
from skood.store.feature_store import FeatureStore
from skood.store.identity.source import Source
from skood.store.index import Keys, first_of_each
from skood.store.merging import merge_small
from skood.store.shard import Shard
from skood.store.stored_array import VanishedRowsError
from skood.store.trouble import StoreTroubleError, names_store

__all__ = ["Compute", "Filling"]

Values: TypeAlias = dict[Key, NDArray[Any]]
"""Blocks of some rows by (layer, statistic)."""


class Rows(Protocol):
    """Inputs that can be cut."""

    def take(self, rows: NDArray[np.intp]) -> Any:
        """Return some of them."""


Compute: TypeAlias = Callable[
    [Any, Blocks], Generator[tuple[slice, Values], None, None]
]
"""Runs the network: from inputs and names of blocks to their values, part by part."""

WAIT_SECONDS = 0.02

ATTEMPTS = 3
"""To read rows whose shards others merge meanwhile."""


class Filling:
    """One pass over inputs whose features are wanted.

    A context manager: what was computed is written when it ends, also by an error.

    Parameters
    ----------
    store : FeatureStore
        Where features are looked up and kept.
    source : Source
        Where the features come from.
    blocks : tuple of (layer, statistic)
        The wanted blocks.
    compute : callable
        Computes blocks of inputs that the store lacks.
    dtype : dtype
        Type of the features.
    settle : callable, optional
        Called at the end of a pass in which the network has run.

    Attributes
    ----------
    gathers : bool, default=False
        Whether the rows are so few that they wait in memory, to be written with those
        of other passes.
    n_kept : int
        Rows of the pass that were found, or written so far.
    has_run : bool, default=False
        Whether the network has run.
    """

    def __init__(
        self,
        store: FeatureStore,
        source: Source,
        blocks: Blocks,
        compute: Compute,
        dtype: np.dtype[Any],
        settle: Callable[[], None] | None = None,
    ) -> None:
        self.store, self.source, self.settle = store, source, settle
        self.blocks, self.compute, self.dtype = blocks, compute, dtype
        self.gathers = False
        self.n_kept = 0
        self.has_run = False
        self._asked: list[Keys] = []
        self._missed = 0
        self._buffers: dict[Blocks, list[tuple[Keys, Values]]] = {}
        self._claim = store.opened.claims.begun()
        self._bytes = 0
        self._begun = time.monotonic()

    def __enter__(self) -> Filling:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if not isinstance(error, StoreTroubleError):
                self.flush()
            if error is None and self._asked:
                keys = np.concatenate(self._asked)
                keys = keys[first_of_each(keys)]
                wish = (self.source, self.blocks, keys, self._missed)
                self.store.opened.paying.passed(self.store, *wish)
            if error is None and self.has_run and self.settle is not None:
                self.settle()
        finally:
            self._claim.release()

    def fill(self, keys: Keys, inputs: Rows) -> None:
        """See to it that rows are in the store, or on their way there.

        Parameters
        ----------
        keys : ndarray of uint8, shape (n, 16)
            Their keys.
        inputs : Rows of n rows
            The rows.
        """
        if not self._buffers:
            self._claim.release()
        self._asked.append(keys)
        todo = self._lacked(keys, first_of_each(keys))
        self._found(len(keys) - len(todo))
        if self.gathers and len(todo):
            self._compute(keys, inputs, todo)  # too little to be shared out
            return
        while len(todo):
            with names_store(self.store.path):
                mine = self._claim.take(keys[todo])
            if not mine.any():
                # Perhaps this very pass holds them; and whoever waits holds nothing.
                self.flush()
                time.sleep(WAIT_SECONDS)
            else:
                self._compute(keys, inputs, todo[mine])
            others = todo[~mine]
            todo = self._lacked(keys, others)
            self._found(len(others) - len(todo))

    def _lacked(self, keys: Keys, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return those of some rows of which a block is not in the store."""
        return rows[self._absent(keys[rows]).any(axis=1)] if len(rows) else rows

    def _found(self, n_rows: int) -> None:
        self.store.opened.count(hits=n_rows)
        self.n_kept += n_rows

    def lacking(self, keys: Keys) -> Blocks:
        """Return the wanted blocks that some of the rows lack."""
        absent = zip(self.blocks, map(any, self._absent(keys).T), strict=True)
        return tuple(block for block, is_absent in absent if is_absent)

    def _absent(self, keys: Keys) -> NDArray[np.bool_]:
        """Return which blocks of which rows are not in the store."""
        opened, name = self.store.opened, self.source.name
        with names_store(self.store.path):
            places = opened.catalogue.verified_places(name, self.blocks, keys)
        waiting = (opened.gathered.found(name, block, keys) for block in self.blocks)
        pairs = zip(places, waiting, strict=True)
        return np.column_stack([~(place.found | here) for place, here in pairs])

    def _compute(self, keys: Keys, inputs: Rows, rows: NDArray[np.intp]) -> None:
        # Looked up again: somebody may have written them before they were claimed.
        absent = self._absent(keys[rows])
        for pattern in np.unique(absent, axis=0):
            chosen = rows[(absent == pattern).all(axis=1)]
            if not pattern.any():
                self._found(len(chosen))
                continue
            names = zip(self.blocks, pattern, strict=True)
            blocks = tuple(block for block, missing in names if missing)
            self.has_run = True
            with closing(self.compute(inputs.take(chosen), blocks)) as parts:
                for part, values in parts:
                    self.keep(keys[chosen[part]], values)

    def keep(self, keys: Keys, values: Values) -> None:
        """Put computed rows on their way to the store."""
        wanted = {
            block: values[block].astype(self.dtype, copy=False)
            for block in self.blocks
            if block in values
        }
        self.store.opened.count(misses=len(keys))
        self._missed += len(keys)
        self._buffers.setdefault(tuple(wanted), []).append((keys, wanted))
        self._bytes += keys.nbytes + sum(array.nbytes for array in wanted.values())
        is_full = self._bytes >= self.store.shard_bytes
        if is_full or time.monotonic() - self._begun > self.store.flush_seconds:
            self._write()

    def flush(self) -> list[Shard]:
        """Write what was computed, let go of its rows, and return the new shards."""
        written = self._write()
        self._claim.release()
        return written

    def _write(self) -> list[Shard]:
        written = []
        opened, about = self.store.opened, self.source.about()
        while self._buffers:
            blocks, parts = self._buffers.popitem()
            keys = np.concatenate([keys for keys, _ in parts])
            arrays = {}
            for block in blocks:
                columns = [values[block] for _, values in parts]
                _check_widths(block, columns)
                arrays[block] = np.concatenate(columns)
            if self.gathers:
                opened.gather(about, keys, arrays, self.store.flush_seconds)
                continue
            named = {array_name(block): array for block, array in arrays.items()}
            written.append(opened.add("features", {"keys": keys, **named}, about))
            self.n_kept += len(keys)
        self._bytes, self._begun = 0, time.monotonic()
        if opened.gathered.nbytes > self.store.shard_bytes:
            opened.write_gathered()
        if written:
            with names_store(self.store.path):
                merge_small(opened, self.store.shard_bytes)
        return written

    # Reading back ----------------------------------------------------------------

    def arrays(self, keys: Keys) -> dict[Key, Any]:
        """Return the wanted blocks of rows that were filled in, read when asked.

        Raises
        ------
        VanishedRowsError
            If somebody has deleted rows in the meantime.
        """
        self.flush()
        if self.gathers:
            return self._in_memory(keys)
        with names_store(self.store.path):
            for _ in range(ATTEMPTS):
                with suppress(VanishedRowsError):  # merged by another thread
                    return self._stored(keys)
            return self._stored(keys)

    def _stored(self, keys: Keys) -> dict[Key, Any]:
        catalogue = self.store.opened.catalogue
        found = catalogue.verified_places(self.source.name, self.blocks, keys)
        gone = ~np.logical_and.reduce([places.found for places in found])
        if gone.any() and self.store.opened.gathered.nbytes:
            self.store.opened.write_gathered()
            return self._stored(keys)
        if gone.any():
            raise VanishedRowsError(
                f"{gone.sum()} of {len(keys)} rows have vanished from {self.store!r} "
                "while it was read: another process clears it, or keeps it within a "
                "size limit that is too small."
            )
        return catalogue.arrays(self.blocks, found)

    def _in_memory(self, keys: Keys) -> dict[Key, Any]:
        """Return a few rows, of which some may wait to be written."""
        rows = self.store.opened.gathered.rows(self.source.name, keys)
        there = [n for n, row in enumerate(rows) if not row.keys() >= {*self.blocks}]
        if there:
            with names_store(self.store.path):
                stored = self._stored(keys[there])
                read = {block: np.asarray(array) for block, array in stored.items()}
            for place, number in enumerate(there):
                rows[number] = {block: read[block][place] for block in self.blocks}
        return {block: np.stack([row[block] for row in rows]) for block in self.blocks}

    def computed(self, inputs: Rows) -> Values:
        """Return the wanted blocks of some rows without regard to the store."""
        with closing(self.compute(inputs, self.blocks)) as parts:
            values = [values for _, values in parts]
        return {
            block: np.concatenate([v[block] for v in values]).astype(self.dtype)
            for block in self.blocks
        }


def _check_widths(block: Key, parts: list[NDArray[Any]]) -> None:
    widths = {part.shape[1] for part in parts}
    if len(widths) > 1:
        raise ValueError(
            f"layer {block[0]!r} gave {' and '.join(map(str, sorted(widths)))} columns "
            f"of {block[1]!r} for different rows: inputs of several sizes need a "
            "statistic that pools."
        )
