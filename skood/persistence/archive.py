"""The skops file of a folder: written as a plain tree, looked through before skops is.

skops asks which types a file names. What its readers then call, how often, and how much
they read is looked at here: the file says that too.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from math import prod
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
import skops.io

from skood._sklearn_compat import loss_names
from skood.persistence.stored import MOST_VALUES, Stored, forbidden

__all__ = ["checked_archive", "name_of", "packed"]

SCHEMA = "schema.json"
STORED = f"{Stored.__module__}.{Stored.__name__}"
IsClass = Callable[[str], bool]

PROTOCOL = 2
"""Readers of older files are less strict."""

REREAD = 16
"""Parts of a file are read at most so many times its size."""

DEEPEST = 400

NAMED_ONLY = {"skood.neural.mlp.MLP"}
"""Classes that may be named, but objects of them are not restored."""

_MEMBER = re.compile(r"\d+\.(npy|bin|npz)")


# Writing ---------------------------------------------------------------------------


def packed(estimator: Any) -> bytes:
    """Return the skops file of a copy of an estimator.

    The same estimator is the same bytes: memory addresses, which skops keeps to know
    objects again, are taken out. What has to stay one object is beside the file.
    """
    file = io.BytesIO()
    with (
        ZipFile(io.BytesIO(skops.io.dumps(estimator))) as found,
        ZipFile(file, "w", ZIP_STORED) as made,
    ):
        schema = json.loads(found.read(SCHEMA))
        numbers: dict[str, str] = {}
        for node in _nodes(schema):
            node.pop("__id__", None)
            if "file" in node:
                end = node["file"].rpartition(".")[2]
                node["file"] = numbers.setdefault(node["file"], f"{len(numbers)}.{end}")
        schema.pop("_skops_version")  # about.json has it
        made.writestr(ZipInfo(SCHEMA), json.dumps(schema, separators=(",", ":")))
        for name, number in numbers.items():
            made.writestr(ZipInfo(number), found.read(name))
    return file.getvalue()


def name_of(named: Any) -> str:
    """Return the name under which skops keeps a class or function."""
    with ZipFile(io.BytesIO(skops.io.dumps(named))) as file:
        return _name(json.loads(file.read(SCHEMA)))


# Reading ---------------------------------------------------------------------------


def checked_archive(data: bytes, is_class: IsClass) -> set[str]:
    """Return all names in a skops file, if it is one that :func:`packed` may write.

    Parameters
    ----------
    data : bytes
        The file.
    is_class : callable
        Whether a name is that of a class that the caller trusts: it may be called.

    Raises
    ------
    ValueError
        If it is anything else.
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
            return _checked_nodes(schema, file, is_class)
    except (BadZipFile, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _check_members(file: ZipFile, size: int) -> None:
    members = file.infolist()
    if any(m.compress_type != ZIP_STORED or m.flag_bits & 1 for m in members):
        raise ValueError("its parts are compressed")
    if sum(max(m.file_size, m.compress_size) for m in members) > size:
        raise ValueError("its parts are larger than the whole")
    names = [member.filename for member in members]
    strange = [n for n in names if n != SCHEMA and not _MEMBER.fullmatch(n)]
    if strange or len(set(names)) < len(names):
        raise ValueError("it has other parts than are written")


def _checked_nodes(
    schema: dict[str, Any], file: ZipFile, is_class: IsClass
) -> set[str]:
    names: set[str] = set()
    n_bytes = 0
    limit = REREAD * sum(member.file_size for member in file.infolist())
    for count, node in enumerate(_nodes(schema)):
        if count > MOST_VALUES:
            raise ValueError(f"it has over {MOST_VALUES} values")
        loader, name = node["__loader__"], _name(node)
        fits = _FITS.get(loader)
        if fits is None or "__id__" in node or not fits(node, name, is_class):
            raise ValueError(f"{name!r} is not read as {loader!r}")
        names.add(name)
        if "file" in node:
            n_bytes += file.getinfo(node["file"]).file_size
            if n_bytes > limit:
                raise ValueError("it reads its parts too often")
            if loader == "NdArrayNode":
                _check_array(file.read(node["file"]), node["__class__"])
    return names


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
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


def _name(node: dict[str, Any]) -> str:
    module, name = node["__module__"], node["__class__"]
    if not (isinstance(module, str) and isinstance(name, str)):
        raise ValueError(f"{module!r}, {name!r} is no name")
    return f"{module}.{name}"


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("an entry stands there twice")
    return made


def _check_array(data: bytes, kind: str) -> None:
    """Raise ValueError unless an array has the bytes that its header says.

    A scalar's class is called with the array: it has to be the array's own.
    """
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, _, dtype = read(file)
    wanted = prod(shape) * dtype.itemsize
    if dtype.hasobject or min(shape, default=0) < 0 or not dtype.itemsize:
        raise ValueError(f"an array of {dtype} is not loaded")
    if kind not in ("ndarray", dtype.type.__name__ if shape == () else None):
        raise ValueError(f"an array of {dtype} is no {kind}")
    if wanted != len(data) - file.tell():
        raise ValueError(f"an array of {shape} has other bytes")


# What each reader of skops may be given -----------------------------------------------


def _is(*names: str) -> Callable[..., bool]:
    return lambda node, name, is_class: name in names


def _any(node: Any, name: str, is_class: IsClass) -> bool:
    return True


def _is_scalar(node: Any, name: str, is_class: IsClass) -> bool:
    # Text within the text, of which lists would be read without being looked at.
    return isinstance(json.loads(node["content"]), (str, float, int, type(None)))


def _is_dict(node: Any, name: str, is_class: IsClass) -> bool:
    types = node["key_types"]["content"]
    content = node["content"]
    empty = {k: _is_empty(value) for k, value in content.items()}
    return (
        name
        in ("builtins.dict", "collections.OrderedDict", "sklearn.utils._bunch.Bunch")
        and len(types) == len(content)
        and all(_name(kind) == "builtins.str" for kind in types)
        and not any(forbidden(key, none) for key, none in empty.items())
    )


def _is_empty(node: Any) -> bool:
    return node["__loader__"] == "JsonNode" and node["content"] in ("null", "false")


def _is_slice(node: Any, name: str, is_class: IsClass) -> bool:
    values = node["content"].values()
    return name == "builtins.slice" and all(
        type(v) in (int, type(None)) for v in values
    )


def _is_object(node: Any, name: str, is_class: IsClass) -> bool:
    content = node.get("content")
    readers = ("DictNode", "TupleNode", "BytesNode", "JsonNode")
    return name not in NAMED_ONLY and (
        content is None or content["__loader__"] in readers
    )


def _is_made(node: Any, name: str, is_class: IsClass) -> bool:
    return name == STORED or _is_loss(node, name, is_class) or is_class(name)


def _is_array(node: Any, name: str, is_class: IsClass) -> bool:
    return node["type"] == "numpy" and node["__module__"] == "numpy"


def _is_loss(node: Any, name: str, is_class: IsClass) -> bool:
    return name in loss_names()


_FITS: dict[str, Callable[[Any, str, IsClass], bool]] = {
    "BytesNode": _is("builtins.bytes"),
    "ConstructorFromReduceNode": _is_made,
    "DTypeNode": _is("numpy.dtype"),
    "DefaultDictNode": _is("collections.defaultdict"),
    "DictNode": _is_dict,
    "FunctionNode": _any,
    "JsonNode": _is_scalar,
    "ListNode": _is("builtins.list"),
    "LossNode": _is_loss,
    "NdArrayNode": _is_array,
    "ObjectNode": _is_object,
    "PartialNode": _is("functools.partial"),
    "SliceNode": _is_slice,
    "TreeNode": _is("sklearn.tree._tree.Tree"),
    "TupleNode": _any,
    "TypeNode": _any,
}
"""skops's readers, by name; what others read is not loaded."""
