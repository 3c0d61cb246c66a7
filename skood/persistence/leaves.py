"""Values without parts: how each kind stands in the text, and how it is read back."""

from __future__ import annotations

import builtins
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from skood.persistence.arrays import dtype_of, scalar_node, scalar_of

__all__ = ["LEAVES", "leaf_of", "stands_for_itself"]

TYPES = ("bool", "bytes", "complex", "float", "int", "object", "str")
"""Python's own types that parameters such as ``dtype`` may be."""

LONG = 1024
"""Bits from which on a whole number stands there in hexadecimal digits."""


_NONE = type(None)


class Leaf(NamedTuple):
    """A kind of values.

    Parameters
    ----------
    fits : callable
        Whether a value is of this kind.
    text : callable
        From a value to what JSON can hold.
    value : callable
        The other way; it raises an exception for what ``text`` has not made.
    """

    fits: Callable[[Any], bool]
    text: Callable[[Any], Any]
    value: Callable[[Any], Any]


def stands_for_itself(value: Any) -> bool:
    """Return whether a value is one that JSON has, and that every reader takes."""
    kind = type(value)
    if kind is int:
        return bool(value.bit_length() <= LONG)
    return math.isfinite(value) if kind is float else kind in (bool, str, _NONE)


def leaf_of(value: Any) -> str | None:
    """Return the kind of a value, None for one that has parts or is unknown."""
    return next((kind for kind, leaf in LEAVES.items() if leaf.fits(value)), None)


def _is_torch(kind: str) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        # Only where torch is loaded can there be such a value.
        torch = sys.modules.get("torch")
        return torch is not None and type(value) is getattr(torch, kind)

    return fits


def _torch_device(text: str) -> Any:
    import torch

    return torch.device(str(text))


def _torch_dtype(text: str) -> Any:
    import torch

    found = vars(torch)[text]
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{text!r} is no type of tensors")
    return found


def _float(text: str) -> float:
    return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[text]


def _is_of_numpy(kind: Any) -> bool:
    """Return whether a type is one of NumPy's scalars, under its own name."""
    is_scalar = isinstance(kind, type) and issubclass(kind, np.generic)
    return is_scalar and vars(np).get(kind.__name__) is kind


def _is_of_python(kind: Any) -> bool:
    return isinstance(kind, type) and kind in map(_python_type, TYPES)


def _numpy_type(text: str) -> Any:
    found = vars(np)[text]
    if not _is_of_numpy(found):
        raise ValueError(f"{text!r} is no scalar type of NumPy")
    return found


def _python_type(text: str) -> Any:
    return getattr(builtins, TYPES[TYPES.index(text)])


LEAVES = {
    # JSON's readers, Python's too, refuse numbers of thousands of digits.
    "int": Leaf(
        lambda v: type(v) is int and v.bit_length() > LONG, hex, lambda t: int(t, 16)
    ),
    "float": Leaf(lambda v: type(v) is float and not math.isfinite(v), repr, _float),
    "complex": Leaf(
        lambda v: type(v) is complex,
        lambda v: [v.real.hex(), v.imag.hex()],
        lambda t: complex(*map(float.fromhex, t)),
    ),
    "bytes": Leaf(lambda v: type(v) is bytes, bytes.hex, bytes.fromhex),
    "range": Leaf(
        lambda v: type(v) is range,
        lambda v: [v.start, v.stop, v.step],
        lambda t: range(*t),
    ),
    "path": Leaf(lambda v: type(v) is type(Path()), str, Path),
    "dtype": Leaf(
        lambda v: isinstance(v, np.dtype) and v.kind in "biufcSUmM",
        lambda v: v.str,
        dtype_of,
    ),
    "scalar": Leaf(
        lambda v: _is_of_numpy(type(v)) and not isinstance(v, np.void),
        scalar_node,
        scalar_of,
    ),
    "numpy_type": Leaf(_is_of_numpy, lambda v: v.__name__, _numpy_type),
    "python_type": Leaf(_is_of_python, lambda v: v.__name__, _python_type),
    "torch_device": Leaf(_is_torch("device"), str, _torch_device),
    "torch_dtype": Leaf(
        _is_torch("dtype"), lambda v: str(v).partition(".")[2], _torch_dtype
    ),
}
