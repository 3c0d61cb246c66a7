"""Inputs that are gone through once: generators, iterable data sets, webdataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

from torch.utils.data import DataLoader

from skood._progress import Meter
from skood.extraction.inputs import Inputs, Loaded, Preprocess, own_collate
from skood.extraction.memory import owned
from skood.extraction.rows import Items
from skood.extraction.samples import Takes, takes_of

__all__ = ["Stream"]

OWN_KEY = "__key__"
"""What webdataset calls an item's name."""


@dataclass(frozen=True)
class _Keyed:
    """An input that is known by a text, not by its content."""

    cache_key: str


class Stream:
    """Items of an iterable, some at a time, each gone through once.

    Parameters
    ----------
    X : iterable
        Yields items as a Dataset has them: an input, or an input and a label, or a
        mapping. A DataLoader of an IterableDataset counts as that data set.
    preprocess : callable or str, optional
        As for :class:`~skood.extraction.inputs.Inputs`.
    key : callable, optional
        From an item to a text by which it is known again in place of its content.

    Raises
    ------
    ValueError
        If nothing is yielded.
    """

    def __init__(
        self,
        X: Any,
        preprocess: Preprocess | None = None,
        key: Callable[[Any], str] | None = None,
    ) -> None:
        self._collate = own_collate(X)
        source: Any = X.dataset if isinstance(X, DataLoader) else X
        # Copies: a stream may yield one piece of memory again and again.
        self._items, self._preprocess, self._key = map(owned, source), preprocess, key
        self._seen: list[Any] = []
        self.takes: Takes = None
        self.meter = Meter()

    def into(self, network: Any) -> Stream:
        """Return the same, and note what of its items the network takes."""
        self.takes = takes_of(network)
        return self

    def first(self, count: int) -> Inputs:
        """Return the first items as inputs; they are yielded again."""
        with self.meter.reading(0):
            self._seen += islice(self._items, count - len(self._seen))
        if not self._seen:
            raise ValueError("X has 0 rows: a minimum of 1 is required.")
        return self._loaded(self._seen[:count]).inputs

    def windows(self, step: int) -> Iterator[Loaded]:
        """Yield consecutive rows in portions of at most ``step``."""
        items = chain(self._seen, self._items)
        while True:
            with self.meter.reading(0):
                portion = [*islice(items, step)]
            if not portion:
                return
            yield self._loaded(portion)

    def _loaded(self, items: list[Any]) -> Loaded:
        rows = Items(items, is_dataset=True, collate=self._collate)
        inputs = Inputs(rows, self._preprocess)
        inputs.meter, inputs.takes = self.meter, self.takes
        loaded = inputs.loaded(slice(None))
        if self._key is not None:
            keys: list[Any] = [_Keyed(str(self._key(item))) for item in items]
            loaded = replace(loaded, given=keys)
        named = [item for item in items if isinstance(item, Mapping)]
        if len(named) == len(items) and all(OWN_KEY in item for item in named):
            loaded = replace(loaded, ids=[item[OWN_KEY] for item in named])
        return loaded
