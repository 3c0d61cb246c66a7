"""Batches on their way between processes, in memory that is shared and used again.

Shared memory that is new takes longer to get than to fill: the system clears it page by
page. A process that reads therefore puts a batch where an earlier one of its own lay,
once the process that it reads for has let go of that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

if TYPE_CHECKING:
    from skood.extraction.batch import Batch

__all__ = ["Request", "Requests", "Sending", "stacked_tensors"]

Request = tuple[int, frozenset[int]]
"""The number of a batch, and those of all others that may still be in use."""

SMALL = 1 << 16
"""Bytes of a tensor that goes in memory of its own, which is no more than it costs."""


class Requests:
    """What the process that wants batches asks for, one after another.

    Parameters
    ----------
    n_batches : int
        How many it wants.
    """

    def __init__(self, n_batches: int) -> None:
        self._n_batches = n_batches
        self._in_use: dict[int, list[StorageWeakRef] | None] = {}

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[Request]:
        for number in range(self._n_batches):
            known = self._in_use.items()
            self._in_use = {n: refs for n, refs in known if not _is_let_go(refs)}
            others = frozenset(self._in_use)
            self._in_use[number] = None  # until it has come
            yield number, others

    def came(self, number: int, batch: Batch) -> None:
        """Note a batch, whose memory is in use until nobody holds any of it."""
        refs: list[StorageWeakRef] = []

        def noted(tensor: Tensor) -> Tensor:
            refs.append(StorageWeakRef(tensor.untyped_storage()))
            return tensor

        batch.mapped(noted)
        self._in_use[number] = refs


def _is_let_go(refs: list[StorageWeakRef] | None) -> bool:
    return refs is not None and all(ref.expired() for ref in refs)


class Sending:
    """The memory in which one process sends its batches."""

    def __init__(self) -> None:
        self._places: list[tuple[int, Tensor]] = []
        self._free: list[Tensor] = []
        self._number = -1

    @contextmanager
    def answering(self, request: Request) -> Iterator[None]:
        """Have what is stacked inside lie in memory that is shared."""
        self._number, in_use = request
        self._free += [memory for n, memory in self._places if n not in in_use]
        self._places = [place for place in self._places if place[0] in in_use]
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def shared(self, tensor: Tensor) -> Tensor:
        """Return a tensor in memory that is shared; itself if that does not pay."""
        if not (_is_plain(tensor) and tensor.is_contiguous()) or tensor.is_shared():
            return tensor
        room = self.room(tensor.shape, tensor.dtype)
        return tensor if room is None else room.copy_(tensor)

    def room(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor | None:
        """Return a tensor to be filled, of memory that nobody uses; None if small."""
        n_bytes = prod(shape) * dtype.itemsize
        if n_bytes < SMALL:
            return None
        memory = self._memory(n_bytes)
        self._places.append((self._number, memory))
        return memory[:n_bytes].view(dtype).view(shape)

    def _memory(self, n_bytes: int) -> Tensor:
        """Return the least free memory that suffices, or else new one."""
        self._free.sort(key=len)
        for place, memory in enumerate(self._free):
            if len(memory) >= n_bytes:
                return self._free.pop(place)
        del self._free[-1:]  # too small, as all others
        return torch.empty(n_bytes, dtype=torch.uint8).share_memory_()


_current: ContextVar[Sending | None] = ContextVar("skood_sending", default=None)


def stacked_tensors(parts: Sequence[Tensor]) -> Tensor:
    """Return tensors as one: on its way already, in a process that reads for another.

    Torch's own function makes new shared memory there.
    """
    sending, room = _current.get(), None
    if sending is not None and all(map(_is_plain, parts)):
        kinds = {(part.shape, part.dtype) for part in parts}
        (shape, dtype), *others = kinds
        room = None if others else sending.room((len(parts), *shape), dtype)
    return torch.stack([*parts], out=room)


def _is_plain(tensor: Tensor) -> bool:
    """Return whether a tensor is one of plain numbers in the host's memory."""
    plain = type(tensor) is Tensor and tensor.layout is torch.strided
    is_here = plain and tensor.device.type == "cpu"
    return is_here and not (tensor.is_quantized or tensor.requires_grad)
