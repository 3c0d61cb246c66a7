"""What a user gives as ``X``, cut into rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from numbers import Number
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, default_collate

__all__ = [
    "Columns",
    "Items",
    "Rows",
    "Several",
    "Table",
    "Takes",
    "inputs_of",
    "is_table",
    "takes_of",
]

LABELS = ("label", "labels")
"""Columns of a data set with named columns that hold classes."""

Numbers = slice | NDArray[np.intp]

Takes = tuple[int, int] | None
"""How many inputs a network takes by position, at least and at most, if known."""


class Rows(Protocol):
    """Some inputs by their numbers.

    ``as_tensor`` is how the rows that ``preprocess`` gets become a tensor, as the head
    of a lambda, for messages.
    """

    is_array: bool
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
        inside = "rows" if is_dataset else "np.stack(rows)"
        self.as_tensor = f"rows: torch.as_tensor({inside})"

    def __len__(self) -> int:
        return len(self._X)

    def part(self, rows: Numbers, *, is_raw: bool = False, takes: Takes = None) -> Any:
        """Return a list of items, or of what are samples their collated inputs."""
        length = len(self._X) if isinstance(rows, slice) else 0
        items = [self._X[int(number)] for number in _listed(rows, length)]
        if self._collate is not None:
            return _only_input(self._collate(items)) if is_raw else self._collate(items)
        if self._is_dataset or _is_sample(items[0]):
            return _collated(items, is_raw, takes)
        if is_raw and all(map(_is_record, items)):
            return _stacked(items)
        return items

    def loaded(
        self, numbers: NDArray[np.intp], takes: Takes = None
    ) -> tuple[Sequence[Any], Any, Rows]:
        """Return the items' inputs and labels, and the items in memory."""
        items = [self._X[int(number)] for number in numbers]
        held = _Held(dict(zip(numbers.tolist(), items, strict=True)))
        rows = Items(held, self._is_dataset, self._collate)
        if not (self._is_dataset or _is_sample(items[0])):
            return items, None, rows
        parts = [inputs_of(item, takes) for item in items]
        given = [part[0] if len(part) == 1 else part for part in parts]
        return given, _labels(items, takes), rows


class _Held:
    """Items by their numbers."""

    def __init__(self, items: Mapping[int, Any]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, number: int) -> Any:
        return self._items[number]


# Samples ---------------------------------------------------------------------------


def _is_sample(item: Any) -> bool:
    """Return whether an item of a list is one of a Dataset: an input and a label."""
    if not isinstance(item, tuple) or len(item) == 0:
        return False
    plain = (Number, str, bytes, tuple, list, type(None))
    return not isinstance(item[0], plain) or _is_input(item[0])


def _is_input(part: Any) -> bool:
    """Return whether a part of an item, but for the first one, may be an input."""
    if isinstance(part, (Tensor, np.ndarray)):
        return part.ndim > 0
    return hasattr(part, "convert") and hasattr(part, "resize")  # an image of PIL


def _is_record(item: Any) -> bool:
    """Return whether an item holds named arrays."""
    if not isinstance(item, Mapping):
        return False
    return all(isinstance(part, (Tensor, np.ndarray)) for part in item.values())


def inputs_of(item: Any, takes: Takes) -> tuple[Any, ...]:
    """Return the parts of a Dataset's item that may be inputs, the first one anyway.

    Where the network takes a single input, what comes after it are targets.
    """
    if not isinstance(item, (tuple, list)):
        return (_without_notes(item),)
    if takes is not None and takes[1] == 1:
        return (_without_notes(item[0]),)
    return (_without_notes(item[0]), *filter(_is_input, item[1:]))


def _without_notes(item: Any) -> Any:
    """Return a mapping without what says where it is from, as ``"__key__"``."""
    if isinstance(item, Mapping) and any(_is_note(name) for name in item):
        return {name: part for name, part in item.items() if not _is_note(name)}
    return item


def _is_note(name: Any) -> bool:
    return isinstance(name, str) and name.startswith("__")


def _labels(items: list[Any], takes: Takes) -> list[Any] | None:
    if not all(isinstance(item, (tuple, list)) and len(item) > 1 for item in items):
        return None
    beside = [item[len(inputs_of(item, takes)) :] for item in items]
    return [part[0] for part in beside] if all(beside) else None


def _collated(items: list[Any], is_raw: bool, takes: Takes) -> Any:
    """Return the inputs of a Dataset's items as a batch, several of them as a tuple."""
    parts = [inputs_of(item, takes) for item in items]
    several = len(parts[0]) > 1 and all(len(part) == len(parts[0]) for part in parts)
    if not several:
        return _stacked([part[0] for part in parts])
    if is_raw and (takes is None or takes[0] < len(parts[0])):
        raise TypeError(_SEVERAL.format(len(parts[0]), _shown(parts[0])))
    return tuple(_stacked([*column]) for column in zip(*parts, strict=True))


_SEVERAL = (
    "each item of X has {} parts that may be inputs ({}): say which of them the "
    "network takes. preprocess=lambda parts: parts[0] takes the first, where the "
    "others are targets; preprocess=lambda parts: parts takes all, by position; a "
    "mapping gives them by name."
)


def _shown(parts: Sequence[Any]) -> str:
    shapes = (getattr(part, "shape", None) for part in parts)
    kinds = zip(parts, shapes, strict=True)
    return ", ".join(
        type(part).__name__ if shape is None else f"shape {tuple(shape)}"
        for part, shape in kinds
    )


def _stacked(parts: list[Any]) -> Any:
    """Return parts as one batch, or as they are where they do not make one."""
    try:
        return default_collate(parts)
    except (TypeError, RuntimeError):  # of no known kind, or of several lengths
        return parts


def _only_input(batch: Any) -> Any:
    """Return the input in a batch that a loader's own function made."""
    if not isinstance(batch, (tuple, list)):
        return batch
    if len(batch) == 1 or (len(batch) == 2 and getattr(batch[1], "ndim", 0) < 2):
        return batch[0]
    raise TypeError(_SEVERAL.format(len(batch), _shown(batch)))


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


def takes_of(network: Any) -> Takes:
    """Return how many inputs a network takes by position, None where it does not say.

    Examples
    --------
    >>> from torch import nn
    >>> from skood.extraction.rows import takes_of
    >>> takes_of(nn.Linear(2, 2)), takes_of(nn.Bilinear(2, 2, 2))
    ((1, 1), (2, 2))
    """
    try:
        given = inspect.signature(network.forward).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind == p.VAR_POSITIONAL for p in given):
        return None
    placed = [
        p for p in given if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return sum(p.default is p.empty for p in placed), len(placed)
