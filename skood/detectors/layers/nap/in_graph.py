"""NAP's distances as products of tensors, which can become a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.detectors.layers.nap.angles import SMALLEST_SQUARE
from skood.hamming import PatternBank
from skood.hamming.packing import unpacked_bits
from skood.numerics.device import array_namespace, like
from skood.numerics.graph import ascending
from skood.numerics.rows import row_dots, unit_rows

__all__ = ["activation_signs", "angles_in_graph", "level_place", "nearest_in_graph"]


def level_place(percentile: float, width: int) -> int:
    """Return the place of the level among a row's sorted activations."""
    return int(percentile * (width - 1) / 100)


def activation_signs(x: Any, percentile: float) -> Any:
    """Return +1 where an activation is above the row's percentile, else -1, int8."""
    place = level_place(percentile, x.shape[1])
    level = ascending(x)[:, place : place + 1]
    xp = array_namespace(x)
    return 2 * xp.astype(x > xp.clip(level, 0, None), xp.int8) - 1


def nearest_in_graph(signs: Any, bank: PatternBank, groups: Any) -> Any:
    """Return each row's distance to the nearest pattern, of its group if given, (n,).

    Equal bits less unequal ones are a product of signs: exact in float32 up to 2^24.
    The graph holds the patterns in a byte a bit.
    """
    xp = array_namespace(signs)
    known = 2 * unpacked_bits(bank.patterns, bank.n_bits).astype(np.int8) - 1
    known = xp.astype(like(known, signs), xp.float32)
    alike = xp.astype(signs, xp.float32) @ known.T
    distances = xp.astype((bank.n_bits - alike) / 2, xp.float64)
    if groups is not None:
        sizes = np.diff(bank.starts)
        homes = like(np.repeat(np.arange(len(sizes)), sizes), groups)
        other = homes != groups[:, None]
        distances = xp.where(other, 0 * distances + bank.n_bits, distances)
    return xp.min(distances, axis=1)


def angles_in_graph(x: Any, sums: NDArray[np.float64], lookup: Any) -> Any:
    """Return (1 - cosine) / 2 of rows and their class's, or the nearest, mean."""
    xp = array_namespace(x)
    squares = (sums**2).sum(axis=1)
    known = squares > SMALLEST_SQUARE
    lengths = np.sqrt(np.where(known, squares, 1.0))
    unit = unit_rows(xp.astype(x, xp.float64))
    directions = like(sums * (known / lengths)[:, None], unit)
    if lookup is None:
        cosines = xp.max(unit @ directions.T, axis=1)
    else:
        seen = lookup >= 0
        # Clipping asks whether a number is NaN, which of integers ONNX cannot say.
        cosines = row_dots(unit, directions[xp.where(seen, lookup, 0 * lookup)])
        cosines = xp.where(seen, cosines, 0 * cosines)
    return (1 - xp.clip(cosines, -1, 1)) / 2
