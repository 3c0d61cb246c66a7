"""Fingerprints of what turns an input into features: functions and networks."""

from __future__ import annotations

import copyreg
import functools
import hashlib
import types
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skood.extraction.store.huggingface import (
    NETWORK_NOTES,
    config_content,
    is_tokenizer,
    tokenizer_content,
)

__all__ = ["callable_fingerprint", "structure_fingerprint"]

_SCALARS = (bool, int, float, complex, str, bytes, type(None), type(...))
_NAMED = (type, torch.dtype, torch.device, np.dtype, Enum, types.ModuleType)
_CODE = (types.FunctionType, types.BuiltinFunctionType)
_NOT_LOOKED_INTO = ("builtins", "torch", "typing")


def callable_fingerprint(function: Any, role: str = "preprocess") -> str:
    """Return a digest that changes when a callable becomes another one.

    It takes in the code of Python functions with their defaults and the values that
    they close over, and what an object holds. Other functions and constants of a
    module, which a function calls by name, are not looked into.

    Parameters
    ----------
    function : callable or None
        An attribute ``cache_key``, if it has one, is used instead of all that.
    role : str, default="preprocess"
        The parameter's name, for messages.

    Returns
    -------
    str
        32 hexadecimal digits.

    Raises
    ------
    TypeError
        If it holds something whose content cannot be read.

    Examples
    --------
    >>> from skood.extraction.store.fingerprint import callable_fingerprint
    >>> half = callable_fingerprint(lambda x: x / 2)
    >>> half == callable_fingerprint(lambda x: x / 2)
    True
    >>> half == callable_fingerprint(lambda x: x / 3)
    False
    """
    digest = _Digest()
    try:
        digest.add(function)
    except _UnknownContentError as error:
        raise TypeError(
            f"{role}={function!r} holds a {error}, whose content cannot be read, so "
            "that a cache could not tell when it changes. Give the function an "
            "attribute cache_key: a text that you change whenever its result does."
        ) from None
    return digest.hexdigest()


def structure_fingerprint(module: nn.Module) -> str:
    """Return a digest of a network's parts, settings and code, without its weights.

    Parameters
    ----------
    module : nn.Module
        Taken in are its parts' classes, the numbers, texts and functions among their
        attributes, the buffers that its state has not, the configurations of
        Hugging Face's networks, and the code of classes that are not torch's own.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    digest = _Digest()
    parts = dict(module.named_modules(remove_duplicate=False))
    for name, part in parts.items():
        digest.text("part", name)
        digest.text("class", _class_digest(part.__class__))
        for kind, key, value in _settings(part):
            digest.text(kind, key)
            digest.add(value)
    # Shared by all parts of a network, most often.
    configs = {id(c): c for c in (vars(p).get("config") for p in parts.values())}
    for content in filter(None, map(config_content, configs.values())):
        digest.text("config", "")
        digest.add(content)
    return digest.hexdigest()


_NOT_SETTINGS = {*vars(nn.Module()), *NETWORK_NOTES}


def _settings(part: nn.Module) -> Iterator[tuple[str, str, Any]]:
    for key, value in sorted(vars(part).items()):
        if key not in _NOT_SETTINGS and _is_setting(value):
            yield "setting", key, value
    for key in sorted(part._non_persistent_buffers_set):
        yield "buffer", key, part._buffers[key]


def _is_setting(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_setting, value))
    return isinstance(value, (*_SCALARS, *_NAMED, *_CODE))


class _UnknownContentError(Exception):
    """The type of something that has no content a digest could take in."""


class _Digest:
    """Takes in Python objects by their content."""

    def __init__(self) -> None:
        self._state = hashlib.sha256()
        self._open: list[int] = []

    def hexdigest(self) -> str:
        return self._state.hexdigest()[:32]

    def text(self, kind: str, text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        self._state.update(f"{kind} {len(data)}:".encode() + data)

    def data(self, kind: str, array: Any) -> None:
        self.text("array", kind)
        self._state.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)

    def all(self, kind: str, values: Any) -> None:
        values = list(values)
        self.text(kind, str(len(values)))
        for value in values:
            self.add(value)

    def add(self, value: Any) -> None:
        if isinstance(value, _SCALARS):
            self.text(type(value).__name__, repr(value))
        elif isinstance(value, _NAMED):
            self.text("named", _name_of(value))
        elif id(value) in self._open:
            self.text("around", str(len(self._open) - self._open.index(id(value))))
        else:
            self._open.append(id(value))
            self._content(value)
            self._open.pop()

    def _content(self, value: Any) -> None:
        if hasattr(value, "cache_key"):
            return self.text("cache_key", str(value.cache_key))
        for kinds, add in _CONTENTS:
            if isinstance(value, kinds):
                return add(self, value)
        return self._tokenizer(value) if is_tokenizer(value) else self._object(value)

    def _sequence(self, value: Any) -> None:
        self.all(type(value).__name__, value)

    def _mapping(self, value: Mapping[Any, Any]) -> None:
        self.all("keys", value.keys())
        self.all("values", value.values())

    def _unordered(self, value: Any) -> None:
        self.all("set", sorted(value, key=repr))

    def _array(self, value: Any) -> None:
        if value.dtype.hasobject:
            return self.all(f"objects {value.shape}", value.ravel().tolist())
        return self.data(f"{value.dtype.str} {value.shape}", value)

    def _tensor(self, value: Tensor) -> None:
        flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        self.data(f"{value.dtype} {tuple(value.shape)}", flat.numpy())

    def _module(self, value: nn.Module) -> None:
        self.text("network", structure_fingerprint(value))
        self._mapping(value.state_dict())

    def _function(self, value: types.FunctionType) -> None:
        self.text("function", f"{value.__module__}.{value.__qualname__}")
        self._code(value.__code__)
        self.all("defaults", (value.__defaults__, value.__kwdefaults__))
        self.all("closure", (cell.cell_contents for cell in value.__closure__ or ()))

    def _code(self, value: types.CodeType) -> None:
        self.text("code", value.co_code.hex())
        self.all("names", (*value.co_names, *value.co_varnames, *value.co_freevars))
        self.all("constants", value.co_consts)

    def _method(self, value: types.MethodType) -> None:
        self.all("method", (value.__func__, value.__self__))

    def _builtin(self, value: types.BuiltinFunctionType) -> None:
        owner = value.__self__
        self.text("builtin", f"{value.__module__}.{value.__qualname__}")
        self.add(owner if not isinstance(owner, types.ModuleType) else None)

    def _tokenizer(self, value: Any) -> None:
        self.text("class", _class_digest(value.__class__))
        self._mapping(tokenizer_content(value))

    def _object(self, value: Any) -> None:
        """Take in what pickle would keep of an object, and its class's code."""
        reduce = copyreg.dispatch_table.get(type(value), lambda v: v.__reduce_ex__(4))
        try:
            reduced = reduce(value)
        except Exception:
            raise _UnknownContentError(_name_of(type(value))) from None
        self.text("class", _class_digest(value.__class__))
        if isinstance(reduced, str):
            return self.text("global", reduced)
        parts = (list(p) if isinstance(p, Iterator) else p for p in reduced)
        return self.all("object", parts)


@functools.cache
def _class_digest(kind: Any) -> str:
    digest = _Digest()
    digest.text("class", _name_of(kind))
    for cls in kind.__mro__:
        if cls.__module__.partition(".")[0] in _NOT_LOOKED_INTO:
            continue
        for name, member in sorted(vars(cls).items()):
            function = getattr(member, "fget", getattr(member, "__func__", member))
            if isinstance(function, types.FunctionType):
                digest.text("member", name)
                digest.add(function.__code__)
    return digest.hexdigest()


def _name_of(value: Any) -> str:
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, types.ModuleType):
        return value.__name__
    return f"{type(value).__qualname__} {value}"


_CONTENTS: tuple[tuple[Any, Any], ...] = (
    ((tuple, list), _Digest._sequence),
    (Mapping, _Digest._mapping),
    ((set, frozenset), _Digest._unordered),
    ((np.ndarray, np.generic), _Digest._array),
    (Tensor, _Digest._tensor),
    (nn.Module, _Digest._module),
    (types.FunctionType, _Digest._function),
    (types.CodeType, _Digest._code),
    (types.MethodType, _Digest._method),
    (types.BuiltinFunctionType, _Digest._builtin),
)
