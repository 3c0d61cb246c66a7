"""Distances to the k-th nearest row as tensors, which can become a graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from skood.neighbors.space import Floats
from skood.numerics.device import array_namespace, like
from skood.numerics.rows import lengths, unit_rows

__all__ = ["kth_distances_in_graph"]


def kth_distances_in_graph(x: Any, points: Floats, k: int, unit: bool) -> Any:
    """Return the Euclidean distance of each tensor row to its k-th nearest point, (n,).

    Rows are scaled to length one if ``unit``; points are as they are compared.
    A product of centred rows finds which that is, and its distance is then taken from
    the difference: of the product alone, near rows would be rounding.
    """
    xp = array_namespace(x)
    centre = (points / len(points)).sum(axis=0)
    # A power of two, by which nothing is rounded and no square is too large.
    scale = 2.0 ** -float(np.clip(np.frexp(np.abs(points).max())[1], -1000, 1000))
    known = (points - centre) * scale
    queries = xp.astype(x, xp.float64)
    queries = unit_rows(queries) if unit else queries
    queries = (queries - like(centre, queries)) * scale
    bank = like(known, queries)
    nearness = queries @ bank.T - like(0.5 * (known**2).sum(axis=1), queries)
    kth = nearness.topk(k, dim=1).indices[:, k - 1]
    return lengths(queries - bank[kth]) / scale
