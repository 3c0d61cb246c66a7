"""Rows that are there several times, and the scores that more of them would get."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skood.features import LayerFeatures
from skood.features.chunks import chunks_of

__all__ = ["twin_rows"]

FEWEST_TWINS = 3
"""A row that is there twice may be so by accident; thrice, and it comes again."""


def twin_rows(features: LayerFeatures) -> NDArray[np.bool_]:
    """Return which rows are equal to two others at least, in all blocks.

    Parameters
    ----------
    features : LayerFeatures of n rows
        What is looked at.

    Returns
    -------
    ndarray of bool, shape (n,)

    Examples
    --------
    >>> import numpy as np
    >>> from skood import LayerFeatures
    >>> from skood.detectors.twins import twin_rows
    >>> twin_rows(LayerFeatures({"a": np.array([[1.0], [2.0], [1.0], [2.0], [1.0]])}))
    array([ True, False,  True, False,  True])
    """
    numbers = np.concatenate([_numbers(chunk) for _, chunk in chunks_of(features)])
    _, place, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    return counts[place] >= FEWEST_TWINS


def _numbers(chunk: LayerFeatures) -> NDArray[np.int64]:
    """Return a number for each row, equal for equal rows and else by no likely chance.

    Of one process: another one has other numbers.
    """
    blocks = [np.ascontiguousarray(chunk.block(*name)) for name in chunk.block_names]
    rows = zip(*blocks, strict=True)
    return np.array([hash(tuple(part.tobytes() for part in row)) for row in rows])
