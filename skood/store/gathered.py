"""Rows of small passes, gathered in memory until they make a shard worth a file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.features import Key
from skood.store.index import Keys, stacked

__all__ = ["Gathered"]

Row = dict[Key, NDArray[Any]]


class Gathered:
    """Rows by their source and key. Any number of threads may use it."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._rows: dict[str, dict[bytes, Row]] = {}
        self._about: dict[str, Mapping[str, str]] = {}
        self.nbytes = 0

    def add(
        self, about: Mapping[str, str], keys: Keys, values: Mapping[Key, NDArray[Any]]
    ) -> None:
        """Gather some rows of a source.

        Parameters
        ----------
        about : mapping of str to str
            What a shard of the source says about it.
        keys : ndarray of uint8, shape (n, 16)
            The rows' keys.
        values : dict of (layer, statistic) to array of shape (n, columns)
            Their blocks.
        """
        with self._lock:
            self._about[about["source"]] = about
            rows = self._rows.setdefault(about["source"], {})
            for number, key in enumerate(keys):
                row = rows.setdefault(key.tobytes(), {})
                self.nbytes += 0 if row else key.nbytes
                for block in values.keys() - row.keys():
                    row[block] = values[block][number]
                    self.nbytes += row[block].nbytes

    def found(self, source: str, block: Key, keys: Keys) -> NDArray[np.bool_]:
        """Return which rows are here with a block."""
        with self._lock:
            rows = self._rows.get(source)
            if not rows:
                return np.zeros(len(keys), dtype=bool)
            here = [block in rows.get(key.tobytes(), ()) for key in keys]
            return np.array(here, dtype=bool)

    def rows(self, source: str, keys: Keys) -> list[Row]:
        """Return what is here of some rows; an empty dict for the others."""
        with self._lock:
            rows = self._rows.get(source, {})
            return [dict(rows.get(key.tobytes(), {})) for key in keys]

    def tables(self) -> Iterator[tuple[Mapping[str, str], Keys, Row]]:
        """Yield everything as whole tables, each of which is forgotten afterwards.

        Until then its rows are found here, and then where they were written to.
        """
        with self._lock:
            sources = {source: dict(rows) for source, rows in self._rows.items()}
        for source, rows in sources.items():
            alike: dict[Any, list[bytes]] = defaultdict(list)
            for key, row in rows.items():
                alike[tuple((b, part.shape) for b, part in row.items())].append(key)
            for names in alike.values():
                tables = {
                    block: np.stack([rows[name][block] for name in names])
                    for block in rows[names[0]]
                }
                yield self._about[source], stacked(names), tables
                self._forget(source, names)

    def _forget(self, source: str, names: list[bytes]) -> None:
        with self._lock:
            for name in names:
                for part in self._rows.get(source, {}).pop(name, {}).values():
                    self.nbytes -= part.nbytes
                self.nbytes -= len(name)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._rows, self.nbytes = {}, 0
