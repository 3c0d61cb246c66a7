"""Whose code something is, and what it reads beside its arguments."""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib import metadata
from types import CodeType, FunctionType, ModuleType
from typing import Any

from skood.store.identity.trees import inner_code

__all__ = ["class_members", "global_values", "package_of"]

_INSTALLED = ("site-packages", "dist-packages")


@lru_cache(maxsize=10_000)
def package_of(module: str | None) -> str | None:
    """Return the package and version that a module was installed from.

    Parameters
    ----------
    module : str or None
        Its qualified name. What has none was made by hand.

    Returns
    -------
    str or None
        None for the user's own code. Python's own library has no version here: what
        it does is the same for all that skood runs on.
    """
    root = str(module).partition(".")[0]
    if root in sys.stdlib_module_names:
        return "Python"
    known = sys.modules.get(root)
    places = str([getattr(known, "__file__", ""), *getattr(known, "__path__", ())])
    own = root != "skood" and not any(place in places for place in _INSTALLED)
    if own or root == "__main__":
        return None
    version = getattr(known, "__version__", None)
    if version is None:
        names = metadata.packages_distributions().get(root, ())
        version = metadata.version(names[0]) if names else None
    return f"{root} {str(version).partition('+')[0]}"  # not whether for CUDA, say


def global_values(function: FunctionType) -> Iterator[tuple[str, Any]]:
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
    if not isinstance(value, ModuleType):
        yield name, value
    elif value not in seen and package_of(value.__name__) is None:
        for key in sorted(used & vars(value).keys()):
            yield from _values(f"{name}.{key}", vars(value)[key], used, (*seen, value))


@lru_cache(maxsize=10_000)
def _names(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that code loads as globals, and all that it uses."""
    codes = [*inner_code(code)]
    steps = (step for part in codes for step in dis.get_instructions(part))
    loaded = (s.argval for s in steps if s.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    return frozenset(loaded), frozenset(n for part in codes for n in part.co_names)


def class_members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield what a class of the user has: functions by themselves, and values."""
    for name, member in sorted(vars(kind).items()):
        inside = (getattr(member, way, None) for way in ("fget", "__func__", "func"))
        value = next((f for f in inside if f is not None), member)
        # What Python itself writes for a class follows from the rest of it.
        written = isinstance(value, FunctionType) and (
            value.__code__.co_filename != "<string>" and "annotate" not in name
        )
        if written or not name.startswith(("__", "_abc_")):
            yield name, value
