"""Scores in a file: for more rows than one wants to hold, or to score twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood._sklearn_compat import num_samples, safe_indexing
from skood.features import LayerFeatures
from skood.features.chunks import portion_rows
from skood.files.atomic import replacing
from skood.files.paths import user_path

__all__ = ["written_scores"]

DTYPE = np.dtype("<f8")


def written_scores(
    path: str | Path, scores_of: Callable[[Any], NDArray[np.float64]], X: Any
) -> NDArray[np.float64]:
    """Write the scores of all rows to a ``.npy`` file, portion by portion, and map it.

    Parameters
    ----------
    path : str or Path
        The file. It appears when it is whole, in the place of one that was there.
    scores_of : callable
        From some rows to their scores. A portion is a whole number of chunks, so that
        the scores are those that all rows would get in one call.
    X : LayerFeatures or array-like of n rows
        The rows.

    Returns
    -------
    memmap of float64, shape (n,)
        To be read only.
    """
    target = user_path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    n_rows = num_samples(X)
    header = {"descr": DTYPE.str, "fortran_order": False, "shape": (n_rows,)}
    with replacing(target) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for portion in _portions(X, n_rows):
            file.write(scores_of(portion).astype(DTYPE, copy=False).tobytes())
    scores: NDArray[np.float64] = np.load(target, mmap_mode="r", allow_pickle=False)
    return scores


def _portions(X: Any, n_rows: int) -> Iterator[Any]:
    step = portion_rows()
    if n_rows <= step:
        yield X
        return
    for start in range(0, n_rows, step):
        rows = slice(start, min(start + step, n_rows))
        yield X[rows] if isinstance(X, LayerFeatures) else safe_indexing(X, rows)
