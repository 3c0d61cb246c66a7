"""Items of data sets: which of their parts are inputs, and how they make a batch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data._utils.collate import collate, default_collate_fn_map

from skood.extraction.sharing import stacked_tensors

__all__ = [
    "Takes",
    "collated",
    "inputs_of",
    "is_record",
    "is_sample",
    "labels_of",
    "only_input",
    "stacked",
    "takes_of",
]

Takes = tuple[int, int] | None
"""How many inputs a network takes by position, at least and at most, if known."""


def is_sample(item: Any) -> bool:
    """Return whether an item of a list is one of a Dataset: an input and a label."""
    if not isinstance(item, tuple) or len(item) == 0:
        return False
    plain = (Number, str, bytes, tuple, list, type(None))
    return not isinstance(item[0], plain) or _is_input(item[0])


def _is_input(part: Any) -> bool:
    """Return whether a part of an item, but for the first one, may be an input."""
    if isinstance(part, (Tensor, np.ndarray)):
        return part.ndim > 0
    return hasattr(part, "convert") and hasattr(part, "resize")  # an image of PIL


def is_record(item: Any) -> bool:
    """Return whether an item holds named arrays."""
    if not isinstance(item, Mapping):
        return False
    return all(isinstance(part, (Tensor, np.ndarray)) for part in item.values())


def inputs_of(item: Any, takes: Takes) -> tuple[Any, ...]:
    """Return the parts of a Dataset's item that may be inputs, the first one anyway.

    Where the network takes a single input, what comes after it are targets.
    """
    if not isinstance(item, (tuple, list)):
        return (_without_notes(item),)
    if takes is not None and takes[1] == 1:
        return (_without_notes(item[0]),)
    return (_without_notes(item[0]), *filter(_is_input, item[1:]))


def _without_notes(item: Any) -> Any:
    """Return a mapping without what says where it is from, as ``"__key__"``."""
    if isinstance(item, Mapping) and any(_is_note(name) for name in item):
        return {name: part for name, part in item.items() if not _is_note(name)}
    return item


def _is_note(name: Any) -> bool:
    return isinstance(name, str) and name.startswith("__")


def labels_of(items: list[Any], takes: Takes) -> list[Any] | None:
    """Return the labels of some items of a Dataset, None where they have none."""
    if not all(isinstance(item, (tuple, list)) and len(item) > 1 for item in items):
        return None
    beside = [item[len(inputs_of(item, takes)) :] for item in items]
    return [part[0] for part in beside] if all(beside) else None


def collated(items: list[Any], is_raw: bool, takes: Takes) -> Any:
    """Return the inputs of a Dataset's items as a batch, several of them as a tuple."""
    parts = [inputs_of(item, takes) for item in items]
    several = len(parts[0]) > 1 and all(len(part) == len(parts[0]) for part in parts)
    if not several:
        return stacked([part[0] for part in parts])
    if is_raw and (takes is None or takes[0] < len(parts[0])):
        raise TypeError(_SEVERAL.format(len(parts[0]), _shown(parts[0])))
    return tuple(stacked([*column]) for column in zip(*parts, strict=True))


_SEVERAL = (
    "each item of X has {} parts that may be inputs ({}): say which of them the "
    "network takes. preprocess=lambda parts: parts[0] takes the first, where the "
    "others are targets; preprocess=lambda parts: parts takes all, by position; a "
    "mapping gives them by name."
)


def _shown(parts: Sequence[Any]) -> str:
    shapes = (getattr(part, "shape", None) for part in parts)
    kinds = zip(parts, shapes, strict=True)
    return ", ".join(
        type(part).__name__ if shape is None else f"shape {tuple(shape)}"
        for part, shape in kinds
    )


def stacked(parts: list[Any]) -> Any:
    """Return parts as one batch, or as they are where they do not make one."""
    try:
        return collate(parts, collate_fn_map=_STACKING)
    except (TypeError, RuntimeError):  # of no known kind, or of several lengths
        return parts


_STACKING = {
    **default_collate_fn_map,
    Tensor: lambda parts, **_: stacked_tensors(parts),
}


def only_input(batch: Any) -> Any:
    """Return the input in a batch that a loader's own function made."""
    if not isinstance(batch, (tuple, list)):
        return batch
    if len(batch) == 1 or (len(batch) == 2 and getattr(batch[1], "ndim", 0) < 2):
        return batch[0]
    raise TypeError(_SEVERAL.format(len(batch), _shown(batch)))


def takes_of(network: Any) -> Takes:
    """Return how many inputs a network takes by position, None where it does not say.

    Examples
    --------
    >>> from torch import nn
    >>> from skood.extraction.samples import takes_of
    >>> takes_of(nn.Linear(2, 2)), takes_of(nn.Bilinear(2, 2, 2))
    ((1, 1), (2, 2))
    """
    try:
        given = inspect.signature(network.forward).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind == p.VAR_POSITIONAL for p in given):
        return None
    placed = [
        p for p in given if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return sum(p.default is p.empty for p in placed), len(placed)
