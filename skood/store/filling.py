"""Filling a store: of the rows that are wanted, compute those that it lacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from types import TracebackType
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skood.features import Key
from skood.store.catalogue import Blocks, array_name
from skood.store.feature_store import FeatureStore
from skood.store.identity.source import Source
from skood.store.index import Keys, first_of_each
from skood.store.shard import Shard
from skood.store.stored_array import VanishedRowsError

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
    """

    def __init__(
        self,
        store: FeatureStore,
        source: Source,
        blocks: Blocks,
        compute: Compute,
        dtype: np.dtype[Any],
    ) -> None:
        self.store, self.source = store, source
        self.blocks, self.compute, self.dtype = blocks, compute, dtype
        self._buffers: dict[Blocks, list[tuple[Keys, Values]]] = {}
        self._claims: list[Any] = []
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
            self.flush()
        finally:
            self._let_go()

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
            self._let_go()
        todo = first_of_each(keys)
        todo = todo[self._absent(keys[todo]).any(axis=1)]
        self.store.opened.count(hits=len(keys) - len(todo))
        while len(todo):
            claim, mine = self.store.opened.claims.claim(keys[todo])
            if claim is None:
                # Perhaps this very pass holds them; and whoever waits holds nothing.
                self.flush()
                time.sleep(WAIT_SECONDS)
            else:
                self._claims.append(claim)
                self._compute(keys, inputs, todo[mine])
            others = todo[~mine]
            todo = others[self._absent(keys[others]).any(axis=1)]
            self.store.opened.count(hits=len(others) - len(todo))

    def lacking(self, keys: Keys) -> Blocks:
        """Return the wanted blocks that some of the rows lack."""
        absent = zip(self.blocks, map(any, self._absent(keys).T), strict=True)
        return tuple(block for block, is_absent in absent if is_absent)

    def _absent(self, keys: Keys) -> NDArray[np.bool_]:
        """Return which blocks of which rows are not in the store."""
        found = self.store.opened.catalogue.verified_places(
            self.source.name, self.blocks, keys
        )
        return np.column_stack([~places.found for places in found])

    def _compute(self, keys: Keys, inputs: Rows, rows: NDArray[np.intp]) -> None:
        # Looked up again: somebody may have written them before they were claimed.
        absent = self._absent(keys[rows])
        for pattern in np.unique(absent, axis=0):
            chosen = rows[(absent == pattern).all(axis=1)]
            if not pattern.any():
                self.store.opened.count(hits=len(chosen))
                continue
            names = zip(self.blocks, pattern, strict=True)
            blocks = tuple(block for block, missing in names if missing)
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
        self._buffers.setdefault(tuple(wanted), []).append((keys, wanted))
        self._bytes += keys.nbytes + sum(array.nbytes for array in wanted.values())
        is_full = self._bytes >= self.store.shard_bytes
        if is_full or time.monotonic() - self._begun > self.store.flush_seconds:
            self._write()

    def flush(self) -> list[Shard]:
        """Write what was computed, let go of its rows, and return the new shards."""
        written = self._write()
        self._let_go()
        return written

    def _write(self) -> list[Shard]:
        written = []
        while self._buffers:
            blocks, parts = self._buffers.popitem()
            arrays = {"keys": np.concatenate([keys for keys, _ in parts])}
            for block in blocks:
                _check_widths(block, [values[block] for _, values in parts])
                columns = [values[block] for _, values in parts]
                arrays[array_name(block)] = np.concatenate(columns)
            about = self.source.about()
            written.append(self.store.opened.add("features", arrays, about))
        self._bytes, self._begun = 0, time.monotonic()
        return written

    def _let_go(self) -> None:
        while self._claims:
            self._claims.pop().release()

    # Reading back ----------------------------------------------------------------

    def arrays(self, keys: Keys) -> dict[Key, Any]:
        """Return the wanted blocks of rows that were filled in, read when asked.

        Raises
        ------
        VanishedRowsError
            If somebody has deleted rows in the meantime.
        """
        self.flush()
        catalogue = self.store.opened.catalogue
        found = catalogue.verified_places(self.source.name, self.blocks, keys)
        gone = ~np.logical_and.reduce([places.found for places in found])
        if gone.any():
            raise VanishedRowsError(
                f"{gone.sum()} of {len(keys)} rows have vanished from {self.store!r} "
                "while it was read: another process clears it, or keeps it within a "
                "size limit that is too small."
            )
        return catalogue.arrays(self.blocks, found)

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
