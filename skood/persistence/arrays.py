"""NumPy arrays, their types and scalars: what stands in the text, what in the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.persistence.tensors import Tensor

__all__ = ["StoredArrays", "array_of", "dtype_of", "scalar_node", "scalar_of"]

LABELS = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "float16": "F16",
    "uint32": "U32",
    "int32": "I32",
    "float32": "F32",
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
}
"""Types that the layout knows; others are kept as bytes."""

_DTYPE = re.compile(r"[<>|=]?[biufcSUmM]\d*(\[\d*[A-Za-z]+\])?")


class StoredArrays:
    """The arrays to be written, each once however often it is met."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._known: dict[int, tuple[NDArray[Any], dict[str, Any]]] = {}

    def node(self, array: NDArray[Any]) -> dict[str, Any]:
        """Return what stands for an array in the text.

        Parameters
        ----------
        array : ndarray
            Not of objects, and without fields.
        """
        if id(array) not in self._known:
            # With the array itself, so that no other gets its id.
            self._known[id(array)] = (array, self._stored(array))
        return self._known[id(array)][1]

    def _stored(self, array: NDArray[Any]) -> dict[str, Any]:
        name = f"a{len(self.tensors)}"
        about = {"name": name, "dtype": array.dtype.str, "shape": list(array.shape)}
        # Kept, since sums over rows and over columns differ in the last digits.
        columns_first = array.flags.f_contiguous and not array.flags.c_contiguous
        if columns_first:
            about["order"] = "F"
            array = array.T
        array = np.ascontiguousarray(array).reshape(array.shape)
        data = array.reshape(-1).view(np.uint8) if array.size else np.empty(0, np.uint8)
        label = LABELS.get(array.dtype.name) if array.dtype.isnative else None
        shape = array.shape if label else data.shape
        self.tensors[name] = Tensor(label or "U8", shape, data)
        return about


def array_of(
    about: Mapping[str, Any], tensors: Mapping[str, Tensor], *, copy: bool
) -> NDArray[Any]:
    """Return an array that :meth:`StoredArrays.node` described.

    Parameters
    ----------
    about : mapping
        The description.
    tensors : mapping of str to Tensor
        The file.
    copy : bool
        Whether to read it into memory of its own.
    """
    dtype = dtype_of(about["dtype"])
    shape = shape_of(about["shape"])
    data = tensors[about["name"]].data
    if not dtype.itemsize or dtype.itemsize * prod(shape) != len(data):
        raise ValueError(f"its shape is {shape}, but it has {len(data)} bytes")
    if copy:
        data = np.array(data)
    columns_first = about.get("order") == "F"
    if not len(data):
        return np.empty(shape, dtype)
    array = data.view(dtype).reshape(shape[::-1] if columns_first else shape)
    if not array.flags.aligned:
        array = array.copy()
    return array.T if columns_first else array


def shape_of(lengths: Any) -> tuple[int, ...]:
    """Return a shape, checked to be whole numbers from zero."""
    shape = tuple(lengths)
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"{shape} is no shape")
    return shape


def dtype_of(text: Any) -> np.dtype[Any]:
    """Return a type from its name in NumPy's short form, ``"<f8"`` say."""
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        raise ValueError(f"{text!r} is no type of arrays")
    dtype = np.dtype(text)
    if dtype.hasobject:  # bytes would become addresses
        raise ValueError(f"{text!r} is no type of arrays")
    return dtype


def scalar_node(value: np.generic) -> dict[str, str]:
    """Return what stands for a NumPy scalar in the text."""
    array = np.asarray(value)
    return {"dtype": array.dtype.str, "data": array.tobytes().hex()}


def scalar_of(about: Mapping[str, Any]) -> Any:
    """Return the NumPy scalar that :func:`scalar_node` described."""
    data, dtype = bytes.fromhex(about["data"]), dtype_of(about["dtype"])
    if len(data) != dtype.itemsize:
        raise ValueError(f"a scalar has {len(data)} bytes, not {dtype.itemsize}")
    return np.ndarray((), dtype, data)[()]
