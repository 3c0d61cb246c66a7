"""Tensors inside what a module returns: found, named, and taken by their names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

__all__ = [
    "NETWORK_ENTRIES",
    "Path",
    "Taken",
    "entries",
    "entry_name",
    "first_entry",
    "first_tensor",
    "has_known_entry",
    "plain",
    "rival_entries",
    "split_name",
    "taken",
]

Path = tuple[Any, ...]
"""The way to a tensor inside an output: numbers and texts, outermost first."""

LAYER_ENTRIES = (
    "sentence_embedding",
    "last_hidden_state",
    "logits",
    "token_embeddings",
)
"""What stands for the output of a layer that puts out a mapping, best first."""

NETWORK_ENTRIES = ("logits", "sentence_embedding", "last_hidden_state")
"""The same for a whole network."""

_PART = r"""\[(?:-?\d+|'[^']*'|"[^"]*")\]"""
_NAME = re.compile(rf"(.*?)((?:{_PART})*)", re.DOTALL)


# Names -----------------------------------------------------------------------------


def split_name(name: str) -> tuple[str, Path]:
    """Return a layer's name and the way to one entry of what it puts out.

    Examples
    --------
    >>> from skood.extraction.entries import split_name
    >>> split_name("encoder[-1]['map']")
    ('encoder', (-1, 'map'))
    """
    found = _NAME.fullmatch(name)
    assert found is not None  # the first group takes anything
    parts = re.findall(_PART, found[2])
    return found[1], tuple(ast.literal_eval(part[1:-1]) for part in parts)


def entry_name(layer: str, path: Path) -> str:
    """Return the name of an entry, as :func:`split_name` takes it apart."""
    return layer + "".join(f"[{part!r}]" for part in path)


# What is inside --------------------------------------------------------------------


def _named_parts(value: Any) -> list[tuple[Any, Any]] | None:
    """Return what a container holds with the names of it; None for no container."""
    if isinstance(value, (Tensor, PackedSequence, nn.Module, type)):
        return None
    if isinstance(value, Mapping):
        return [(k, part) for k, part in value.items() if isinstance(k, (str, int))]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return [*zip(value._fields, value, strict=True)]
    if isinstance(value, (tuple, list)):
        return [*enumerate(value)]
    if is_dataclass(value):
        names = [field.name for field in fields(value)]
        return [(name, getattr(value, name, None)) for name in names]
    inside = getattr(value, "__dict__", {})
    if any(isinstance(part, Tensor) for part in inside.values()):  # a namespace
        return [*inside.items()]
    return None


def entries(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every tensor and packed sequence in what a module returned, with its way.

    Examples
    --------
    >>> import torch
    >>> from skood.extraction.entries import entries
    >>> [path for path, _ in entries((torch.ones(2), {"map": torch.ones(2)}))]
    [(0,), (1, 'map')]
    """
    if isinstance(value, (Tensor, PackedSequence)):
        yield path, value
    for name, part in _named_parts(value) or ():
        yield from entries(part, (*path, name))


def first_entry(
    output: Any, preferred: Sequence[str] = LAYER_ENTRIES, path: Path = ()
) -> tuple[Path, Any] | None:
    """Return the tensor that stands for a module's output, and the way to it.

    Parameters
    ----------
    output : Tensor, packed sequence, tuple, list, mapping, dataclass or namespace
        What a module returned.
    preferred : sequence of str
        The named entries to look at before the others.
    path : tuple, default=()
        The way to ``output`` itself.

    Returns
    -------
    tuple of (path, tensor), or None
        The tensor itself, else the first one found inside; None when there is none.
        Among named entries without a preferred one, integers (ids, masks) and single
        numbers (a loss) come after all others.
    """
    if isinstance(output, (Tensor, PackedSequence)):
        return path, output
    parts = _named_parts(output) or []
    if _has_names(output):
        order = {name: number for number, name in enumerate(preferred)}
        parts = sorted(parts, key=lambda p: (order.get(p[0], 99), _is_beside(p[1])))
    found = (first_entry(part, preferred, (*path, name)) for name, part in parts)
    return next((entry for entry in found if entry is not None), None)


def first_tensor(
    output: Any, preferred: Sequence[str] = LAYER_ENTRIES
) -> Tensor | None:
    """Return the tensor that stands for a module's output, None when there is none.

    Examples
    --------
    >>> import torch
    >>> from skood.extraction.entries import first_tensor
    >>> first_tensor((None, [torch.ones(2)], torch.zeros(2)))
    tensor([1., 1.])
    >>> first_tensor({"loss": torch.zeros(()), "logits": torch.ones(2)})
    tensor([1., 1.])
    """
    found = first_entry(output, preferred)
    if found is None or getattr(found[1], "is_nested", False):
        return None
    return plain(found[1]).tensor


def _has_names(output: Any) -> bool:
    return not isinstance(output, (tuple, list)) or hasattr(output, "_fields")


def has_known_entry(output: Any, known: Sequence[str] = LAYER_ENTRIES) -> bool:
    """Return whether one of an output's named entries is known to be what counts."""
    parts = (_named_parts(output) or ()) if _has_names(output) else ()
    return any(name in known for name, _ in parts)


def _is_beside(value: Any) -> bool:
    """Return whether a named entry is no features: a loss, ids or a mask."""
    if not isinstance(value, Tensor):
        return False
    return value.ndim == 0 or not _is_real(value)


def _is_real(value: Tensor) -> bool:
    return value.is_floating_point() or value.is_complex() or value.is_quantized


def _n_rows(value: Tensor) -> int | None:
    return None if value.is_nested or value.ndim == 0 else len(value)


def rival_entries(output: Any, n_rows: int) -> list[Path]:
    """Return the ways to all tensors that could be an output's features.

    They hold numbers that are no integers, one row for each input or more; in a
    mapping with an entry that is known by name, that one alone.
    """
    if has_known_entry(output):
        return []
    return [
        path
        for path, value in entries(output)
        if isinstance(value, PackedSequence)
        or (_is_real(value) and _n_rows(value) == n_rows)
    ]


# Taking ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Taken:
    """A tensor of a layer's output, dense.

    Parameters
    ----------
    tensor : Tensor
        Its values.
    mask : Tensor of bool of shape (n, positions), optional
        The positions that count, where the output itself says so.
    """

    tensor: Tensor
    mask: Tensor | None = None

    def cloned(self) -> Taken:
        """Return one that the network cannot write to."""
        return Taken(self.tensor.clone(), self.mask)


def taken(
    output: Any, path: Path = (), preferred: Sequence[str] = LAYER_ENTRIES
) -> Taken | None:
    """Return one entry of an output, the first tensor when none is named.

    Raises
    ------
    LookupError
        If there is no entry on that way.
    """
    for part in path:
        output = _entry(output, part)
    found = first_entry(output, preferred)
    return None if found is None else plain(found[1])


def _entry(output: Any, part: Any) -> Any:
    parts = dict(_named_parts(output) or ())
    if part in parts:
        return parts[part]
    if isinstance(part, int) and -len(parts) <= part < len(parts):
        return [*parts.values()][part]
    raise LookupError(f"[{part!r}]")


def plain(value: Tensor | PackedSequence) -> Taken:
    """Return a tensor of any layout as a dense one of numbers.

    Raises
    ------
    ValueError
        If it is a nested tensor.
    """
    if isinstance(value, PackedSequence):
        padded, lengths = pad_packed_sequence(value, batch_first=True)
        steps = torch.arange(padded.shape[1])
        return Taken(padded, (steps < lengths[:, None]).to(padded.device))
    if value.is_nested:
        raise ValueError(
            "a layer puts out a nested tensor, whose rows have several lengths: name a "
            "layer before it, or one after it that pads."
        )
    if value.is_quantized:
        return Taken(value.dequantize())
    return Taken(value if value.layout == torch.strided else value.to_dense())
