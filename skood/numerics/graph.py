"""Kernels inside of a graph, where the number of rows is not known.

A graph (of ``torch.export``, and from there ONNX) is a kernel that ran once on tensors.
What depends on how many rows there are, or on their values, would be frozen in it: so a
kernel that works block by block takes all rows at once here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.numerics.device import array_namespace, like

__all__ = [
    "EVERY_ROW",
    "ascending",
    "ascending_order",
    "becoming_graph",
    "in_graph",
    "places",
    "row_slices",
]

_IN_GRAPH: ContextVar[bool] = ContextVar("in_graph", default=False)

EVERY_ROW = slice(None)


def in_graph() -> bool:
    """Return whether kernels that run now become a graph."""
    return _IN_GRAPH.get()


@contextmanager
def becoming_graph() -> Iterator[None]:
    """Let the kernels that run within know that they become a graph."""
    token = _IN_GRAPH.set(True)
    try:
        yield
    finally:
        _IN_GRAPH.reset(token)


def row_slices(x: Any, step: int) -> Iterator[slice]:
    """Yield the slices of blocks of rows; one of all rows where they become a graph."""
    if in_graph():
        yield EVERY_ROW
        return
    for start in range(0, len(x), step):
        yield slice(start, min(start + step, len(x)))


def ascending(x: Any) -> Any:
    """Return the rows sorted, the least first, (n, d)."""
    # A sort that is asked to be stable has no counterpart in ONNX.
    return x.sort(dim=1).values if in_graph() else array_namespace(x).sort(x, axis=1)


def ascending_order(x: Any) -> Any:
    """Return the columns of each row, the least first, ties in their order, (n, d)."""
    xp = array_namespace(x)
    if not in_graph():
        return xp.argsort(x, axis=1, stable=True)
    # A stable sort has no counterpart in ONNX, and torch's other one leaves ties in any
    # order. So equal entries get one rank, and between them their column decides.
    ordered, order = x.sort(dim=1)
    differs = ordered[:, 1:] != ordered[:, :-1]
    ranks = xp.cumulative_sum(xp.astype(differs, xp.int64), axis=1)
    ranks = xp.concat([xp.zeros_like(order[:, :1]), ranks], axis=1)
    ranks = xp.zeros_like(order).scatter(1, order, ranks)
    return (ranks * x.shape[1] + like(np.arange(x.shape[1]), order)).argsort(dim=1)


def places(edges: NDArray[np.float64], x: Any) -> Any:
    """Return how many of some sorted numbers are no higher than each entry.

    Parameters
    ----------
    edges : ndarray of shape (m,)
        In ascending order.
    x : array of any shape
        NumPy or torch.

    Returns
    -------
    array of int64, in the shape of x
    """
    xp, known = array_namespace(x), like(edges, x)
    if not in_graph():
        return xp.searchsorted(known, x, side="right")
    return xp.sum(xp.astype(known <= x[..., None], xp.int64), axis=-1)
