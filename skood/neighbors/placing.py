"""Many rows put into cells, chunk by chunk, and how well they are found there."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import assert_all_finite

from skood.features import LayerFeatures
from skood.features.chunks import chunk_results
from skood.neighbors.cell_search import CellSearch, Known, with_probes
from skood.neighbors.cells import TRAINED_ON, CellRows, Cells
from skood.neighbors.least import least_squares
from skood.neighbors.rules import check_sizes
from skood.neighbors.space import Floats, Points
from skood.numerics.drift import drift_rows

__all__ = ["cells_of", "sampled"]


def sampled(features: LayerFeatures) -> LayerFeatures:
    """Return the rows that cells are learned from: all, or a seeded sample."""
    n = len(features)
    if n <= TRAINED_ON:
        return features
    rows = np.random.default_rng(0).choice(n, TRAINED_ON, replace=False)
    return features[np.sort(rows)]


def cells_of(
    block: LayerFeatures, unit: bool, k: int, *, coded: bool
) -> tuple[Cells, float]:
    """Return the cells of the rows of one block, and the recall of a search there.

    Parameters
    ----------
    block : LayerFeatures
        Rows in memory, unless they are coded.
    unit : bool
        Whether rows are scaled to length one.
    k : int
        Neighbours that are asked for, fewer than rows.
    coded : bool
        Whether rows are kept as codes.
    """
    sample = Points(_checked(sampled(block), unit), unit)
    cells = Cells.learned(sample, len(block), coded)
    parts = chunk_results(partial(_placed, cells=cells, unit=unit), block)
    cells = replace(cells, rows=CellRows.joined(list(parts)))
    rows = None if coded else Points(np.asarray(block), unit)
    points_at = partial(_points_at, block, unit)
    known = _known(points_at, block, unit, k)
    return with_probes(cells, CellSearch(cells, unit, rows), known, points_at)


def _known(points_at: Any, block: LayerFeatures, unit: bool, k: int) -> Known:
    rows = drift_rows(len(block))
    points = points_at(rows)
    squares = least_squares(points, block, unit, k + 1)
    return Known(points, rows, squares[:, k], k)


def _placed(chunk: LayerFeatures, *, cells: Cells, unit: bool) -> CellRows:
    return cells.placed(Points(_checked(chunk, unit), unit))


def _points_at(block: LayerFeatures, unit: bool, rows: NDArray[np.intp]) -> Floats:
    return Points(np.asarray(block[rows]), unit)[:]


def _checked(block: LayerFeatures, unit: bool) -> NDArray[Any]:
    """Return the rows of a block, all of which can be compared."""
    ((layer, statistic),) = block.block_names
    rows, name = np.asarray(block), f"layer {layer!r} ({statistic})"
    assert_all_finite(rows, input_name=name)
    if not unit:
        check_sizes(rows, name)
    return rows
