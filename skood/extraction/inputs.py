"""The rows of whatever a user gives as ``X``, one batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    default_collate,
)

from skood._progress import Meter
from skood.extraction.batch import Batch, as_batch
from skood.extraction.rows import Columns, Items, Rows, Several, Table, is_table
from skood.extraction.samples import Takes, takes_of
from skood.numerics.arrays import as_array, check_readable

__all__ = ["Inputs", "Loaded", "Preprocess", "is_stream", "own_collate"]

Preprocess = Callable[[Any], Any] | str

_KINDS = (
    "an array or tensor whose first axis is the rows, a tuple of such for a network of "
    "several inputs, a torch Dataset or DataLoader, a datasets.Dataset, a DataFrame, "
    "or a list of anything that preprocess turns into the network's input"
)


class Inputs:
    """The rows of ``X`` as batches of a network's input.

    Parameters
    ----------
    X : array, tensor, tuple, Dataset, DataLoader, DataFrame or list
        One input a row. It is never copied as a whole.
    preprocess : callable or str, optional
        Turns some rows (a slice of an array, tensor or frame; a tuple of slices of
        several; a list of items; a collated batch of a Dataset; a mapping of columns)
        into the network's input: a tensor or array, a tuple of positional arguments or
        a mapping of keyword arguments. A text is the name of a column.
    rows : ndarray of int, optional
        The rows to take, in their order; None takes all.

    Attributes
    ----------
    feeding : Feeding or None
        How other processes read them, if they do.

    Raises
    ------
    TypeError
        If ``X`` cannot be cut into rows: a text, a sparse matrix, a LazyFrame.
    ValueError
        If ``X`` has no rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.extraction.inputs import Inputs
    >>> inputs = Inputs(np.arange(8.0).reshape(4, 2))
    >>> len(inputs), inputs[slice(1, 3)].args[0]
    (4, tensor([[2., 3.], [4., 5.]], dtype=torch.float64))
    """

    def __init__(
        self,
        X: Any,
        preprocess: Preprocess | None = None,
        rows: NDArray[np.intp] | None = None,
    ) -> None:
        check_readable(X)
        self._cut = X if isinstance(X, Items) else as_rows(X)  # of a stream
        self._preprocess, self._rows = preprocess, rows
        self.meter = Meter()
        self.takes: Takes = None
        self.feeding: Any = None
        self._length = len(self._cut) if rows is None else len(rows)
        if self._length == 0:
            shape = getattr(X, "shape", None)
            found = f" (shape {tuple(shape)})" if shape is not None else ""
            raise ValueError(f"X has 0 rows{found}: a minimum of 1 is required.")

    def _with(self, cut: Rows, rows: NDArray[np.intp]) -> Inputs:
        other = object.__new__(type(self))
        other._cut, other._preprocess, other._rows = cut, self._preprocess, rows
        other.meter, other._length = self.meter, len(rows)
        other.feeding = None  # they are few, or in memory
        other.takes = self.takes
        return other

    def into(self, network: Any) -> Inputs:
        """Return the same, and note what of its items the network takes."""
        self.takes = takes_of(network)
        return self

    def __len__(self) -> int:
        return self._length

    @property
    def is_fed(self) -> bool:
        """Whether batches are in memory that nobody else writes to."""
        return False

    def gives_away(self, batch: Batch) -> bool:
        """Return whether nobody else has the memory of a batch of these rows.

        Whoever asks may change it.
        """
        return self.stacks_rows

    @property
    def stacks_rows(self) -> bool:
        """Whether a batch is the given rows, copied one behind the other."""
        return self._cut.makes_own and self._preprocess is None

    @property
    def is_array(self) -> bool:
        """Whether rows are cut from an array or frame, not loaded one by one."""
        return self._cut.is_array

    @property
    def has_preprocess(self) -> bool:
        """Whether the user turns rows into the network's input."""
        return callable(self._preprocess)

    @property
    def as_tensor(self) -> str:
        """How a preprocess begins that makes a tensor of the rows, for messages."""
        return self._cut.as_tensor

    def take(self, rows: NDArray[np.intp]) -> Inputs:
        """Return some rows of these inputs."""
        return self._with(self._cut, self.numbers(slice(None))[rows])

    def between(self, rows: slice) -> Inputs:
        """Return consecutive rows of these inputs, read in the same way."""
        part = self._with(self._cut, self.numbers(rows))
        part.feeding = self.feeding
        return part

    def numbers(self, rows: slice) -> NDArray[np.intp]:
        """Return which rows of ``X`` a slice of these inputs is."""
        if self._rows is None:
            return np.arange(*rows.indices(self._length), dtype=np.intp)
        return self._rows[rows]

    def __getitem__(self, rows: slice) -> Batch:
        """Return a batch, checked.

        Raises
        ------
        TypeError
            If the rows do not make a tensor.
        ValueError
            If there is NaN or infinity, or preprocess changed the number of rows.
        """
        numbers = self.numbers(rows)
        with self.meter.reading(len(numbers)):
            chosen = rows if self._rows is None else numbers
            part = self._cut.part(
                chosen, is_raw=self._preprocess is None, takes=self.takes
            )
            return as_batch(self._prepared(part), numbers, not self.has_preprocess)

    def _prepared(self, part: Any) -> Any:
        if self._preprocess is None:
            return part
        if isinstance(self._preprocess, str):
            return _column(part, self._preprocess)
        try:
            return self._preprocess(part)
        except Exception as error:
            if isinstance(part, tuple) and hasattr(error, "add_note"):
                error.add_note(
                    f"preprocess got a tuple of {len(part)} parts, which may all be "
                    "inputs: preprocess=lambda parts: ... parts[0] ... takes the first."
                )
            raise

    def loaded(self, rows: slice) -> Loaded:
        """Return some rows as they were given, and as inputs that load them no more."""
        numbers = self.numbers(rows)
        with self.meter.reading(0):
            given, labels, held = self._cut.loaded(numbers, self.takes)
        return Loaded(given, labels, self._with(held, numbers))


@dataclass(frozen=True)
class Loaded:
    """Rows of ``X`` in memory.

    Parameters
    ----------
    given : array, tensor, DataFrame or list
        The rows before any preprocessing, one for each.
    labels : list, optional
        What a Dataset's items have beside their inputs.
    inputs : Inputs
        The rows as batches.
    ids : list, optional
        The names that a stream's items have for themselves.
    keys : ndarray of uint8, shape (n, 16), optional
        The rows' keys, if they have been made.
    """

    given: Any
    labels: list[Any] | None
    inputs: Inputs
    ids: list[Any] | None = None
    keys: Any = None

    def __post_init__(self) -> None:
        # Each row is known again by its own key: of another number of them every
        # feature after the first difference would be another row's.
        for name in ("given", "labels", "ids"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.inputs):
                raise ValueError(
                    f"{len(self.inputs)} rows of X came with {len(column)} {name}: X "
                    "is of a kind whose rows cannot be told apart."
                )


def as_rows(X: Any) -> Rows:
    """Return how the rows of what a user gave are cut.

    Raises
    ------
    TypeError
        If it has no rows to cut.
    """
    if isinstance(X, DataLoader):
        return _of_loader(X)
    if isinstance(X, Dataset) and not isinstance(X, IterableDataset):
        return Items(X, is_dataset=True)
    refused = isinstance(X, (str, bytes, Mapping, IterableDataset)) or issparse(X)
    if refused or getattr(X, "shape", None) == ():
        raise TypeError(f"X is a {type(X).__name__}; wanted is {_KINDS}.{_hint(X)}")
    if isinstance(X, tuple) and len(X) > 0 and all(map(is_table, X)):
        return Several(X)
    if is_table(X):
        return Table(X)
    if not hasattr(X, "__getitem__") or not hasattr(X, "__len__"):
        raise TypeError(f"X is a {type(X).__name__}; wanted is {_KINDS}.{_hint(X)}")
    if hasattr(X, "column_names") and hasattr(X, "features"):
        return Columns(X)
    return Items(X)


def is_stream(X: Any) -> bool:
    """Return whether something has rows to go through, and none to cut."""
    if isinstance(X, DataLoader):
        return isinstance(X.dataset, IterableDataset)
    if isinstance(X, (str, bytes, Mapping)) or type(X).__name__ == "LazyFrame":
        return False
    is_cut = hasattr(X, "__getitem__") and hasattr(X, "__len__")
    is_iterable = isinstance(X, IterableDataset)
    return is_iterable or (hasattr(X, "__iter__") and not is_cut and not is_table(X))


def _hint(X: Any) -> str:
    if is_stream(X):
        return (
            " What can only be gone through once goes to a store, by extract_to(store, "
            "X); or make a list of it."
        )
    if not isinstance(X, Mapping):
        return ""
    return (
        " If a tokenizer made it, give the texts as X and the tokenizer as preprocess: "
        "functools.partial(tokenizer, padding=True, return_tensors='pt'). For several "
        "inputs by name give X=(a, b) and preprocess=lambda parts: {'a': parts[0], "
        "'b': parts[1]}."
    )


def _of_loader(loader: DataLoader[Any]) -> Rows:
    """Return the rows of a loader's data set: in its own order, if the loader shuffles.

    Raises
    ------
    TypeError
        If the loader draws rows by chance, or has none to cut.
    """
    if isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
        raise TypeError(
            "X is a DataLoader of an IterableDataset, or one without batches; wanted "
            f"is {_KINDS}.{_hint(loader)}"
        )
    dataset, batches = cast(Any, loader.dataset), loader.batch_sampler
    sampler: Any = batches
    if type(batches) is BatchSampler:
        sampler = batches.sampler
    shuffles = isinstance(sampler, RandomSampler) and not sampler.replacement
    shuffles = shuffles and len(sampler) == len(dataset)
    if not (shuffles or isinstance(sampler, SequentialSampler)):
        rows = _chosen_rows(sampler, len(dataset))
        dataset = dataset if rows is None else Subset(dataset, rows)
    return Items(dataset, is_dataset=True, collate=own_collate(loader))


def own_collate(X: Any) -> Callable[[list[Any]], Any] | None:
    """Return what a loader makes batches with in place of torch's own."""
    if not isinstance(X, DataLoader) or X.batch_sampler is None:
        return None  # of single items it makes no batch
    return None if X.collate_fn is default_collate else X.collate_fn


def _chosen_rows(sampler: Any, length: int) -> list[int] | None:
    """Return the rows that a sampler draws; None if it only shuffles all of them."""
    rows, again = _drawn(sampler), _drawn(sampler)
    if rows == again:
        return rows
    if sorted(rows) == sorted(again) == [*range(length)]:
        return None
    raise TypeError(
        f"X is a DataLoader whose {type(sampler).__name__} draws rows by chance: "
        "nobody could tell which features are whose. Give loader.dataset, or "
        "torch.utils.data.Subset(loader.dataset, rows)."
    )


def _drawn(sampler: Any) -> list[int]:
    """Return the rows of a sampler, or of one that draws batches of them."""
    drawn: list[int] = []
    for rows in sampler:
        drawn += map(int, rows) if isinstance(rows, (list, tuple)) else [int(rows)]
    return drawn


def _column(part: Any, name: str) -> Any:
    """Return a column of rows that have names for them.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    named = part if isinstance(part, Mapping) else getattr(part, "columns", ())
    names = [*named]
    if name not in names:
        there = f"the columns are {names}" if names else "X has no named columns"
        raise ValueError(f"preprocess={name!r} is the name of a column, but {there}.")
    column = part[name]
    return column if isinstance(part, Mapping) else as_array(column)
