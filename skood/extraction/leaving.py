"""Results on their way from an accelerator, while the next batch is computed."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skood.features import Key

__all__ = ["Sent", "Values", "as_arrays", "one_behind"]

Values: TypeAlias = dict[Key, NDArray[Any]]
"""Blocks of some rows by (layer, statistic)."""


class Sent:
    """Blocks that a stream of their own copies to pinned memory of the host.

    Parameters
    ----------
    values : mapping
        Tensors of an accelerator, or of the host.
    guard : context manager
        In which they are waited for: it explains errors that only show then.
    """

    def __init__(self, values: Mapping[Key, Tensor], guard: Any) -> None:
        self._guard = guard
        self._copied: list[Any] = []
        self._there = {key: self._sent(value) for key, value in values.items()}

    def _sent(self, value: Tensor) -> Tensor:
        value = _at_least_single(value.detach())
        if not _is_on_device(value):
            return value
        side, there = _side_stream(value.device), _pinned_like(value)
        side.wait_stream(torch.cuda.current_stream(value.device))
        with torch.cuda.stream(side):
            there.copy_(value, non_blocking=True)
            # Its memory is not given to another tensor before it has been read.
            value.record_stream(side)
        self._copied.append(side.record_event())
        return there

    def arrays(self) -> Values:
        """Return the blocks, once they are there.

        They are copied, since of pinned memory there is not much.
        """
        with self._guard:
            for event in self._copied:
                event.synchronize()
        return {key: value.numpy().copy() for key, value in self._there.items()}


def as_arrays(values: Mapping[Key, Tensor]) -> Values:
    """Return blocks as arrays, waiting for them."""
    found = {key: _at_least_single(value.detach()) for key, value in values.items()}
    return {key: np.asarray(value.cpu().numpy()) for key, value in found.items()}


def one_behind(
    parts: Generator[tuple[slice, Sent], None, None],
) -> Generator[tuple[slice, Values], None, None]:
    """Yield parts whose blocks are there, each while the next one is computed.

    An error loses no part that was computed before it.
    """
    waiting: list[tuple[slice, Sent]] = []
    try:
        with closing(parts):
            for part in parts:
                waiting.append(part)
                if len(waiting) > 1:
                    rows, sent = waiting.pop(0)
                    yield rows, sent.arrays()
    except Exception:
        yield from ((rows, sent.arrays()) for rows, sent in waiting)
        raise
    yield from ((rows, sent.arrays()) for rows, sent in waiting)


def _at_least_single(value: Tensor) -> Tensor:
    is_half = value.is_floating_point() and value.element_size() < 4
    return value.float() if is_half else value


def _is_on_device(value: Tensor) -> bool:
    return value.is_cuda


def _pinned_like(value: Tensor) -> Tensor:
    return torch.empty(value.shape, dtype=value.dtype, pin_memory=True)


@lru_cache(maxsize=16)
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
