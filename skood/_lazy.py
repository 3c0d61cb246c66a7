"""Names of a package that are imported when they are first used."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(package: dict[str, Any], homes: dict[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package whose names live in other modules.

    Parameters
    ----------
    package : dict
        The package's ``globals()``; a name is kept there once it was used.
    homes : dict of str to str
        The module that has each name.

    Returns
    -------
    callable
    """

    def __getattr__(name: str) -> Any:
        if name not in homes:
            raise AttributeError(
                f"module {package['__name__']!r} has no attribute {name!r}"
            )
        package[name] = value = getattr(import_module(homes[name]), name)
        return value

    return __getattr__
