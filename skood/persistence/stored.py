"""Values that skops does not hold: what each is made of, and how it is made again."""

from __future__ import annotations

import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.format import descr_to_dtype, dtype_to_descr
from sklearn.utils import Bunch

__all__ = ["KINDS", "NOT_KEPT", "PLAIN_DTYPES", "Beside", "beside", "forbidden", "made"]

NOT_KEPT = {"memory": None, "compile": False}
"""Parameters that are not kept: a folder of pickles, and a compiler to be started."""

PLAIN_DTYPES = "biufcSUmM"
"""Letters of NumPy's types of which an array is its bytes."""

SAME_HASH = 100
"""So many keys may have one hash: the time that they take grows with the square."""

LONGEST_RANGE = 1_000_000
LONGEST_INT = 100_000
BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


class Beside(NamedTuple):
    """What a skops file is read with.

    Parameters
    ----------
    arrays : sequence of ndarray
        By number.
    networks : sequence
        By number.
    trusted : set of str
        The names in the skops file that may be there.
    """

    arrays: Sequence[Any]
    networks: Sequence[Any]
    trusted: set[str]


beside: ContextVar[Beside] = ContextVar("beside")
"""Of the file that is being read."""


def made(kind: str, *parts: Any) -> Any:
    """Return a value; skops files name this function, so it stays.

    Parameters
    ----------
    kind : str
        One of ``MAKERS``.
    *parts
        What the value is made of.
    """
    return MAKERS[kind](*parts)


def forbidden(key: Any, is_empty: bool) -> bool:
    """Return whether a key names a parameter that is not kept, and has a value."""
    names = isinstance(key, str) and key.rpartition("__")[2] in NOT_KEPT
    return names and not is_empty


# What lies beside --------------------------------------------------------------------


def _at(parts: Sequence[Any], number: int) -> Any:
    if type(number) is not int or not 0 <= number < len(parts):
        raise ValueError(f"there is no part {number!r}")
    return parts[number]


def _array(number: int, order: str, dtype: Any = None) -> Any:
    array = _at(beside.get().arrays, number)
    if dtype is not None:
        array = array.view(_dtype(dtype)).squeeze(-1)
    return array.T if order == "F" else array


# Collections -------------------------------------------------------------------------


def _spread(keys: list[Any]) -> list[Any]:
    hashes = np.sort(np.array([hash(key) for key in keys], dtype=np.int64))
    if (hashes[SAME_HASH:] == hashes[:-SAME_HASH]).any():
        raise ValueError(f"more than {SAME_HASH} keys have the same hash")
    return keys


def _dict(kind: Callable[[Any], Any], pairs: Iterable[Any]) -> Any:
    pairs = [(key, value) for key, value in pairs]
    found = kind(
        zip(_spread([k for k, _ in pairs]), (v for _, v in pairs), strict=True)
    )
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    for key, value in found.items():
        if forbidden(key, value is None or value is False):
            raise ValueError(f"{key!r} is not loaded")
    return found


def _objects(items: list[Any], shape: tuple[int, ...]) -> Any:
    found = np.empty(len(items), dtype=object)
    for number, item in enumerate(items):  # NumPy would look into lists
        found[number] = item
    return found.reshape(shape)


def _with_state(value: Any, state: Any) -> Any:
    name = f"{type(value).__module__}.{type(value).__name__}"
    if name not in beside.get().trusted:  # NumPy's believe what they are told
        raise ValueError(f"{name} is given no state")
    value.__setstate__(state)
    return value


def _partial(function: Any, args: Any, keywords: Any, attributes: Any) -> Any:
    found = partial(function, *args, **keywords)
    vars(found).update(attributes)
    return found


# Numbers -----------------------------------------------------------------------------


def _int(text: str) -> int:
    if len(text) > LONGEST_INT:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text, 16)


def _range(*args: Any) -> range:
    found = range(*args)
    # Counted by hand, as len() takes no more than 63 bits.
    if (found.stop - found.start) // found.step > LONGEST_RANGE:
        raise ValueError(f"{found} is too long")
    return found


def _dtype(description: Any) -> Any:
    found = descr_to_dtype(description)
    known = dtype_to_descr(found) == description
    if found.hasobject or not (known and found.itemsize):
        raise ValueError(f"values of {found} are not loaded")
    return found


def _scalar(dtype: Any, digits: str) -> Any:
    [found] = np.frombuffer(bytes.fromhex(digits), _dtype(dtype))
    return found


def _random(kind: str, state: dict[str, Any]) -> Any:
    """Return a bit generator, with a position that is in its buffer."""
    found = getattr(np.random, BIT_GENERATORS[BIT_GENERATORS.index(kind)])()
    position = state["state"].get("pos", 0), state.get("buffer_pos", 0)
    if not (0 <= position[0] <= 624 and 0 <= position[1] <= 4):
        raise ValueError("the position of a generator is out of range")
    found.state = state
    return found


def _random_state(state: dict[str, Any]) -> np.random.RandomState:
    found = np.random.RandomState(_random("MT19937", state))
    found.set_state(state)
    return found


# Of other libraries ------------------------------------------------------------------


def _torch_dtype(name: str) -> Any:
    torch = import_module("torch")
    found = vars(torch)[name]
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{name!r} is no type of tensors")
    return found


def _tokenizer(text: str) -> Any:
    # It belongs to an object of a class that is trusted, and has imported this.
    return sys.modules["tokenizers"].Tokenizer.from_str(text)


# The table ---------------------------------------------------------------------------


class Kind(NamedTuple):
    """A kind of values.

    Parameters
    ----------
    of : type or callable
        The type of its values, or whether a value is one.
    parts : callable
        From the value to what it is made of: values again.
    make : callable
        From the parts to the value; it runs no code that a file brings.
    """

    of: type | Callable[[Any], bool]
    parts: Callable[[Any], tuple[Any, ...]]
    make: Callable[..., Any]

    def fits(self, value: Any) -> bool:
        """Return whether a value is of this kind."""
        return type(value) is self.of if isinstance(self.of, type) else self.of(value)


def _is_of(module: str, name: str) -> Callable[[Any], bool]:
    # Only where a module is loaded can there be such a value.
    return lambda value: type(value) is getattr(sys.modules.get(module), name, None)


def _sorted(values: Any) -> tuple[list[Any]]:
    # So that the same set is the same text.
    return (sorted(values, key=repr),)


def _bytes(scalar: Any) -> tuple[Any, str]:
    array = np.asarray(scalar)
    return dtype_to_descr(array.dtype), array.tobytes().hex()


KINDS: dict[str, Kind] = {
    "int": Kind(int, lambda v: (hex(v),), _int),
    "bytes": Kind(bytes, lambda v: (v.hex(),), bytes.fromhex),
    "complex": Kind(complex, lambda v: (v.real, v.imag), complex),
    "slice": Kind(slice, lambda v: (v.start, v.stop, v.step), slice),
    "range": Kind(range, lambda v: (v.start, v.stop, v.step), _range),
    "path": Kind(type(Path()), lambda v: (str(v),), Path),
    "set": Kind(set, _sorted, lambda items: set(_spread(items))),
    "frozenset": Kind(frozenset, _sorted, lambda items: frozenset(_spread(items))),
    "namedtuple": Kind(
        lambda v: isinstance(v, tuple) and hasattr(v, "_fields"),
        lambda v: (type(v), tuple(v)),
        tuple.__new__,
    ),
    "partial": Kind(partial, lambda v: (v.func, v.args, v.keywords, vars(v)), _partial),
    "dtype": Kind(
        lambda v: isinstance(v, np.dtype) and v.kind in PLAIN_DTYPES,
        lambda v: (dtype_to_descr(v),),
        _dtype,
    ),
    "scalar": Kind(
        lambda v: isinstance(v, np.generic) and v.dtype.kind in PLAIN_DTYPES,
        _bytes,
        _scalar,
    ),
    "objects": Kind(
        lambda v: type(v) is np.ndarray and v.dtype == object,
        lambda v: (v.ravel().tolist(), v.shape),
        _objects,
    ),
    "masked": Kind(
        np.ma.MaskedArray,
        lambda v: (np.asarray(v.data), np.ma.getmaskarray(v), v.fill_value),
        lambda data, mask, fill: np.ma.MaskedArray(data, mask, fill_value=fill),
    ),
    "RandomState": Kind(
        np.random.RandomState, lambda v: (v.get_state(legacy=False),), _random_state
    ),
    "Generator": Kind(
        np.random.Generator,
        lambda v: (type(v.bit_generator).__name__, v.bit_generator.state),
        lambda kind, state: np.random.Generator(_random(kind, state)),
    ),
    "torch.dtype": Kind(
        _is_of("torch", "dtype"), lambda v: (str(v)[6:],), _torch_dtype
    ),
    "torch.device": Kind(
        _is_of("torch", "device"),
        lambda v: (str(v),),
        lambda text: import_module("torch").device(str(text)),
    ),
    "tokenizer": Kind(
        _is_of("tokenizers", "Tokenizer"), lambda v: (v.to_str(),), _tokenizer
    ),
}
"""By name, kinds that are known by looking at the value alone."""

MAKERS: dict[str, Callable[..., Any]] = {
    "array": _array,
    "network": lambda number: _at(beside.get().networks, number),
    "dict": partial(_dict, dict),
    "OrderedDict": partial(_dict, OrderedDict),
    "Bunch": partial(_dict, lambda pairs: Bunch(**dict(pairs))),
    "defaultdict": lambda pairs, default: _dict(partial(defaultdict, default), pairs),
    "with_state": _with_state,
    **{name: kind.make for name, kind in KINDS.items()},
}
"""How each kind of value is made."""
