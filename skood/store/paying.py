"""Whether a cache pays: passes whose inputs had all been computed before, in vain."""

from __future__ import annotations

import warnings
from threading import Lock
from typing import Any

from skood.store.catalogue import Blocks
from skood.store.identity.source import Source
from skood.store.index import Keys

__all__ = ["Paying"]

ASKED_FOR = {"dtype", "autocast", "channels", "device"}
"""Settings that are changed on purpose, and make other features."""

LOOKED_AT = 4096
"""Rows of a pass by which it is known again."""

REMEMBERED = 1_000_000

IN_A_ROW = 2

OF_PROBE = 2
"""Rows that the probe before a pass may have computed for it."""


class Paying:
    """Counts the passes of a process in which no row was found that should have been.

    Attributes
    ----------
    in_vain : int
        How many there were.
    """

    def __init__(self) -> None:
        self.in_vain = self._in_a_row = 0
        self._seen: set[bytes] = set()
        self._last: tuple[Source, Blocks] | None = None
        self._lock = Lock()

    def passed(
        self, store: Any, source: Source, blocks: Blocks, keys: Keys, n_missed: int
    ) -> None:
        """Take note of a pass.

        Parameters
        ----------
        store : FeatureStore
            For the message.
        source, blocks : Source, tuple of (layer, statistic)
            What was wanted.
        keys : ndarray of uint8, shape (n, 16)
            The different rows of the pass.
        n_missed : int
            How many of them were computed.

        Warns
        -----
        UserWarning
            If all of them were, twice in a row, though they had been before.
        """
        names = {key.tobytes() for key in keys[:LOOKED_AT]}
        with self._lock:
            last, self._last = self._last, (source, blocks)
            again = bool(names) and names <= self._seen and _same_wish(last, self._last)
            if len(self._seen) < REMEMBERED:
                self._seen |= names
            in_vain = again and n_missed >= max(1, len(keys) - OF_PROBE)
            self.in_vain += in_vain
            self._in_a_row = self._in_a_row + 1 if in_vain else 0
            tell = in_vain and self._in_a_row == IN_A_ROW
        if tell and last is not None:
            warnings.warn(_message(store, last[0], source, len(keys)), stacklevel=2)


def _same_wish(one: tuple[Source, Blocks] | None, other: tuple[Source, Blocks]) -> bool:
    if one is None or one[1] != other[1]:
        return False
    differ = _differing(one[0], other[0])
    return not differ or not differ <= ASKED_FOR


def _differing(one: Source, other: Source) -> set[str]:
    names = one.parts.keys() | other.parts.keys()
    return {name for name in names if one.parts.get(name) != other.parts.get(name)}


def _message(store: Any, before: Source, now: Source, n_rows: int) -> str:
    differ = ", ".join(sorted(_differing(before, now)))
    why = (
        f"the {differ} of the network are other ones each time: what changes there "
        "may be no configuration, but a memory or a counter, and a cache_key (a text "
        "that you change whenever the results do) on the network, the part or "
        "preprocess says so"
        if differ
        else "they have been deleted since, as by a max_bytes that is too small"
    )
    return (
        f"the cache {store!r} does not pay: twice in a row all {n_rows} rows were "
        f"computed though they had been before; {why}."
    )
