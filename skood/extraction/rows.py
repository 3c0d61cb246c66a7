"""What a user gives as ``X``, cut into rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from skood.extraction.memory import owned, read
from skood.extraction.samples import (
    Takes,
    collated,
    inputs_of,
    is_record,
    is_sample,
    labels_of,
    only_input,
    stacked,
)

__all__ = ["Columns", "Items", "Rows", "Several", "Table", "is_table"]

LABELS = ("label", "labels")
"""Columns of a data set with named columns that hold classes."""

Numbers = slice | NDArray[np.intp]


class Rows(Protocol):
    """Some inputs by their numbers.

    ``as_tensor`` is how the rows that ``preprocess`` gets become a tensor, as the head
    of a lambda, for messages; ``makes_own`` whether a tensor that ``part`` makes shares
    no memory with what the user gave.
    """

    is_array: bool
    makes_own: bool
    as_tensor: str

    def __len__(self) -> int: ...

    def part(self, rows: Numbers, *, is_raw: bool, takes: Takes = None) -> Any:
        """Return some rows as ``preprocess`` gets them, or the network if it is raw."""

    def loaded(
        self, numbers: NDArray[np.intp], takes: Takes = None
    ) -> tuple[Sequence[Any], Any, Rows]:
        """Return rows one by one, their labels, and the same rows held in memory."""


def is_table(X: Any) -> bool:
    """Return whether rows can be cut from something as from an array or a frame.

    A ``shape`` alone is none: data sets of named columns have one, too.
    """
    if hasattr(X, "iloc"):
        return True
    is_cut = hasattr(X, "dtype") or hasattr(X, "__array__")
    return is_cut and len(getattr(X, "shape", ())) > 0 and not isinstance(X, Dataset)


class Table:
    """Rows of an array, a tensor or a frame."""

    is_array = True
    makes_own = False
    as_tensor = "rows: torch.as_tensor(rows)"

    def __init__(self, X: Any) -> None:
        self._X = X

    def __len__(self) -> int:
        return int(self._X.shape[0])

    def part(self, rows: Numbers, *, is_raw: bool = False, takes: Takes = None) -> Any:
        """Return rows: a slice where they follow one another, which copies nothing."""
        rows = _as_slice(rows)
        if hasattr(self._X, "iloc"):
            part = self._X.iloc[rows]
            return part.tolist() if part.ndim == 1 else part
        return _listed_texts(self._X[rows])

    def loaded(
        self, numbers: NDArray[np.intp], takes: Takes = None
    ) -> tuple[Sequence[Any], Any, Rows]:
        """Return rows, no labels, and the table, which is in memory as it is."""
        return self.part(numbers), None, self


class Several:
    """Rows of several tables: the inputs of a network that takes more than one."""

    is_array = True
    makes_own = False
    as_tensor = "parts: torch.as_tensor(parts[0])"

    def __init__(self, tables: Sequence[Any]) -> None:
        self._tables = [Table(table) for table in tables]
        lengths = [*map(len, self._tables)]
        if len(set(lengths)) > 1:
            raise ValueError(
                f"X is a tuple of arrays with {', '.join(map(str, lengths))} rows. A "
                "tuple holds the several inputs of one network, with as many rows "
                "each; rows of one input are a list or an array."
            )

    def __len__(self) -> int:
        return len(self._tables[0])

    def part(self, rows: Numbers, *, is_raw: bool = False, takes: Takes = None) -> Any:
        """Return a tuple of the tables' rows."""
        return tuple(table.part(rows) for table in self._tables)

    def loaded(
        self, numbers: NDArray[np.intp], takes: Takes = None
    ) -> tuple[Sequence[Any], Any, Rows]:
        """Return rows as tuples of their parts."""
        return [*zip(*self.part(numbers), strict=True)], None, self


class Columns:
    """Rows of a data set with named columns, as ``datasets.Dataset`` is one.

    Parameters
    ----------
    X : object
        ``X[rows]`` is a mapping from names to columns.
    places : dict of int to int, optional
        Where rows are in it, of one that holds only some.
    """

    is_array = False
    makes_own = False
    as_tensor = "rows: torch.as_tensor(np.stack(rows['column']))"

    def __init__(self, X: Any, places: Mapping[int, int] | None = None) -> None:
        self._X, self._places = X, places

    def __len__(self) -> int:
        return len(self._X)

    def part(self, rows: Numbers, *, is_raw: bool = False, takes: Takes = None) -> Any:
        """Return a mapping of columns, or the only one that is no label."""
        columns = self._columns(rows)
        if not is_raw:
            return columns
        chosen = [name for name in columns if name not in LABELS]
        if len(chosen) == 1:
            return columns[chosen[0]]
        raise TypeError(
            f"X is a data set with the columns {[*columns]}: choose one by its name, "
            f"preprocess={chosen[0] if chosen else 'x'!r}, or give a function of a "
            "mapping of columns that returns the network's input: preprocess=lambda "
            "rows: tokenizer(rows['text'], padding=True, return_tensors='pt'), say."
        )

    def _columns(self, rows: Numbers) -> dict[str, Any]:
        if self._places is None:
            rows = _as_slice(rows)
            return dict(self._X[rows if isinstance(rows, slice) else rows.tolist()])
        places = [self._places[int(number)] for number in _listed(rows, len(self))]
        return {name: _picked(column, places) for name, column in self._X.items()}

    def loaded(
        self, numbers: NDArray[np.intp], takes: Takes = None
    ) -> tuple[Sequence[Any], Any, Rows]:
        """Return rows as mappings without their labels, and the columns in memory."""
        columns = self._columns(numbers)
        labels = next((columns[name] for name in LABELS if name in columns), None)
        names = [name for name in columns if name not in LABELS]
        given = [{n: columns[n][row] for n in names} for row in range(len(numbers))]
        places = {int(number): place for place, number in enumerate(numbers)}
        labels = None if labels is None else [*labels]
        return given, labels, Columns(columns, places)


def _picked(column: Any, places: list[int]) -> Any:
    if hasattr(column, "shape"):
        return column[places]
    return [column[place] for place in places]


class Items:
    """Rows of a list, or of a torch Dataset.

    Parameters
    ----------
    X : object
        ``X[number]`` is an item.
    is_dataset : bool, default=False
        Whether items are batched as torch does it. So are those of a list that are a
        Dataset's, since scikit-learn's splitters cut a Dataset into such a list.
    collate : callable, optional
        Makes a batch of items, in place of torch's own.
    """

    is_array = False

    def __init__(
        self,
        X: Any,
        is_dataset: bool = False,
        collate: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        self._X, self._is_dataset, self._collate = X, is_dataset, collate
        self._is_held = type(X) in (list, tuple, _Held)
        self._copies = False  # until two items are found in the same memory
        self.makes_own = collate is None  # torch's own stacks items
        inside = "rows" if is_dataset else "np.stack(rows)"
        self.as_tensor = f"rows: torch.as_tensor({inside})"

    def __len__(self) -> int:
        return len(self._X)

    def part(self, rows: Numbers, *, is_raw: bool = False, takes: Takes = None) -> Any:
        """Return a list of items, or of what are samples their collated inputs."""
        length = len(self._X) if isinstance(rows, slice) else 0
        items = self._read(_listed(rows, length))
        if self._collate is not None:
            return only_input(self._collate(items)) if is_raw else self._collate(items)
        if self._is_dataset or is_sample(items[0]):
            return collated(items, is_raw, takes)
        if is_raw and all(map(is_record, items)):
            return stacked(items)
        return items

    def loaded(
        self, numbers: NDArray[np.intp], takes: Takes = None
    ) -> tuple[Sequence[Any], Any, Rows]:
        """Return the items' inputs and labels, and the items in memory."""
        items = self._read(numbers)
        held = _Held(dict(zip(numbers.tolist(), items, strict=True)))
        rows = Items(held, self._is_dataset, self._collate)
        if not (self._is_dataset or is_sample(items[0])):
            return items, None, rows
        parts = [inputs_of(item, takes) for item in items]
        given = [part[0] if len(part) == 1 else part for part in parts]
        return given, labels_of(items, takes), rows

    def _read(self, numbers: Iterable[int]) -> list[Any]:
        """Return items that stay as they are when others are read."""
        if self._is_held:
            return [self._X[int(number)] for number in numbers]
        if self._copies:
            return [owned(self._X[int(number)]) for number in numbers]
        items, self._copies = read(self._X.__getitem__, numbers)
        return items


class _Held:
    """Items by their numbers."""

    def __init__(self, items: Mapping[int, Any]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, number: int) -> Any:
        return self._items[number]


# Cutting ---------------------------------------------------------------------------


def _listed(rows: Numbers, length: int) -> Sequence[int] | NDArray[np.intp]:
    return range(length)[rows] if isinstance(rows, slice) else rows


def _listed_texts(part: Any) -> Any:
    """Return rows as they are, but a column of texts or of a polars frame as a list."""
    if isinstance(part, np.ndarray):
        return part.tolist() if part.ndim == 1 and part.dtype.kind in "OUST" else part
    return part.to_list() if hasattr(part, "to_list") and len(part.shape) == 1 else part


def _as_slice(rows: Numbers) -> Numbers:
    """Return rows that follow one another as a slice, which copies nothing."""
    if isinstance(rows, slice) or len(rows) == 0 or (np.diff(rows) != 1).any():
        return rows
    return slice(int(rows[0]), int(rows[-1]) + 1)
