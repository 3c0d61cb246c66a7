"""The names of classes and functions, under which they are found again."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

__all__ = ["found_in", "has_name", "name_of", "trusted_name"]

FUNCTIONS = (type, FunctionType, MethodType, BuiltinFunctionType)
HOMES = ("numpy", "torch", "scipy.special")
"""Where compiled functions are found that do not say where they are from."""


def has_name(value: Any) -> bool:
    """Return whether a value is a class, a function, or found under a name as one."""
    if isinstance(value, FUNCTIONS):
        return True
    named = callable(value) and isinstance(getattr(value, "__name__", None), str)
    return named and _found_name(value) is not None


def name_of(named: Any) -> str:
    """Return the name of a class or function, ``module:qualified.name``.

    Raises
    ------
    LookupError
        If it cannot be found again under it: a lambda, say, or what a function made.

    Warns
    -----
    UserWarning
        If it is of ``__main__``, which is another module in another process.
    """
    name = _found_name(named)
    if name is None:
        raise LookupError(f"{named!r} is not found under a name")
    if name.startswith("__main__:"):
        _warn_of_main(name.partition(":")[2])
    return name


def trusted_name(named: Any) -> str:
    """Return the name under which a folder has what the caller trusts."""
    return _found_name(named) or ":".join(next(_possible_names(named)))


def _found_name(named: Any) -> str | None:
    for module, qualname in _possible_names(named):
        with suppress(LookupError):
            if found_in(sys.modules[module], qualname) is named:
                return f"{module}:{qualname}"
    return None


def _possible_names(named: Any) -> Iterator[tuple[str, str]]:
    module, name = getattr(named, "__module__", None), getattr(named, "__name__", None)
    if isinstance(module, str):
        yield module, str(getattr(named, "__qualname__", name))
    for home in HOMES:
        yield home, str(name)


def _warn_of_main(name: str) -> None:
    warnings.warn(
        f"{name} is defined in __main__: the folder is loaded only where "
        f"trusted=[{name}] gives it again. Define it in a module of its own to load "
        "the folder elsewhere.",
        stacklevel=2,
    )


def found_in(module: Any, qualname: str) -> Any:
    """Return what a module defines, or a class within it; nothing else is entered."""
    first, *rest = qualname.split(".")
    found = vars(module)[first]
    for part in rest:
        if not isinstance(found, type):
            raise LookupError(f"{first} is no class")
        found = vars(found)[part]
    return found
