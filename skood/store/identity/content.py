"""Digests of Python objects by their content."""

from __future__ import annotations

import copyreg
import hashlib
import os
import types
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from functools import lru_cache, partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from skood.store.identity.code import class_members, global_values, package_of
from skood.store.identity.huggingface import settings_of
from skood.store.identity.trees import code_text
from skood.store.identity.weights import weights_digest

__all__ = ["Contents", "UnknownContentError", "is_note", "warn_once"]

Form = tuple[Any, Iterable[Any]]
"""What an object is: text or bytes, and other objects that it is made of."""

_told: set[str] = set()


class UnknownContentError(Exception):
    """The type of something that has no content a digest could take in."""


class Contents:
    """Digests of objects, each made once however often it is met.

    What cannot be read is named in a warning, once, among what a function reads by
    name, a class has, or a network holds. Elsewhere it is an error.
    """

    def __init__(self) -> None:
        self.parts: dict[int, tuple[Any, str]] = {}
        self._known: dict[int, tuple[Any, bytes]] = {}
        self._open: list[int] = []
        self._where: list[str] = []

    def digest(self, value: Any) -> bytes:
        """Return the digest of an object."""
        kind = type(value)
        if kind in _FEW:  # most of what a network holds
            return _of_few(cast(Any, kind), value)
        if isinstance(value, _PLAIN):
            return _sha(*_plain(value))
        if id(value) in self.parts:
            return _sha("part", self.parts[id(value)][1])
        if id(value) in self._open:
            return _sha("around", str(len(self._open) - self._open.index(id(value))))
        if id(value) not in self._known:
            self._open.append(id(value))
            try:
                said, inside = self._form(value)
                found = _sha(said, *(self.digest(part) for part in inside))
            finally:
                self._open.pop()
            # Kept with the object, so that its id stays its own.
            self._known[id(value)] = value, found
        return self._known[id(value)][1]

    def noted(self, where: str, value: Any) -> bytes:
        """Return the digest of what may have a content that cannot be read."""
        self._where.append(where)
        try:
            return self.digest(value)
        except RecursionError:
            return _sha(self._unknown(value)[0])
        finally:
            self._where.pop()

    def _form(self, value: Any) -> Form:
        if type(value) in (tuple, list):
            return type(value).__name__, value
        if isinstance(value, type):
            return self._class(value)
        if hasattr(value, "cache_key"):
            return f"cache_key {value.cache_key}", ()
        if self._where and is_note(value):
            return f"note {_name(type(value))}", ()
        for kinds, form in _FORMS:
            if isinstance(value, kinds):
                return form(self, value)
        held = settings_of(value)
        return self._object(value) if held is None else ("", (type(value), held))

    def _unknown(self, value: Any) -> Form:
        kind = _name(type(value))
        if not self._where:
            raise UnknownContentError(kind)
        warn_once(
            f"{self._where[-1]} holds a {kind}, whose content cannot be read: a cache "
            "does not see when it changes. Give it, or the network or function that it "
            "is of, an attribute cache_key: a text that you change whenever it changes."
        )
        return f"unknown {kind}", ()

    # Numbers and containers ------------------------------------------------------

    def _set(self, value: Any) -> Form:
        return b"set" + b"".join(sorted(map(self.digest, value))), ()

    def _mapping(self, value: Mapping[Any, Any]) -> Form:
        return "mapping", [part for pair in value.items() for part in pair]

    def _array(self, value: Any) -> Form:
        if value.dtype.hasobject:
            return f"objects {value.shape}", value.ravel().tolist()
        kind = f"array {value.dtype.str} {value.shape}:"
        return kind.encode() + np.ascontiguousarray(value).tobytes(), ()

    def _tensor(self, value: Tensor) -> Form:
        kind = f"{value.dtype} {tuple(value.shape)}"
        if value.device.type == "meta":
            return f"meta {kind}", ()
        try:
            plain = value.detach().cpu().resolve_conj().resolve_neg()
            if plain.is_quantized:
                kind, plain = f"{kind} {plain.qscheme()}", plain.dequantize()
            plain = plain if plain.layout == torch.strided else plain.to_dense()
            flat = plain.contiguous().reshape(-1).view(torch.uint8).numpy()
        except (NotImplementedError, RuntimeError):
            return self._unknown(value)
        return f"tensor {kind}:".encode() + flat.tobytes(), ()

    def _network(self, value: nn.Module) -> Form:
        from skood.store.identity.network import settings_digests  # they use each other

        return weights_digest(value), [settings_digests(value, self)]

    # Code ------------------------------------------------------------------------

    def _function(self, value: types.FunctionType) -> Form:
        name, home = _name(value), package_of(value.__module__)
        inside: list[Any] = [value.__defaults__, value.__kwdefaults__]
        inside += [_held(cell) for cell in value.__closure__ or ()]
        if home is not None and "<" not in value.__qualname__:
            return f"{name} of {home}", ()
        found = [] if home else [*global_values(value), *sorted(vars(value).items())]
        for key, read in found:
            where = f"{key!r}, read by {value.__qualname__},"
            inside += [key, self.noted(where, read)]
        return f"{name} {code_text(value.__code__)}", inside

    def _class(self, kind: type) -> Form:
        if isinstance(vars(kind).get("cache_key"), str):
            return f"cache_key {vars(kind)['cache_key']}", ()
        home = package_of(kind.__module__)
        if home is not None:
            return f"{_name(kind)} of {home}", ()
        inside: list[Any] = [*kind.__bases__]
        for key, member in class_members(kind):
            where = f"{key!r} of the class {kind.__qualname__}"
            inside += [key, self.noted(where, member)]
        return _name(kind), inside

    # Other objects ---------------------------------------------------------------

    def _object(self, value: Any) -> Form:
        """Take in what pickle would keep of an object, and its class's code."""
        reduce = copyreg.dispatch_table.get(type(value), lambda v: v.__reduce_ex__(4))
        try:
            reduced = reduce(value)
        except Exception:
            held = _attributes(value)
            return self._unknown(value) if held is None else ("", (type(value), held))
        if isinstance(reduced, str):
            return f"global {reduced}", (getattr(value, "__wrapped__", None),)
        parts = [list(p) if isinstance(p, Iterator) else p for p in reduced]
        return "object", (value.__class__, *parts)


# Plain values ----------------------------------------------------------------------


def _plain(value: Any) -> tuple[str, str | bytes]:
    """Return a kind and a text, the same under every version of Python."""
    if isinstance(value, Enum):
        return _name(type(value)), repr(value.value)
    if isinstance(value, (str, bytes)):
        return type(value).__name__, value
    if isinstance(value, types.ModuleType):
        return "module", value.__name__
    if isinstance(value, torch.device):
        return "device", ""  # where something is computed does not count
    if isinstance(value, os.PathLike):
        return "path", os.fspath(value)
    is_whole = type(value) is int  # of whose digits Python writes only so many
    return type(value).__name__, hex(value) if is_whole else repr(value)


_PLAIN = (
    *(bool, int, float, complex, str, bytes, type(None), type(...), Enum),
    *(types.ModuleType, os.PathLike, np.dtype),
    *(torch.device, torch.dtype, torch.layout, torch.memory_format),
)


_FEW = (bool, int, type(None))


@lru_cache(maxsize=4096)
def _of_few(kind: Any, value: Any) -> bytes:
    """Return the digest of a value of a type that is part of what is remembered."""
    return _sha(*_plain(value))


def _sha(*parts: str | bytes) -> bytes:
    state = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        state.update(b"%d:" % len(data))
        state.update(data)
    return state.digest()[:16]


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _held(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return ...


def _attributes(value: Any) -> dict[str, Any] | None:
    """Return the attributes of an object, or None if they are not all that it holds."""
    members = [item for kind in type(value).__mro__ for item in vars(kind).items()]
    slots = [n for n, m in members if isinstance(m, types.MemberDescriptorType)]
    room = type(value).__basicsize__ - object.__basicsize__
    # More room than its attributes take is a content that only C can read.
    if room > 8 * (2 + len(slots)) or not hasattr(value, "__dict__"):
        return None
    return vars(value) | {n: getattr(value, n) for n in slots if hasattr(value, n)}


def warn_once(message: str) -> None:
    """Warn, unless this process has been told the same."""
    if message not in _told:
        _told.add(message)
        warnings.warn(message, UserWarning, stacklevel=2)


_NOTE_TAKERS = {
    *("_thread", "threading", "logging", "queue", "concurrent", "asyncio"),
    *("multiprocessing", "tqdm", "wandb", "mlflow", "tensorboardX", "torch.cuda"),
    *("torch.optim", "torch.utils.tensorboard", "lightning", "pytorch_lightning"),
    "lightning_fabric",
}


def is_note(value: Any) -> bool:
    """Return whether an object does its work beside what a network computes.

    Locks, loggers, trainers and optimizers are such objects.
    """
    home = type(value).__module__.split(".")
    names = {".".join(home[:length]) for length in range(1, len(home) + 1)}
    is_network = isinstance(value, nn.Module)
    # Packed weights are in the network's state.
    return isinstance(value, torch.ScriptObject) or bool(
        not is_network and names & _NOTE_TAKERS
    )


_FORMS: tuple[tuple[Any, Any], ...] = (
    ((tuple, list), lambda contents, value: (type(value).__name__, value)),
    (Mapping, Contents._mapping),
    ((set, frozenset), Contents._set),
    ((np.ndarray, np.generic), Contents._array),
    (Tensor, Contents._tensor),
    (nn.Module, Contents._network),
    (types.FunctionType, Contents._function),
    (types.MethodType, lambda _, value: ("method", (value.__func__, value.__self__))),
    (types.BuiltinFunctionType, lambda _, v: (str(v.__qualname__), (v.__self__,))),
    (types.CodeType, lambda contents, value: (code_text(value), ())),
    (partial, lambda _, v: ("partial", (v.func, v.args, v.keywords, vars(v)))),
    (weakref.ref, lambda _, value: ("reference", (value(),))),
    (torch.fx.Graph, lambda _, value: (f"graph {value}", ())),
    (torch.jit.ScriptFunction, lambda _, value: (f"code {value.code}", ())),
)
