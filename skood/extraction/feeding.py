"""Inputs that other processes read, decode and prepare while the network runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from skood.extraction.batch import Batch
from skood.extraction.inputs import Inputs, Loaded
from skood.store.row_keys import row_keys

__all__ = ["Feeding", "fed", "portions"]


@dataclass(frozen=True)
class Feeding:
    """How inputs are read by other processes.

    Parameters
    ----------
    num_workers : int
        Processes.
    prefetch_factor : int, optional
        Batches that each of them has ready; two by default.
    pinned : bool, default=False
        Whether batches are put where an accelerator copies them from by itself.
    """

    num_workers: int
    prefetch_factor: int | None = None
    pinned: bool = False


def portions(inputs: Inputs, batch_size: int) -> Iterator[tuple[int, Inputs]]:
    """Yield where consecutive rows begin, and these rows: all, or a batch as it is fed.

    Parameters
    ----------
    inputs : Inputs
        The rows.
    batch_size : int
        Rows in a batch.
    """
    if inputs.feeding is None:
        yield 0, inputs
        return
    start = 0
    for loaded in fed(inputs, batch_size, keyed=False):
        yield start, loaded.inputs
        start += len(loaded.inputs)


def fed(inputs: Inputs, batch_size: int, *, keyed: bool = True) -> Iterator[Loaded]:
    """Yield consecutive rows, read by other processes, in their order.

    Parameters
    ----------
    inputs : Inputs
        The rows, with a ``feeding``.
    batch_size : int
        Rows in a batch.
    keyed : bool, default=True
        Whether rows come with their keys, whose digests are then taken there, too.

    Yields
    ------
    Loaded

    Raises
    ------
    Exception
        What reading or preparing a row raised, with its number; RuntimeError if a
        process died.
    """
    feeding = inputs.feeding
    assert feeding is not None
    starts = range(0, len(inputs), batch_size)
    slices = [slice(start, min(start + batch_size, len(inputs))) for start in starts]
    loader: DataLoader[Any] = DataLoader(
        _Batches(inputs, slices, keyed),
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=feeding.num_workers,
        prefetch_factor=feeding.prefetch_factor,
        pin_memory=feeding.pinned,
        generator=torch.Generator(),  # torch's own draws a seed for the workers
    )
    batches = iter(loader)
    ahead = feeding.num_workers * (feeding.prefetch_factor or 2) * batch_size
    for rows in slices:
        with inputs.meter.reading(rows.stop - rows.start):
            with _told_of_death(inputs.numbers(slice(rows.start, rows.stop + ahead))):
                parts = next(batches)
            loaded = _as_loaded(inputs, rows, parts)
        yield loaded


@contextmanager
def _told_of_death(numbers: NDArray[np.intp]) -> Iterator[None]:
    """Say which rows were on their way when a process died."""
    try:
        yield
    except RuntimeError as error:  # as torch tells it
        raise RuntimeError(
            f"a process that reads inputs died over one of the rows {numbers[0]} to "
            f"{numbers[-1]} of X ({error}). With num_workers=0 they are read in this "
            "process, where one sees why."
        ) from error


def _as_loaded(inputs: Inputs, rows: slice, parts: dict[str, Any]) -> Loaded:
    numbers = inputs.numbers(rows)
    if "error" in parts:
        raise _named(parts["error"], parts["row"])
    batch = Batch(parts["args"], parts["kwargs"], len(numbers))
    keys = parts["keys"]
    held = Prepared.of(inputs, numbers, batch)
    given = range(len(numbers)) if keys is None else keys
    return Loaded(given, parts["labels"], held, keys=keys)


def _as_it_is(parts: Any) -> Any:
    return parts


class _Batches(Dataset[Any]):
    """Batches by their number, as a worker makes them, of what it can send."""

    def __init__(self, inputs: Inputs, slices: list[slice], keyed: bool) -> None:
        self.inputs, self.slices, self.keyed = inputs, slices, keyed

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, number: int) -> dict[str, Any]:
        rows = self.slices[number]
        try:
            loaded = self.inputs.loaded(rows)
        except Exception as error:
            return {"error": error, "row": self._first_failing(rows)}
        try:
            keys = row_keys(loaded.given) if self.keyed else None
            batch = loaded.inputs[slice(0, len(loaded.inputs))]
        except Exception as error:
            return {"error": error, "row": None}  # which names its rows, where it can
        parts = {"args": batch.args, "kwargs": batch.kwargs, "keys": keys}
        return {**parts, "labels": loaded.labels}

    def _first_failing(self, rows: slice) -> str:
        numbers = self.inputs.numbers(rows)
        for place, number in enumerate(numbers):
            try:
                self.inputs.loaded(slice(rows.start + place, rows.start + place + 1))
            except Exception:
                return f"row {number}"
        return f"rows {numbers[0]} to {numbers[-1]}"  # it does not fail again


def _named(error: Exception, row: str | None) -> Exception:
    """Return an error of the same kind that says which row it is of."""
    if row is None:
        return error
    text = f"{row} of X could not be read: {type(error).__name__}: {error}"
    named: Exception = RuntimeError(text)
    if isinstance(error, OSError) and error.errno is not None:
        named = type(error)(error.errno, text)
    elif type(error).__init__ in (Exception.__init__, BaseException.__init__) or (
        type(error) in (ValueError, TypeError, KeyError, IndexError, RuntimeError)
    ):
        named = type(error)(text)
    named.__cause__ = error
    return named


class Prepared(Inputs):
    """Rows whose batch is there already; what else is asked for is read again."""

    _batch: Batch | None = None

    @property
    def is_fed(self) -> bool:
        """Whether batches are in memory that nobody else writes to."""
        return self._batch is not None

    @property
    def makes_own(self) -> bool:
        """Whether each batch is memory of its own; this one may be asked for twice."""
        return self._batch is None and super().makes_own

    @classmethod
    def of(cls, inputs: Inputs, numbers: NDArray[np.intp], batch: Batch) -> Prepared:
        """Return some rows of inputs, given by their numbers in X, with their batch."""
        made = cls.__new__(cls)
        made.__dict__.update(vars(inputs), feeding=None)
        made._rows, made._length, made._batch = numbers, len(numbers), batch
        return made

    def __getitem__(self, rows: slice) -> Batch:
        """Return rows as a batch."""
        if self._batch is not None:
            picked = self._batch.picked(np.arange(*rows.indices(len(self))))
            if picked is not None:
                return picked
        return super().__getitem__(rows)

    def take(self, rows: NDArray[np.intp]) -> Inputs:
        """Return some of these rows."""
        batch = None if self._batch is None else self._batch.picked(np.asarray(rows))
        if batch is None:
            return super().take(rows)
        return Prepared.of(self, self.numbers(slice(None))[rows], batch)
