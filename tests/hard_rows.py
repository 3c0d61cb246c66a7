"""Rows for the hard life of a detector: the same numbers in every guise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from skood.features import LOGITS, LayerFeatures, LinearHead

POWERS = {"avg": 1, "max": 1, "l2": 1, "gram": 2}
"""How a statistic grows with the layer's entries; others are let alone."""

SHIFTED = ("avg", "max", "l2")
"""Statistics that move with the layer's entries."""


def mapped(features: LayerFeatures, change: Callable[[Any], Any]) -> LayerFeatures:
    """Return features with every block, that of views too, changed."""
    blocks = {name: change(features.block(*name)) for name in features.block_names}
    views = {name: mapped(view, change) for name, view in features.views.items()}
    return LayerFeatures(blocks, features.head, views)


def scaled(features: LayerFeatures, factors: Any) -> LayerFeatures:
    """Return hidden layers in other units, with a head that gives the same logits.

    ``factors`` are by layer, a number or one for each column.
    """

    def of_block(name: tuple[str, str], block: Any) -> Any:
        layer, statistic = name
        if statistic not in POWERS:
            return block
        factor = factors[layer]
        if np.ndim(factor) and statistic == "gram":  # of two powers
            factor = np.tile(factor, 2)
        return block * factor ** POWERS[statistic]

    return _changed(
        features,
        of_block,
        lambda head: LinearHead(head.weight / factors[head.layer], head.bias),
    )


def shifted(features: LayerFeatures, by: Any) -> LayerFeatures:
    """Return hidden layers with other zeros, with a head that gives the same logits."""

    def of_block(name: tuple[str, str], block: Any) -> Any:
        moves = name[0] != LOGITS and name[1] in SHIFTED
        return block + by[name[0]] if moves else block

    def of_head(head: LinearHead) -> LinearHead:
        moved = (head.weight * by[head.layer]).sum(axis=1)
        return LinearHead(head.weight, head.bias - moved)

    return _changed(features, of_block, of_head)


def with_logits_shifted(features: LayerFeatures, by: float) -> LayerFeatures:
    """Return features whose logits are all larger by a number."""
    return _changed(
        features,
        lambda name, block: block + by if name[0] == LOGITS else block,
        lambda head: LinearHead(head.weight, head.bias + by),
    )


def _changed(features: LayerFeatures, of_block: Any, of_head: Any) -> LayerFeatures:
    blocks = {n: of_block(n, features.block(*n)) for n in features.block_names}
    head = None if features.head is None else of_head(features.head)
    views = {n: _changed(v, of_block, of_head) for n, v in features.views.items()}
    return LayerFeatures(blocks, head, views)


# The same numbers, otherwise in memory ---------------------------------------------


def _every_other(block: Any) -> Any:
    wide = np.full((2 * len(block), 2 * block.shape[1]), np.nan, block.dtype)
    wide[::2, 1::2] = block
    return wide[::2, 1::2]


def _backwards(block: Any) -> Any:
    return np.ascontiguousarray(block[::-1, ::-1])[::-1, ::-1]


def _read_only(block: Any) -> Any:
    block = block.copy()
    block.flags.writeable = False
    return block


def _unaligned(block: Any) -> Any:
    room = np.zeros(block.nbytes + 1, np.uint8)[1:]
    found = room.view(block.dtype).reshape(block.shape)
    found[:] = block
    return found


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "Fortran": np.asfortranarray,
    "every other": _every_other,
    "backwards": _backwards,
    "read-only": _read_only,
    "unaligned": _unaligned,
    "swapped bytes": lambda block: block.astype(block.dtype.newbyteorder()),
}
