"""What stands in a skops file for that which lies beside it, or skops does not hold."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["MOST_VALUES", "NOT_KEPT", "Beside", "Stored", "beside", "forbidden"]

NOT_KEPT = {"memory": None, "compile": False}
"""Parameters that are not kept: a folder of pickles, and a compiler to be started."""

MOST_VALUES = 400_000
"""A file holds at most so many, since each takes a thousand bytes when it is read."""

SAME_HASH = 100
"""So many keys may have one hash: the time that they take grows with the square."""

LONGEST_RANGE = 1_000_000
LONGEST_INT = 100_000
BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


class Beside(NamedTuple):
    """What lies beside the skops file.

    Parameters
    ----------
    arrays : sequence of ndarray
        By number.
    networks : sequence
        By number.
    """

    arrays: Sequence[Any] = ()
    networks: Sequence[Any] = ()


beside: ContextVar[Beside] = ContextVar("beside")
"""Of the folder that is being loaded."""


class Stored:
    """Calling it gives the value back; ``Stored.of`` makes what stands for the value.

    Parameters
    ----------
    kind : str
        One of ``MAKERS``.
    *args
        What the value is made of.
    """

    def __new__(cls, kind: str, *args: Any) -> Any:
        """Return the value."""
        return MAKERS[kind](*args)

    @classmethod
    def of(cls, kind: str, *args: Any) -> Stored:
        """Return what stands for a value."""
        made = object.__new__(cls)
        made.__dict__["made_of"] = (kind, *args)
        return made

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return Stored, self.__dict__["made_of"]


def forbidden(key: str, is_empty: bool) -> bool:
    """Return whether a key names a parameter that is not kept, and has a value."""
    return key.rpartition("__")[2] in NOT_KEPT and not is_empty


def _at(parts: Sequence[Any], number: int) -> Any:
    if type(number) is not int or not 0 <= number < len(parts):
        raise ValueError(f"there is no part {number!r}")
    return parts[number]


def _array(number: int, order: str) -> Any:
    array = _at(beside.get().arrays, number)
    return array.T if order == "F" else array


def _spread(keys: list[Any]) -> list[Any]:
    hashes = np.sort(np.array([hash(key) for key in keys], dtype=np.int64))
    if (hashes[SAME_HASH:] == hashes[:-SAME_HASH]).any():
        raise ValueError(f"more than {SAME_HASH} keys have the same hash")
    return keys


def _dict(pairs: Iterable[Any], kind: type = dict) -> Any:
    pairs = [(key, value) for key, value in pairs]
    made = kind(zip(_spread([k for k, _ in pairs]), (v for _, v in pairs), strict=True))
    if len(made) < len(pairs):
        raise ValueError("a key stands there twice")
    for key, value in made.items():
        if isinstance(key, str) and forbidden(key, value is None or value is False):
            raise ValueError(f"{key!r} is not loaded")
    return made


def _int(text: str) -> int:
    if len(text) > LONGEST_INT:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text, 16)


def _range(*args: Any) -> range:
    made = range(*args)
    # Counted by hand, as len() takes no more than 63 bits.
    if (made.stop - made.start) // made.step > LONGEST_RANGE:
        raise ValueError(f"{made} is too long")
    return made


def _objects(items: list[Any], shape: tuple[int, ...]) -> Any:
    made = np.empty(len(items), dtype=object)
    for number, item in enumerate(items):  # NumPy would look into lists
        made[number] = item
    return made.reshape(shape)


def _masked(data: Any, mask: Any, fill: Any) -> Any:
    return np.ma.MaskedArray(data, mask, fill_value=fill)


def _random(kind: str, state: dict[str, Any]) -> Any:
    """Return a bit generator, with a position that is in its buffer."""
    made = getattr(np.random, BIT_GENERATORS[BIT_GENERATORS.index(kind)])()
    position = state["state"].get("pos", 0), state.get("buffer_pos", 0)
    if not (0 <= position[0] <= 624 and 0 <= position[1] <= 4):
        raise ValueError("the position of a generator is out of range")
    made.state = state
    return made


def _random_state(state: dict[str, Any]) -> np.random.RandomState:
    made = np.random.RandomState(_random("MT19937", state))
    made.set_state(state)
    return made


def _torch_dtype(name: str) -> Any:
    import torch

    found = vars(torch)[name]
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{name!r} is no type of tensors")
    return found


def _torch_device(name: str) -> Any:
    import torch

    return torch.device(str(name))


def _tokenizer(text: str) -> Any:
    # It belongs to an object of a class that is trusted, and has imported this.
    return sys.modules["tokenizers"].Tokenizer.from_str(text)


MAKERS: dict[str, Callable[..., Any]] = {
    "array": _array,
    "network": lambda number: _at(beside.get().networks, number),
    "dict": _dict,
    "OrderedDict": lambda pairs: _dict(pairs, OrderedDict),
    "set": lambda items: set(_spread(items)),
    "frozenset": lambda items: frozenset(_spread(items)),
    "int": _int,
    "complex": lambda real, imag: complex(float(real), float(imag)),
    "range": _range,
    "path": lambda text: Path(text),
    "objects": _objects,
    "masked": _masked,
    "RandomState": _random_state,
    "Generator": lambda kind, state: np.random.Generator(_random(kind, state)),
    "torch.dtype": _torch_dtype,
    "torch.device": _torch_device,
    "tokenizer": _tokenizer,
}
"""How each kind of value is made; it runs no code that a file brings."""
