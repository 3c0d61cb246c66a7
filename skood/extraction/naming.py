"""Names of layers, and what of a network they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skood.extraction.entries import Path, split_name
from skood.features import LOGITS

__all__ = ["PENULTIMATE", "RESERVED", "module_name", "resolved_name"]

PENULTIMATE = "penultimate"
"""The input of the head."""

RESERVED = (PENULTIMATE, LOGITS)
"""Names of what is no module; a module of such a name is called with a dot before."""


def resolved_name(name: str, modules: Mapping[str, Any]) -> tuple[str, Path] | None:
    """Return what a layer's name means, and the way to one entry of its output.

    Parameters
    ----------
    name : str
        As the user gave it.
    modules : mapping of str
        The parts of the network by qualified name.

    Returns
    -------
    tuple of (str, path), or None
        ``"logits"``, ``"penultimate"``, a qualified name, or ``""`` for the network
        itself; None where the name means nothing.

    Examples
    --------
    >>> from skood.extraction.naming import resolved_name
    >>> resolved_name("a.b[0]", {"a.b": None}), resolved_name("[1]", {})
    (('a.b', (0,)), ('', (1,)))
    >>> resolved_name(".logits", {"logits": None}), resolved_name("logits", {})
    (('logits', ()), ('logits', ()))
    """
    if name in RESERVED or name in modules:
        return name, ()
    base, path = split_name(name)
    if base == LOGITS or (base == "" and path):
        return base, path
    base = base.removeprefix(".")
    return (base, path) if base in modules else None


def module_name(name: str) -> str:
    """Return how a part is called where its own name means something else."""
    return f".{name}" if name in RESERVED else name
