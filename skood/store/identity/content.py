"""Digests of Python objects by their content."""

from __future__ import annotations

import copyreg
import hashlib
import types
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skood.store.identity.code import (
    NOT_LOOKED_INTO,
    attribute_values,
    class_members,
    code_digest,
    global_values,
    is_users_own,
    type_name,
)
from skood.store.identity.huggingface import (
    config_content,
    is_config,
    is_tokenizer,
    tokenizer_content,
)
from skood.store.identity.parts import (
    is_note,
    named_tensors,
    part_content,
    walked,
)
from skood.store.identity.weights import weights_digest

__all__ = ["Digest", "UnknownContentError"]

_SCALARS = (bool, int, float, complex, str, bytes, type(None), type(...))
_NAMED = (torch.dtype, torch.layout, torch.memory_format, np.dtype, Enum)

_told: set[str] = set()


class UnknownContentError(Exception):
    """The type of something that has no content a digest could take in."""


class Digest:
    """Takes in Python objects by their content.

    What cannot be read is named in a warning, once, among what a function reads by
    name, a class has, or a network holds. Elsewhere it is an error.
    """

    def __init__(self) -> None:
        self._state = hashlib.sha256()
        self._open: list[int] = []
        self._known: dict[int, tuple[Any, bytes]] = {}
        self._parts: dict[int, tuple[Any, str]] = {}
        self._where: list[str] = []
        self._networks = 0

    def hexdigest(self) -> str:
        """Return 32 hexadecimal digits."""
        return self._state.hexdigest()[:32]

    def text(self, kind: str, text: str) -> None:
        """Take in a text."""
        data = text.encode("utf-8", "surrogatepass")
        self._state.update(f"{kind} {len(data)}:".encode() + data)

    def add(self, value: Any) -> None:
        """Take in an object."""
        if isinstance(value, _SCALARS):
            self.text(type(value).__name__, repr(value))
        elif isinstance(value, _NAMED):
            self.text("named", f"{type(value).__qualname__} {value}")
        elif isinstance(value, types.ModuleType):
            self.text("named", value.__name__)
        elif isinstance(value, type) and not is_users_own(value.__module__):
            self.text("named", type_name(value))
        elif isinstance(value, torch.device):
            self.text("device", "")  # where something is computed does not count
        elif id(value) in self._parts:
            self.text("part", self._parts[id(value)][1])
        else:
            self._once(value, self._content)

    def network(self, module: nn.Module) -> None:
        """Take in a network but for its weights."""
        self._networks += 1
        own = f"network {self._networks}"
        for name, thing in named_tensors(module):
            self._parts.setdefault(id(thing), (thing, f"{own} {name}"))
        for name, part in walked(module):
            self.text("part", name)
            if not isinstance(part, torch.jit.ScriptModule):
                self._class_of(part)
            for kind, key, value in part_content(part):
                self.text(kind, key)
                self._noted(f"the network's {name or 'own'} {kind} {key!r}", value)

    def _once(self, value: Any, take_in: Callable[[Any], None]) -> None:
        """Take in an object's own digest, made once however often it is met."""
        if id(value) in self._open:
            around = len(self._open) - self._open.index(id(value))
            return self.text("around", str(around))
        if id(value) not in self._known:
            outside, self._state = self._state, hashlib.sha256()
            self._open.append(id(value))
            try:
                take_in(value)
                # Kept with the object, so that its id stays its own.
                self._known[id(value)] = value, self._state.digest()
            finally:
                self._open.pop()
                self._state = outside
        self._state.update(b"of " + self._known[id(value)][1])
        return None

    def _noted(self, where: str, value: Any) -> None:
        """Take in what may have a content that cannot be read."""
        self._where.append(where)
        try:
            self.add(value)
        except RecursionError:
            self._unknown(value)
        finally:
            self._where.pop()

    def _unknown(self, value: Any) -> None:
        kind = type_name(type(value))
        if not self._where:
            raise UnknownContentError(kind)
        self.text("unknown", kind)
        message = (
            f"{self._where[-1]} holds a {kind}, whose content cannot be read: a cache "
            "does not see when it changes. Give it, or the network or function that it "
            "is of, an attribute cache_key: a text that you change whenever it changes."
        )
        if message not in _told:
            _told.add(message)
            warnings.warn(message, UserWarning, stacklevel=2)

    def _content(self, value: Any) -> None:
        if hasattr(value, "cache_key") and not isinstance(value, type):
            return self.text("cache_key", str(value.cache_key))
        if self._where and is_note(value):
            return self.text("note", type_name(type(value)))
        for kinds, add in _CONTENTS:
            if isinstance(value, kinds):
                return add(self, value)
        if is_tokenizer(value):
            return self._of_class(value, tokenizer_content(value))
        if is_config(value):
            return self._of_class(value, config_content(value))
        return self._object(value)

    def _all(self, kind: str, values: Any) -> None:
        values = list(values)
        self.text(kind, str(len(values)))
        for value in values:
            self.add(value)

    # Containers and numbers ------------------------------------------------------

    def _sequence(self, value: Any) -> None:
        self._all(type(value).__name__, value)

    def _mapping(self, value: Mapping[Any, Any]) -> None:
        self._all("keys", value.keys())
        self._all("values", value.values())

    def _unordered(self, value: Any) -> None:
        self._all("set", sorted(value, key=repr))

    def _array(self, value: Any) -> None:
        if value.dtype.hasobject:
            return self._all(f"objects {value.shape}", value.ravel().tolist())
        return self._data(f"{value.dtype.str} {value.shape}", value)

    def _data(self, kind: str, array: Any) -> None:
        self.text("array", kind)
        self._state.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)

    def _tensor(self, value: Tensor) -> None:
        kind = f"{value.dtype} {tuple(value.shape)}"
        if value.device.type == "meta":
            return self.text("meta", kind)
        try:
            plain = value.detach().cpu().resolve_conj().resolve_neg()
            if plain.is_quantized:
                kind, plain = f"{kind} {plain.qscheme()}", plain.dequantize()
            plain = plain if plain.layout == torch.strided else plain.to_dense()
            flat = plain.contiguous().reshape(-1).view(torch.uint8).numpy()
        except (NotImplementedError, RuntimeError):
            return self._unknown(value)
        return self._data(kind, flat)

    def _module(self, value: nn.Module) -> None:
        self.network(value)
        self.text("weights", weights_digest(value))

    # Code ------------------------------------------------------------------------

    def _function(self, value: types.FunctionType) -> None:
        self.text("function", f"{value.__module__}.{value.__qualname__}")
        self._state.update(code_digest(value.__code__))
        self._all("defaults", (value.__defaults__, value.__kwdefaults__))
        self._all("closure", map(_held, value.__closure__ or ()))
        if is_users_own(value.__globals__.get("__name__")):
            for name, found in [*global_values(value), *sorted(vars(value).items())]:
                self.text("global", name)
                self._global(f"{name!r}, read by {value.__qualname__},", found)

    def _global(self, where: str, value: Any) -> None:
        if isinstance(value, types.FunctionType):
            home = value.__globals__.get("__name__")
            if not is_users_own(home) and "<locals>" not in value.__qualname__:
                return self.text("named", f"{home}.{value.__qualname__}")
        return self._noted(where, value)

    def _method(self, value: types.MethodType) -> None:
        self._all("method", (value.__func__, value.__self__))

    def _builtin(self, value: types.BuiltinFunctionType) -> None:
        self.text("builtin", f"{value.__module__}.{value.__qualname__}")
        self.add(value.__self__)

    def _class_of(self, value: Any) -> None:
        self._once(value.__class__, self._class)

    def _class(self, kind: type) -> None:
        if isinstance(vars(kind).get("cache_key"), str):
            return self.text("cache_key", vars(kind)["cache_key"])
        self.text("class", type_name(kind))
        if kind.__module__.partition(".")[0] in NOT_LOOKED_INTO:
            return None
        own = is_users_own(kind.__module__)
        for name, member in class_members(kind):
            self.text("member", name)
            if own:
                self._noted(f"{name!r} of the class {kind.__qualname__}", member)
            else:
                self._state.update(code_digest(member.__code__))
        for base in kind.__bases__:
            self._once(base, self._class)
        return None

    # Other objects ---------------------------------------------------------------

    def _of_class(self, value: Any, content: Mapping[str, Any]) -> None:
        self._class_of(value)
        self._mapping(content)

    def _object(self, value: Any) -> None:
        """Take in what pickle would keep of an object, and its class's code."""
        reduce = copyreg.dispatch_table.get(type(value), lambda v: v.__reduce_ex__(4))
        try:
            reduced = reduce(value)
        except Exception:
            held = attribute_values(value)
            return self._unknown(value) if held is None else self._of_class(value, held)
        self._class_of(value)
        if isinstance(reduced, str):
            self.text("global", reduced)
            return self.add(getattr(value, "__wrapped__", None))
        parts = (list(p) if isinstance(p, Iterator) else p for p in reduced)
        return self._all("object", parts)


def _held(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return ...


_CONTENTS: tuple[tuple[Any, Any], ...] = (
    ((tuple, list), Digest._sequence),
    (Mapping, Digest._mapping),
    ((set, frozenset), Digest._unordered),
    ((np.ndarray, np.generic), Digest._array),
    (Tensor, Digest._tensor),
    (nn.Module, Digest._module),
    (type, Digest._class),
    (types.FunctionType, Digest._function),
    (types.CodeType, lambda digest, value: digest._state.update(code_digest(value))),
    (types.MethodType, Digest._method),
    (types.BuiltinFunctionType, Digest._builtin),
    (weakref.ref, lambda digest, value: digest.add(value())),
    (torch.fx.Graph, lambda digest, value: digest.text("graph", str(value))),
    (torch.jit.ScriptFunction, lambda digest, value: digest.text("code", value.code)),
)
