"""Digests of Python objects by their content."""

from __future__ import annotations

import copyreg
import hashlib
import os
import types
import warnings
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from enum import Enum
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skood.store.identity.code import class_members, global_values, package_of
from skood.store.identity.huggingface import settings_of
from skood.store.identity.trees import text_of
from skood.store.identity.weights import values_digest

__all__ = ["Contents", "UnknownContentError", "cache_key_of", "form_of", "warn_once"]

Pieces = list[str | bytes]
"""What an object is: texts, bytes, and digests of what it is made of."""

_told: set[str] = set()


class UnknownContentError(Exception):
    """The type of something that has no content a digest could take in."""


class Contents:
    """Digests of objects, each made once however often it is met.

    What cannot be read is named in a warning, once, among what a function reads by
    name, a class has, or a network holds. Elsewhere it is an error.

    Parameters
    ----------
    passed_over : collection of str, default=()
        Names among ``values`` that do not count.

    Attributes
    ----------
    parts : dict
        From ids to objects that count by a name, whatever they hold.
    where : str
        What is being read of which what cannot be read is named in a warning.
    values : dict
        Digests of what functions read by name and classes have, but for code.
    """

    def __init__(self, passed_over: Collection[str] = ()) -> None:
        self.values: dict[str, bytes] = {}
        self._passed_over = passed_over
        self.parts: dict[int, tuple[Any, str]] = {}
        self._known: dict[int, tuple[Any, bytes]] = {}
        self._open: list[int] = []
        self.where = ""

    def digest(self, value: Any) -> bytes:
        """Return the digest of an object."""
        place = id(value)
        if place in self.parts:
            return _sha("part", self.parts[place][1])
        if place in self._open:
            return _sha("around", str(len(self._open) - self._open.index(place)))
        if place not in self._known:
            self._open.append(place)
            try:
                key = cache_key_of(value)
                form = form_of(value, self) if key is None else ["cache_key", key]
            finally:
                self._open.pop()
            # Kept with the object, so that its id stays its own.
            self._known[place] = value, _sha(*form)
        return self._known[place][1]

    def digests(self, *values: Any) -> Pieces:
        """Return the digests of some objects."""
        return [self.digest(value) for value in values]

    def noted(self, where: str, value: Any) -> bytes:
        """Return the digest of what may have a content that cannot be read."""
        outer, self.where = self.where, where
        try:
            return self.digest(value)
        except RecursionError:
            return _sha(*self.unknown(value))
        finally:
            self.where = outer

    def read(self, where: str, value: Any) -> bytes:
        """Return the digest of what code reads, by the name of where it is."""
        if isinstance(value, (types.FunctionType, type)):
            return self.noted(where, value)
        if where in self._passed_over:
            return b""
        self.values[where] = self.noted(where, value)
        return self.values[where]

    def unknown(self, value: Any) -> Pieces:
        """Return what stands for something that cannot be read, and say so once."""
        kind = _name(type(value))
        if not self.where:
            raise UnknownContentError(kind)
        warn_once(
            f"{self.where} holds a {kind}, whose content cannot be read: a cache "
            "does not see when it changes. Give it, or the network or function that it "
            "is of, an attribute cache_key: a text that you change whenever it changes."
        )
        return ["unknown", kind]


def cache_key_of(value: Any) -> str | None:
    """Return the text that its user has given something to be known by, if any."""
    held = vars(value) if isinstance(value, type) else None
    key = getattr(value, "cache_key", None) if held is None else held.get("cache_key")
    return None if key is None or hasattr(key, "__get__") else str(key)


def warn_once(message: str) -> None:
    """Warn, unless this process has been told the same."""
    if message not in _told:
        _told.add(message)
        warnings.warn(message, UserWarning, stacklevel=2)


def _sha(*pieces: str | bytes) -> bytes:
    state = hashlib.sha256()
    for piece in pieces:
        text = piece.encode("utf-8", "surrogatepass") if type(piece) is str else piece
        state.update(b"%d:" % len(text))
        state.update(text)  # type: ignore[arg-type]
    return state.digest()[:16]


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


# What objects are made of ----------------------------------------------------------

_BESIDE = (
    *("_thread", "threading", "logging", "queue", "concurrent", "asyncio", "tqdm"),
    *("multiprocessing", "torch.optim", "torch.utils.tensorboard", "tensorboardX"),
    *("torch.cuda", "lightning", "pytorch_lightning", "wandb", "mlflow"),
)
"""Homes of what works beside a network: locks, loggers, trainers, optimizers."""


@singledispatch
def form_of(value: Any, contents: Contents) -> Pieces:
    """Return what an object is: what pickle would keep of it, and its class's code."""
    kind = type(value)
    if contents.where and kind.__module__.startswith(_BESIDE):
        return ["beside", _name(kind)]
    if kind.__name__ == "AddedToken":  # as a text that a tokenizer has not read yet
        return ["str", str(value)]
    try:
        held = settings_of(value)
        reduce = copyreg.dispatch_table.get(kind, lambda v: v.__reduce_ex__(4))
        reduced = (held,) if held is not None else reduce(value)
    except Exception:
        own = package_of(kind.__module__) is None  # and not written in C
        held = getattr(value, "__dict__", None) if own else None
        if held is None:
            return contents.unknown(value)
        reduced = (held,)
    if isinstance(reduced, str):
        inside = contents.digest(getattr(value, "__wrapped__", None))
        return ["global", str(getattr(value, "__module__", "")), reduced, inside]
    parts = [[*p] if isinstance(p, Iterator) else p for p in reduced]
    return ["object", *contents.digests(kind, *parts)]


def _function(value: types.FunctionType, contents: Contents) -> Pieces:
    name, home = _name(value), package_of(value.__module__)
    if home is not None and "<" not in value.__qualname__:
        return ["of", name, home]
    cells = [c for c in value.__closure__ or () if c != types.CellType()]
    inside = contents.digests(value.__code__, value.__defaults__, value.__kwdefaults__)
    inside += contents.digests(*(cell.cell_contents for cell in cells))
    for key, read in [] if home else [*global_values(value), *vars(value).items()]:
        where = f"{key!r}, read by {value.__qualname__},"
        inside += [key, contents.read(where, read)]
    return ["function", name, *inside]


def _code(value: types.CodeType, contents: Contents) -> Pieces:
    text = text_of(value)
    names = value.co_names, value.co_varnames, value.co_freevars
    run = contents.digests(value.co_code, names, value.co_consts) if not text else []
    return ["code", text, *run]


def _class(kind: type, contents: Contents) -> Pieces:
    home = package_of(kind.__module__)
    if home is not None:
        return ["of", _name(kind), home]
    inside = contents.digests(*kind.__bases__)
    for key, member in class_members(kind):
        where = f"{key!r} of the class {kind.__qualname__}"
        inside += [key, contents.read(where, member)]
    return ["class", _name(kind), *inside]


def _array(value: Any, contents: Contents) -> Pieces:
    if value.dtype.hasobject:
        return ["objects", str(value.shape), *contents.digests(*value.ravel())]
    data = np.ascontiguousarray(value).tobytes()
    return ["array", value.dtype.str, str(value.shape), data]


def _tensor(value: Tensor, contents: Contents) -> Pieces:
    try:
        return ["tensor", values_digest({"": value})]
    except (NotImplementedError, RuntimeError):
        return contents.unknown(value)


_FORMS: dict[Any, Callable[[Any, Contents], Pieces]] = {
    types.FunctionType: _function,
    types.CodeType: _code,
    type: _class,
    np.ndarray: _array,
    np.generic: _array,
    Tensor: _tensor,
    tuple: lambda v, contents: [type(v).__name__, *contents.digests(*v)],
    list: lambda v, contents: [type(v).__name__, *contents.digests(*v)],
    set: lambda v, contents: ["set", *sorted(map(contents.digest, v))],
    frozenset: lambda v, contents: ["set", *sorted(map(contents.digest, v))],
    Mapping: lambda v, contents: ["mapping", *map(contents.digest, v.items())],
    types.MethodType: lambda v, c: ["method", *c.digests(v.__func__, v.__self__)],
    weakref.ref: lambda v, contents: ["reference", contents.digest(v())],
}

_TEXTS: dict[Any, Callable[[Any], str | bytes]] = {
    int: hex,  # of whose digits Python writes only so many
    str: str,
    bytes: bytes,
    Enum: lambda v: repr(v.value),
    os.PathLike: os.fspath,
    types.ModuleType: lambda v: str(v.__name__),
    # compiled code's
    types.GetSetDescriptorType: lambda v: v.__qualname__,
    types.MemberDescriptorType: lambda v: v.__qualname__,
    torch.jit.ScriptFunction: lambda v: str(v.code),
    torch.device: lambda _: "",  # where something is computed does not count
    torch.ScriptObject: lambda _: "",  # packed weights, which the state has
    **dict.fromkeys((float, complex, type(None), type(...), np.dtype), repr),
    **dict.fromkeys((torch.dtype, torch.layout, torch.memory_format), repr),
}
"""The same under every version of Python."""

for _kind, _form in _FORMS.items():
    form_of.register(_kind, _form)
for _kind, _text in _TEXTS.items():
    form_of.register(_kind, lambda v, _, text=_text: [type(v).__qualname__, text(v)])
