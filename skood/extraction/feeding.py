"""Inputs that other processes read, decode and prepare while the network runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from skood.extraction.batch import Batch
from skood.extraction.inputs import Inputs, Loaded
from skood.extraction.sharing import Request, Requests, Sending
from skood.store.row_keys import row_keys

__all__ = ["Feeding", "fed", "portions", "with_keys"]


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
    requests = Requests(len(slices))
    loader: DataLoader[Any] = DataLoader(
        _Batches(inputs, slices, keyed),
        batch_size=None,
        sampler=requests,
        collate_fn=_as_it_is,
        num_workers=feeding.num_workers,
        prefetch_factor=feeding.prefetch_factor,
        pin_memory=feeding.pinned,
        generator=torch.Generator(),  # torch's own draws a seed for the workers
    )
    batches = iter(loader)
    ahead = feeding.num_workers * (feeding.prefetch_factor or 2) * batch_size
    for number, rows in enumerate(slices):
        with inputs.meter.reading(rows.stop - rows.start):
            with _told_of_death(inputs.numbers(slice(rows.start, rows.stop + ahead))):
                parts = next(batches)
            batch = _as_batch(parts, rows)
            requests.came(number, batch)
            held = Prepared.of(inputs, inputs.numbers(rows), batch)
            keys, labels = parts["keys"], parts["labels"]
            del parts, batch  # whose memory is in use while anybody holds it
        given = range(len(held)) if keys is None else keys
        yield Loaded(given, labels, held, keys=keys)


def with_keys(loaded: Loaded) -> Loaded:
    """Return rows with their keys, and with their batch if it is nothing but them."""
    batch = None
    if loaded.inputs.stacks_rows:
        # What is wrong with rows is said when somebody asks for their batch.
        with suppress(Exception), torch.no_grad():
            batch = loaded.inputs[slice(0, len(loaded.inputs))]
    if batch is None:
        return replace(loaded, keys=row_keys(loaded.given))
    inputs, numbers = loaded.inputs, loaded.inputs.numbers(slice(None))
    held = Prepared.of(inputs, numbers, batch)
    return replace(loaded, inputs=held, keys=row_keys(_laid_out(loaded, batch)))


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


def _as_batch(parts: dict[str, Any], rows: slice) -> Batch:
    if "error" in parts:
        raise _named(parts["error"], parts["row"])
    return Batch(parts["args"], parts["kwargs"], rows.stop - rows.start)


def _as_it_is(parts: Any) -> Any:
    return parts


class _Batches(Dataset[Any]):
    """Batches by their number, as a worker makes them, of what it can send."""

    def __init__(self, inputs: Inputs, slices: list[slice], keyed: bool) -> None:
        self.inputs, self.slices, self.keyed = inputs, slices, keyed
        self.sending = Sending()

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, request: Request) -> dict[str, Any]:
        rows = self.slices[request[0]]
        try:
            loaded = self.inputs.loaded(rows)
        except Exception as error:
            return {"error": error, "row": self._first_failing(rows)}
        try:
            with self.sending.answering(request):
                batch = loaded.inputs[slice(0, len(loaded.inputs))]
                batch = batch.mapped(self.sending.shared)
            keys = row_keys(_laid_out(loaded, batch)) if self.keyed else None
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


def _laid_out(loaded: Loaded, batch: Batch) -> Any:
    """Return the given rows: those in their batch, if it is nothing but them.

    There each lies in one piece. An image whose axes have been turned does not, and
    would be copied for its digest.
    """
    whole = batch.args[0] if loaded.inputs.stacks_rows and batch.args else None
    if not isinstance(whole, Tensor):
        return loaded.given
    kinds = {type(row) for row in loaded.given}
    rows: Any = whole.numpy() if kinds == {np.ndarray} else whole
    pairs = zip(loaded.given, rows, strict=True)
    return (
        [*rows] if all(_is_same(row, other) for row, other in pairs) else loaded.given
    )


def _is_same(row: Any, in_batch: Any) -> bool:
    """Return whether a row has become one of a batch without being changed."""
    if type(row) is not type(in_batch) or hasattr(row, "cache_key"):
        return False
    return bool(row.shape == in_batch.shape and row.dtype == in_batch.dtype)


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
    """Rows whose batch is there already; what else is asked for is read again.

    A batch that is given away is there no more, so that nobody gets it again who has
    changed it meanwhile.
    """

    _batch: Batch | None = None

    @property
    def is_fed(self) -> bool:
        """Whether batches are in memory that nobody else writes to."""
        return self._batch is not None

    @classmethod
    def of(cls, inputs: Inputs, numbers: NDArray[np.intp], batch: Batch) -> Prepared:
        """Return some rows of inputs, given by their numbers in X, with their batch."""
        made = cls.__new__(cls)
        made.__dict__.update(vars(inputs), feeding=None)
        made._rows, made._length, made._batch = numbers, len(numbers), batch
        return made

    def __getitem__(self, rows: slice) -> Batch:
        """Return rows as a batch."""
        picked = self._picked(np.arange(*rows.indices(len(self))))
        return super().__getitem__(rows) if picked is None else picked

    def gives_away(self, batch: Batch) -> bool:
        """Return whether nobody else has the memory of a batch of these rows."""
        if self._batch is None:
            return super().gives_away(batch)
        if batch is self._batch:
            self._batch = None
        return True

    def take(self, rows: NDArray[np.intp]) -> Inputs:
        """Return some of these rows."""
        picked = self._picked(np.asarray(rows))
        if picked is None:
            return super().take(rows)
        self.gives_away(picked)
        return Prepared.of(self, self.numbers(slice(None))[rows], picked)

    def _picked(self, rows: NDArray[np.intp]) -> Batch | None:
        return None if self._batch is None else self._batch.picked(rows)
