"""What decides what Python code does: its instructions, and what it reads."""

from __future__ import annotations

import dis
import functools
import hashlib
import sys
import types
from collections.abc import Iterator
from typing import Any

__all__ = [
    "attribute_values",
    "class_members",
    "code_digest",
    "global_values",
    "is_users_own",
    "type_name",
]

NOT_LOOKED_INTO = {"builtins", "torch", "typing"}


def type_name(kind: type) -> str:
    """Return the qualified name of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


def is_users_own(module: str | None) -> bool:
    """Return whether a module was written by the user: not installed as a package.

    Parameters
    ----------
    module : str or None
        Its qualified name. What has none was made by hand.
    """
    root = str(module).partition(".")[0]
    if root in NOT_LOOKED_INTO or root == "skood":
        return False
    if root == "__main__":
        return True
    known = sys.modules.get(root)
    paths = [getattr(known, "__file__", None), *getattr(known, "__path__", ())]
    installed = any(p and ("site-packages" in p or "dist-packages" in p) for p in paths)
    return not installed and root not in sys.stdlib_module_names


@functools.lru_cache(maxsize=10_000)
def code_digest(code: types.CodeType) -> bytes:
    """Return a digest of a function's instructions, names and constants."""
    digest = hashlib.sha256(code.co_code)
    names = (code.co_names, code.co_varnames, code.co_freevars)
    digest.update(repr(names).encode("utf-8", "surrogatepass"))
    for constant in code.co_consts:
        digest.update(_constant(constant))
    return digest.digest()


def _constant(value: Any) -> bytes:
    if isinstance(value, types.CodeType):
        return code_digest(value)
    if isinstance(value, (tuple, frozenset)):
        parts = list(map(_constant, value))
        parts = sorted(parts) if isinstance(value, frozenset) else parts
        return hashlib.sha256(f"{type(value)}".encode() + b"".join(parts)).digest()
    text = f"{type(value).__name__} {value!r}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def global_values(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield what a function reads from its module by name, as it is now.

    Of other modules of the user, which it may read by ``module.name``, what bears a
    name that the function uses.
    """
    loaded, used = _names(function.__code__)
    found = function.__globals__
    for name in sorted(loaded & found.keys()):
        yield from _values(name, found[name], used, ())


def _values(
    name: str, value: Any, used: frozenset[str], seen: tuple[Any, ...]
) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, types.ModuleType):
        yield name, value
    elif value not in seen and is_users_own(value.__name__):
        for inside in sorted(used & vars(value).keys()):
            yield from _values(
                f"{name}.{inside}", vars(value)[inside], used, (*seen, value)
            )


@functools.lru_cache(maxsize=10_000)
def _names(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that code loads as globals, and all that it uses."""
    ways = ("LOAD_GLOBAL", "LOAD_NAME")
    steps = dis.get_instructions(code)
    loaded = {step.argval for step in steps if step.opname in ways}
    used = {*code.co_names}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            more = _names(constant)
            loaded, used = loaded | more[0], used | more[1]
    return frozenset(loaded), frozenset(used)


_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)


def class_members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the functions of a class, and what else the user put there, by name."""
    for name, member in sorted(vars(kind).items()):
        inside = (getattr(member, way, None) for way in ("fget", "__func__", "func"))
        function = next((f for f in inside if f is not None), member)
        if isinstance(function, types.FunctionType):
            yield name, function
        elif is_users_own(kind.__module__) and not _is_pythons(name, member):
            yield name, member


def _is_pythons(name: str, member: Any) -> bool:
    return name.startswith(("__", "_abc_")) or isinstance(member, _DESCRIPTORS)


def attribute_values(value: Any) -> dict[str, Any] | None:
    """Return the attributes of an object, or None if they are not all that it holds."""
    members = [item for kind in type(value).__mro__ for item in vars(kind).items()]
    slots = [n for n, m in members if isinstance(m, types.MemberDescriptorType)]
    room = type(value).__basicsize__ - object.__basicsize__
    # More room than its attributes take is a content that only C can read.
    if room > 8 * (2 + len(slots)) or not hasattr(value, "__dict__"):
        return None
    held = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return {**vars(value), **held}
