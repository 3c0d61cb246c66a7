"""The memory of items: whose it is, and whether two of them lie in the same."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Iterable, Iterator
from numbers import Number
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["addresses", "owned", "read"]


def read(item: Callable[[int], Any], numbers: Iterable[int]) -> tuple[list[Any], bool]:
    """Return items by their numbers, and whether these had to be copied.

    What reads items may write each into the same memory, as a buffer that images are
    decoded to. Items that are held at the same time can only share memory if it does
    so, or if one of them is asked for twice; each is then read again, and copied before
    the next one is.

    Parameters
    ----------
    item : callable
        From a number to an item.
    numbers : iterable of int
        Theirs.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.extraction.memory import read
    >>> buffer = np.zeros(2)
    >>> def item(number):
    ...     buffer[:] = number
    ...     return buffer
    >>> [found.tolist() for found in read(item, [3, 4])[0]]
    [[3.0, 3.0], [4.0, 4.0]]
    """
    numbers = [int(number) for number in numbers]
    items = [item(number) for number in numbers]
    seen: set[Any] = set()
    for one in items:
        here = addresses(one)
        if not (here - {None}).isdisjoint(seen):
            return [owned(item(number)) for number in numbers], True
        seen |= here
    return items, False


def owned(item: Any) -> Any:
    """Return an item with copies of its tensors and arrays."""
    if isinstance(item, Tensor):
        return item.clone()
    if isinstance(item, np.ndarray):
        return item.copy()
    if type(item) in (list, tuple):
        return type(item)(map(owned, item))
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return type(item)(*map(owned, item))
    if type(item) is dict:
        return {name: owned(part) for name, part in item.items()}
    return item


def addresses(item: Any) -> set[Any]:
    """Return where an item's tensors and arrays begin in memory.

    None is among them where it holds what is neither these nor a number or text.
    """
    return {*_addresses(item)}


def _addresses(item: Any) -> Iterator[Any]:
    if isinstance(item, (dict, UserDict)):
        item = [*item.values()]
    if isinstance(item, (list, tuple)):
        for part in item:
            yield from _addresses(part)
    elif isinstance(item, Tensor) and item.layout == torch.strided:
        yield from [(item.device.type, item.data_ptr())] if item.numel() else []
    elif isinstance(item, np.ndarray) and not item.dtype.hasobject:
        place = item.__array_interface__["data"][0]
        yield from [("cpu", place)] if item.size else []
    elif not isinstance(item, _PLAIN):
        yield None


_PLAIN = (Number, np.generic, str, bytes, type(None))
