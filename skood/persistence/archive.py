"""The skops file of a folder: written as a plain tree, looked through before skops is.

skops asks which types a file names. What its readers then call, how often, and how much
they read is looked at here: the file says that too. It holds a text and nothing else;
few readers are used, and what these do not hold, ``stored.made`` makes.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import skops.io

from skood.persistence.stored import Beside, beside, forbidden, made

__all__ = [
    "MOST_VALUES",
    "STORED",
    "Node",
    "checked_archive",
    "is_found_again",
    "name_of",
    "named",
    "packed",
    "restored",
]

SCHEMA = "schema.json"
Node = dict[str, Any]
STORED = f"{made.__module__}.{made.__name__}"

PROTOCOL = 2
"""Readers of older files are less strict."""

MOST_VALUES = 400_000
"""A file holds at most so many, since each takes a thousand bytes when it is read."""

DEEPEST = 400

NAMED_ONLY = {"skood.neural.mlp.MLP"}
"""Classes that may be named, but objects of them are not restored."""


# Writing ---------------------------------------------------------------------------


def is_found_again(value: Any) -> bool:
    """Return whether a class or function stands under its name in its module."""
    home = sys.modules.get(getattr(value, "__module__", None) or "")
    return home is None or vars(home).get(value.__name__) is value


@lru_cache(maxsize=1024)
def named(value: Any) -> Node:
    """Return the node of a class or function, which skops finds by its name.

    Raises
    ------
    TypeError
        If skops takes it for something else.
    """
    with ZipFile(io.BytesIO(skops.io.dumps(value))) as file:
        found = json.loads(file.read(SCHEMA))
    if found["__loader__"] not in ("FunctionNode", "TypeNode"):
        raise TypeError(f"{value!r} has no name by which it is found again.")
    return {entry: found[entry] for entry in ("__class__", "__module__", "__loader__")}


def name_of(value: Any) -> str:
    """Return the name under which skops keeps a class or function."""
    return _name(named(value))


def packed(tree: Node) -> bytes:
    """Return the skops file of a tree; the same tree is the same bytes."""
    file = io.BytesIO()
    text = json.dumps({**tree, "protocol": PROTOCOL}, separators=(",", ":"))
    with ZipFile(file, "w", ZIP_STORED) as zipped:
        zipped.writestr(ZipInfo(SCHEMA), text)
    return file.getvalue()


# Reading ---------------------------------------------------------------------------


def restored(data: bytes, parts: Beside) -> Any:
    """Return what a skops file holds, once it is checked, with what lies beside it."""
    token = beside.set(parts)
    try:
        return skops.io.loads(data, trusted=sorted(parts.trusted))
    finally:
        beside.reset(token)


def checked_archive(data: bytes) -> tuple[set[str], set[str]]:
    """Return all names in a skops file, and those of them that are called.

    Raises
    ------
    ValueError
        If it is none that :func:`packed` may write.
    """
    try:
        with ZipFile(io.BytesIO(data)) as file:
            _check_members(file, len(data))
            text = file.read(SCHEMA)
        # Counted before they are made: an empty list is two bytes here.
        if text.count(b"[") + text.count(b"{") > 4 * MOST_VALUES:
            raise ValueError(f"it has over {4 * MOST_VALUES} lists")
        schema = json.loads(text, object_pairs_hook=_without_twins)
        if schema.get("protocol") != PROTOCOL:
            raise ValueError(f"it has the protocol {schema.get('protocol')!r}")
        return _checked_nodes(schema)
    except (BadZipFile, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _check_members(file: ZipFile, size: int) -> None:
    members = file.infolist()
    if any(m.compress_type != ZIP_STORED or m.flag_bits & 1 for m in members):
        raise ValueError("its parts are compressed")
    if sum(max(m.file_size, m.compress_size) for m in members) > size:
        raise ValueError("its parts are larger than the whole")
    if [member.filename for member in members] != [SCHEMA]:
        raise ValueError("it has other parts than are written")


def _checked_nodes(schema: Node) -> tuple[set[str], set[str]]:
    names, constructors = set(), set()
    for count, one in enumerate(_nodes(schema)):
        if count > MOST_VALUES:
            raise ValueError(f"it has over {MOST_VALUES} values")
        loader, name = one["__loader__"], _name(one)
        fits = _FITS.get(loader)
        if fits is None or "__id__" in one or not fits(one, name):
            raise ValueError(f"{name!r} is not read as {loader!r}")
        names.add(name)
        if loader == "ConstructorFromReduceNode":
            constructors.add(name)
    return names, constructors


def _nodes(tree: Any) -> Iterator[Node]:
    """Yield all that skops may take for a node, wherever it stands."""
    left = [(tree, 0)]
    while left:
        one, depth = left.pop()
        if depth > DEEPEST:
            raise ValueError("it lies too deep")
        if isinstance(one, dict):
            if isinstance(one.get("__loader__"), str):
                yield one
            left += [(part, depth + 1) for part in one.values()]
        elif isinstance(one, list):
            left += [(part, depth + 1) for part in one]


def _name(one: Node) -> str:
    module, name = one["__module__"], one["__class__"]
    if not (isinstance(module, str) and isinstance(name, str)):
        raise ValueError(f"{module!r}, {name!r} is no name")
    return f"{module}.{name}"


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an entry stands there twice")
    return found


# What each reader of skops may be given -----------------------------------------------


def _any(one: Node, name: str) -> bool:
    return True


def _is(wanted: str) -> Callable[[Node, str], bool]:
    return lambda one, name: name == wanted


def _is_scalar(one: Node, name: str) -> bool:
    # Text within the text, of which lists would be read without being looked at.
    return isinstance(json.loads(one["content"]), (str, float, int, type(None)))


def _is_dict(one: Node, name: str) -> bool:
    types, content = one["key_types"]["content"], one["content"]
    return (
        name == "builtins.dict"
        and len(types) == len(content)
        and all(_name(kind) == "builtins.str" for kind in types)
        and not any(forbidden(key, _is_empty(entry)) for key, entry in content.items())
    )


def _is_empty(one: Node) -> bool:
    return one["__loader__"] == "JsonNode" and one["content"] in ("null", "false")


def _is_object(one: Node, name: str) -> bool:
    # Of a dictionary of others, dict.update would take pairs.
    readers = ("DictNode", "TupleNode", "JsonNode")
    return name not in NAMED_ONLY and one["content"]["__loader__"] in readers


_FITS: dict[str, Callable[[Node, str], bool]] = {
    "ConstructorFromReduceNode": _any,
    "DictNode": _is_dict,
    "FunctionNode": _any,
    "JsonNode": _is_scalar,
    "ListNode": _is("builtins.list"),
    "ObjectNode": _is_object,
    "TupleNode": _is("builtins.tuple"),
    "TypeNode": _any,
}
"""skops's readers, by name; what others read is not loaded."""
