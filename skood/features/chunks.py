"""Rows in chunks: how every detector fits and scores data of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any, Protocol, TypeVar

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from skood._progress import Bar, tracked
from skood.features import LayerFeatures
from skood.numerics.graph import in_graph

CHUNK_ELEMENTS = 1 << 23
"""Numbers in one chunk: 32 MB in float32, 64 MB in float64."""


class Mergeable(Protocol):
    """Statistics of some rows that can be united with those of other rows."""

    def merge(self, other: Any) -> Any:
        """Return the statistics of both sets of rows."""


S = TypeVar("S", bound=Mergeable)


def chunk_rows(width: int) -> int:
    """Return the rows of a chunk; it depends on the width only.

    So the chunks, and with them every rounding, are the same for features in memory
    and in a store.
    """
    return max(1, CHUNK_ELEMENTS // max(width, 1))


def chunks_of(features: LayerFeatures) -> Iterator[tuple[slice, LayerFeatures]]:
    """Yield each chunk with the slice of its rows."""
    step = chunk_rows(features.shape[1])
    if 0 < len(features) <= step:
        yield slice(0, len(features)), features
        return
    for start in range(0, len(features), step):
        rows = slice(start, min(start + step, len(features)))
        yield rows, features[rows]


def merged_statistics(
    statistics_of: Callable[[LayerFeatures, NDArray[Any]], S],
    features: LayerFeatures,
    labels: NDArray[Any],
) -> S:
    """Return the statistics of all rows, merged in order from those of the chunks.

    The chunks run wherever joblib's current backend runs them
    (:func:`joblib.parallel_config`); the result does not depend on it.

    Parameters
    ----------
    statistics_of : callable
        From a chunk and its labels to its statistics; picklable.
    features : LayerFeatures of n rows
        Only the blocks that the statistics need.
    labels : ndarray of shape (n,)
        One label a row.

    Returns
    -------
    object
        What ``statistics_of`` returns, for all rows.
    """
    tasks = (
        delayed(statistics_of)(chunk, labels[rows])
        for rows, chunk in chunks_of(features)
    )
    parts = Parallel(return_as="generator", pre_dispatch="n_jobs")(tasks)
    chunks = -(-len(features) // chunk_rows(features.shape[1]))
    steps = tracked(parts, "fit", total=chunks, unit="chunks")
    return reduce(lambda one, other: one.merge(other), steps)


def by_chunks(
    values_of: Callable[[LayerFeatures, slice], NDArray[Any]], features: LayerFeatures
) -> NDArray[np.float64]:
    """Return one float64 value a row, computed chunk by chunk.

    Parameters
    ----------
    values_of : callable
        From a chunk and the slice of its rows to an array of shape (rows,).
    features : LayerFeatures of n rows
        Only the blocks that the values need.

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    if in_graph():
        return values_of(features, slice(None))
    values = np.empty(len(features), dtype=np.float64)
    with Bar(len(features), "score") as bar:
        for rows, chunk in chunks_of(features):
            values[rows] = values_of(chunk, rows)
            bar.update(len(chunk))
    return values
