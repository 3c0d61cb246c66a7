"""Rows in chunks: how every detector fits and scores data of any size, anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray

from skood._progress import Bar, tracked
from skood.features.workers import called_in_order
from skood.numerics.buffers import short_buffers
from skood.numerics.graph import in_graph

if TYPE_CHECKING:
    from skood.features import LayerFeatures

CHUNK_ELEMENTS = 1 << 23
"""Numbers in one chunk, at most: 32 MB in float32, 64 MB in float64."""

TURNS = 4
"""How often a worker gets rows of a store to score, and with them the detector."""


class Mergeable(Protocol):
    """Statistics of some rows that can be united with those of other rows."""

    def merge(self, other: Any) -> Any:
        """Return the statistics of both sets of rows."""


R = TypeVar("R")
S = TypeVar("S", bound=Mergeable)


def chunk_rows(width: int) -> int:
    """Return the rows of a chunk, a power of two; it depends on the width only.

    So the chunks, and with them every rounding, are the same for features in memory
    and in a store, and in portions of :func:`portion_rows` rows.
    """
    rows = max(1, CHUNK_ELEMENTS // max(width, 1))
    return 1 << (rows.bit_length() - 1)


def portion_rows() -> int:
    """Return a number of rows that is a whole number of chunks, whatever the width."""
    return chunk_rows(1)


def chunks_of(features: LayerFeatures) -> Iterator[tuple[slice, LayerFeatures]]:
    """Yield each chunk with the slice of its rows."""
    step = chunk_rows(features.shape[1])
    if 0 < len(features) <= step:
        yield slice(0, len(features)), features
        return
    for start in range(0, len(features), step):
        rows = slice(start, min(start + step, len(features)))
        yield rows, features[rows]


def chunk_results(
    of_chunk: Callable[..., R], features: LayerFeatures, *columns: Any, at_once: int = 1
) -> Iterator[R]:
    """Yield what a callable returns for each chunk, in the order of the rows.

    The chunks run wherever joblib's current backend runs them
    (:func:`joblib.parallel_config`). What goes to a worker is the path and the row
    numbers of rows that lie in a store or in saved features, and else the rows.

    Parameters
    ----------
    of_chunk : callable
        From a chunk and its part of each column. Any callable that has no effects.
    features : LayerFeatures of n rows
        Only the blocks that are needed; head and views do not go along.
    *columns : arrays or LayerFeatures of n rows
        What else each row has.
    at_once : int, default=1
        The chunks that a worker gets in one go.
    """
    bare = features.without_company()
    call = partial(_called, of_chunk)
    if _n_chunks(features) == 1:
        yield call(bare, *columns)
        return
    arguments = (
        (chunk, *(column[rows] for column in columns))
        for rows, chunk in chunks_of(bare)
    )
    yield from called_in_order(call, arguments, at_once)


def merged_statistics(
    statistics_of: Callable[..., S], features: LayerFeatures, *columns: Any
) -> S:
    """Return the statistics of all rows, merged in order from those of the chunks.

    The result does not depend on where the chunks run: see :func:`chunk_results`.

    Parameters
    ----------
    statistics_of : callable
        From a chunk, and its part of each column, to its statistics.
    features : LayerFeatures of n rows
        Only the blocks that the statistics need.
    *columns : arrays or LayerFeatures of n rows
        What else each row has: its label, say.

    Returns
    -------
    object
        What ``statistics_of`` returns, for all rows.
    """
    parts = chunk_results(statistics_of, features, *columns)
    steps = tracked(parts, "fit", total=_n_chunks(features), unit="chunks")
    return reduce(lambda one, other: one.merge(other), steps)


def by_chunks(
    values_of: Callable[..., NDArray[Any]], features: LayerFeatures, *columns: Any
) -> NDArray[np.float64]:
    """Return one float64 value a row, computed chunk by chunk.

    The result does not depend on where the chunks run: see :func:`chunk_results`.

    Parameters
    ----------
    values_of : callable
        From a chunk, and its part of each column, to an array of shape (rows,).
    features : LayerFeatures of n rows
        Only the blocks that the values need.
    *columns : arrays or LayerFeatures of n rows
        What else each row has.

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    if in_graph():
        return values_of(features, *columns)
    values = np.empty(len(features), dtype=np.float64)
    parts = chunk_results(values_of, features, *columns, at_once=_at_once(features))
    done = 0
    with Bar(len(features), "score") as bar:
        for part in parts:
            values[done : done + len(part)] = part
            done += len(part)
            bar.update(len(part))
    return values


def _called(of_chunk: Callable[..., R], *arguments: Any) -> R:
    with short_buffers():
        return of_chunk(*arguments)


def _n_chunks(features: LayerFeatures) -> int:
    return -(-len(features) // chunk_rows(features.shape[1]))


def _at_once(features: LayerFeatures) -> int:
    """Return how many chunks a worker scores for one copy of the detector.

    Those of a store are a path and numbers, so that many of them weigh nothing beside
    a bank of training rows.
    """
    n_chunks = _n_chunks(features)
    if n_chunks == 1 or not features.pickles_as_path:
        return 1
    return max(1, n_chunks // (TURNS * effective_n_jobs(None)))
