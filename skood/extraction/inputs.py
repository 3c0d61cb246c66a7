"""The rows of whatever a user gives as ``X``, one batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from skood._arrays import check_readable
from skood.extraction.batch import Batch, as_batch

__all__ = ["Inputs", "Loaded"]

Preprocess = Callable[[Any], Any]

_KINDS = (
    "an array or tensor whose first axis is the rows, a torch Dataset, a DataFrame, or "
    "a list of anything that preprocess turns into the network's input"
)


class Inputs:
    """The rows of ``X`` as batches of a network's input.

    Parameters
    ----------
    X : array, tensor, Dataset, DataFrame or list
        One input a row. It is never copied as a whole.
    preprocess : callable, optional
        Turns some rows (a slice of an array, tensor or frame; a list of items; a
        collated batch of a Dataset) into the network's input: a tensor or array, a
        tuple of positional arguments or a mapping of keyword arguments.
    rows : ndarray of int, optional
        The rows to take, in their order; None takes all.

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
        self._X, self._preprocess, self._rows = X, preprocess, rows
        self._length = _n_rows(X) if rows is None else len(rows)
        if self._length == 0:
            shape = getattr(X, "shape", None)
            found = f" (shape {tuple(shape)})" if shape is not None else ""
            raise ValueError(f"X has 0 rows{found}: a minimum of 1 is required.")

    def __len__(self) -> int:
        return self._length

    @property
    def is_array(self) -> bool:
        """Whether rows are cut from an array or frame, not loaded one by one."""
        return hasattr(self._X, "iloc") or hasattr(self._X, "shape")

    def take(self, rows: NDArray[np.intp]) -> Inputs:
        """Return some rows of these inputs."""
        return Inputs(self._X, self._preprocess, self.numbers(slice(None))[rows])

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
        part = _part(self._X, rows if self._rows is None else self._rows[rows])
        if self._preprocess is not None:
            part = self._preprocess(part)
        return as_batch(part, numbers, self._preprocess is None)

    def loaded(self, rows: slice) -> Loaded:
        """Return some rows as they were given, and as inputs that load them no more."""
        numbers = self.numbers(rows)
        if self.is_array:
            part = _part(self._X, numbers)
            return Loaded(part, None, Inputs(self._X, self._preprocess, numbers))
        items = [self._X[int(number)] for number in numbers]
        held: Any = dict(zip(numbers.tolist(), items, strict=True))
        if isinstance(self._X, Dataset) or _is_sample(items[0]):
            inputs = Inputs(_Held(held), self._preprocess, numbers)
            return Loaded(_firsts(items), _seconds(items), inputs)
        return Loaded(items, None, Inputs(held, self._preprocess, numbers))


@dataclass(frozen=True)
class Loaded:
    """Rows of ``X`` in memory.

    Parameters
    ----------
    given : array, tensor, DataFrame or list
        The rows before any preprocessing.
    labels : list, optional
        What a Dataset's items have beside their inputs.
    inputs : Inputs
        The rows as batches.
    """

    given: Any
    labels: list[Any] | None
    inputs: Inputs


class _Held(Dataset[Any]):
    """Items of a Dataset by their numbers."""

    def __init__(self, items: Mapping[int, Any]) -> None:
        self._items = items

    def __getitem__(self, number: int) -> Any:
        return self._items[number]


# Cutting ---------------------------------------------------------------------------


def _n_rows(X: Any) -> int:
    if isinstance(X, (str, bytes, Mapping, IterableDataset)) or issparse(X):
        raise TypeError(f"X is a {type(X).__name__}; wanted is {_KINDS}.{_hint(X)}")
    if isinstance(X, DataLoader):
        raise TypeError(
            "X is a DataLoader, which may shuffle: give loader.dataset, and batch_size."
        )
    shape = getattr(X, "shape", None)
    if shape is not None and len(shape) > 0:
        return int(shape[0])
    if not hasattr(X, "__getitem__") or not hasattr(X, "__len__") or shape is not None:
        raise TypeError(f"X is a {type(X).__name__}; wanted is {_KINDS}.")
    return len(X)


def _hint(X: Any) -> str:
    if not isinstance(X, Mapping):
        return ""
    return (
        " If a tokenizer made it, give the texts as X and the tokenizer as preprocess: "
        "functools.partial(tokenizer, padding=True, return_tensors='pt')."
    )


def _part(X: Any, rows: slice | NDArray[np.intp]) -> Any:
    """Return some rows of X: an array, a tensor, a frame or a list of items."""
    if hasattr(X, "iloc") or hasattr(X, "shape"):
        rows = _as_slice(rows)
    if hasattr(X, "iloc"):
        part = X.iloc[rows]
        return part.tolist() if part.ndim == 1 else part
    if hasattr(X, "shape"):
        return _listed_texts(X[rows])
    numbers = range(len(X))[rows] if isinstance(rows, slice) else rows
    items = [X[int(number)] for number in numbers]
    return _collated(items) if isinstance(X, Dataset) or _is_sample(items[0]) else items


def _listed_texts(part: Any) -> Any:
    """Return rows as they are, but a column of texts or of a polars frame as a list."""
    if isinstance(part, np.ndarray):
        return part.tolist() if part.ndim == 1 and part.dtype.kind in "OUST" else part
    return part.to_list() if hasattr(part, "to_list") and len(part.shape) == 1 else part


def _as_slice(rows: slice | NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """Return rows that follow one another as a slice, which copies nothing."""
    if isinstance(rows, slice) or len(rows) == 0 or (np.diff(rows) != 1).any():
        return rows
    return slice(int(rows[0]), int(rows[-1]) + 1)


def _is_sample(item: Any) -> bool:
    """Return whether an item is one of a torch Dataset, whatever list it is in.

    Scikit-learn's splitters cut a Dataset into a list of its items.
    """
    first = item[0] if isinstance(item, tuple) and item else item
    return isinstance(first, Tensor)


def _collated(items: list[Any]) -> Any:
    """Return the first elements of a Dataset's items as one batch, if they make one."""
    firsts = _firsts(items)
    try:
        return default_collate(firsts)
    except TypeError:
        return firsts


def _firsts(items: list[Any]) -> list[Any]:
    return [item[0] if isinstance(item, (tuple, list)) else item for item in items]


def _seconds(items: list[Any]) -> list[Any] | None:
    if all(isinstance(item, (tuple, list)) and len(item) > 1 for item in items):
        return [item[1] for item in items]
    return None
