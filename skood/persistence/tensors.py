"""A file of named arrays in the safetensors layout, written in one go, read by maps.

Eight bytes with the length of a JSON header, the header, then the arrays one after
another. Other languages read it too; https://github.com/huggingface/safetensors
describes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skood.persistence.errors import LoadError

__all__ = ["Tensor", "tensors_in", "write_tensors"]

ALIGNMENT = 64

SIZES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
    "C64": 8,
}
"""Bytes of one number of each type that the layout knows."""


class Tensor(NamedTuple):
    """An array's bytes, and what they are.

    Parameters
    ----------
    label : str
        A type of ``SIZES``.
    shape : tuple of int
        Lengths of its axes.
    data : ndarray of uint8
        One axis, in C order, little-endian.
    """

    label: str
    shape: tuple[int, ...]
    data: NDArray[np.uint8]


def write_tensors(
    write: Callable[[memoryview], Any], tensors: Mapping[str, Tensor]
) -> None:
    """Write a file, piece by piece and without copying the arrays."""
    # Wide numbers first, so that each array begins at a multiple of its item.
    ordered = sorted(tensors.items(), key=lambda item: -SIZES[item[1].label])
    layout: dict[str, Any] = {}
    start = 0
    for name, tensor in ordered:
        offsets = [start, start + tensor.data.nbytes]
        layout[name] = {
            "dtype": tensor.label,
            "shape": list(tensor.shape),
            "data_offsets": offsets,
        }
        start = offsets[1]
    text = json.dumps(layout).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    write(memoryview(len(text).to_bytes(8, "little") + text))
    for _, tensor in ordered:
        write(np.ascontiguousarray(tensor.data).data)


def tensors_in(data: NDArray[np.uint8], path: Path) -> dict[str, Tensor]:
    """Return the arrays of a file as views of its bytes.

    Parameters
    ----------
    data : ndarray of uint8
        The bytes.
    path : Path
        For the message.

    Raises
    ------
    LoadError
        If the header is not what it should be, or the arrays do not fill the file
        one after another.
    """
    length = int.from_bytes(data[:8].tobytes(), "little")
    if len(data) < 8 or length > len(data) - 8:
        raise LoadError(f"{path} is damaged: its header should have {length} bytes.")
    try:
        layout = json.loads(data[8 : 8 + length].tobytes())
        layout.pop("__metadata__", None)
        body = data[8 + length :]
        _check_order([about["data_offsets"] for about in layout.values()], len(body))
        return {name: _tensor(about, body) for name, about in layout.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LoadError(f"{path} is damaged: its header cannot be read.") from error


def _check_order(offsets: list[Any], length: int) -> None:
    """Raise ValueError unless the arrays fill the file, none over another's bytes."""
    end = 0
    for first, last in sorted(offsets):
        if first != end:
            raise ValueError("arrays lie over one another, or not side by side")
        end = last
    if end != length:
        raise ValueError("there are bytes behind the last array")


def _tensor(about: Mapping[str, Any], body: NDArray[np.uint8]) -> Tensor:
    first, last = about["data_offsets"]
    shape = tuple(about["shape"])
    numbers = [*shape, first, last]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("lengths are whole numbers from 0")
    if not first <= last <= len(body):
        raise ValueError("an array ends beyond the file")
    if SIZES[about["dtype"]] * prod(shape) != last - first:
        raise ValueError("an array has another size than its shape")
    return Tensor(about["dtype"], shape, body[first:last])
