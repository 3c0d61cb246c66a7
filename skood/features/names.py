"""Names of blocks: a layer and a statistic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

LOGITS = "logits"
DEFAULT_STATISTIC = "avg"

Key: TypeAlias = tuple[str, str]
Layers: TypeAlias = str | Sequence[str] | None


def as_key(name: str | Key) -> Key:
    """Return the (layer, statistic) pair of a block's name.

    A bare layer name means its ``"avg"`` statistic. The network's output is never
    pooled, so the layer ``"logits"`` has one statistic only, of the same name; and so
    does an entry of it, ``"logits[1]"``, where the network puts out several tensors.
    """
    if isinstance(name, str):
        return (name, LOGITS if is_logits(name) else DEFAULT_STATISTIC)
    layer, statistic = name
    return (layer, LOGITS if is_logits(layer) else statistic)


def is_logits(layer: str) -> bool:
    """Return whether a layer is the network's output, or a named entry of it."""
    return layer == LOGITS or layer.startswith(f"{LOGITS}[")


def column_names(widths: Mapping[Key, int]) -> list[str]:
    """Return the names of all blocks' columns, ``layer__statistic__number``."""
    return [
        f"{layer}__{statistic}__{column}"
        for (layer, statistic), width in widths.items()
        for column in range(width)
    ]
