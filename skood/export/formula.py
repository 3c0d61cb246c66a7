"""A detector's formula as a graph: it runs once on tensors, and what it did is kept."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, export

from skood.export.constants import Constants
from skood.features import Key
from skood.features.tensors import TensorFeatures
from skood.numerics.device import like
from skood.numerics.graph import becoming_graph

__all__ = ["Formula", "traced"]

Scored = tuple[Any, "Any | None"]
ROWS = 5
"""Of the tensors that a formula runs on to become a graph; the graph takes any."""


class Formula(nn.Module):
    """Blocks of features to score, p-value and decision.

    Parameters
    ----------
    scored : callable
        From blocks to scores and p-values, None where there are none.
    offset : float
        The threshold: a row is an inlier from there on.
    names : sequence of (layer, statistic)
        Of the blocks.
    """

    def __init__(
        self, scored: Callable[[Any], Scored], offset: float, names: list[Key]
    ) -> None:
        super().__init__()
        self._scored, self._offset, self._names = scored, offset, names

    def forward(self, *blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores, p-values (NaN where there are none) and decisions, (n,)."""
        features = TensorFeatures(dict(zip(self._names, blocks, strict=True)))
        with becoming_graph(), Constants(self):
            scores, p_values = self._scored(features)
            decision = scores - like(np.asarray(self._offset), scores)
            if p_values is None:
                p_values = torch.full_like(scores, float("nan"))
        return scores, p_values, decision >= 0


def traced(
    formula: Formula, widths: Mapping[Key, int], dtype: torch.dtype
) -> nn.Module:
    """Return a formula as a graph of torch's own operations and its buffers.

    It takes blocks of these widths and this type, and any number of rows.
    """
    generator = torch.Generator().manual_seed(0)
    blocks = tuple(
        torch.rand((ROWS, width), generator=generator, dtype=torch.float64).to(dtype)
        for width in widths.values()
    )
    with torch.no_grad():
        formula(*blocks)  # makes the buffers
        rows = tuple({0: Dim.DYNAMIC} for _ in blocks)
        program = export(formula, blocks, dynamic_shapes={"blocks": rows}, strict=False)
    return _as_module(program)


def _as_module(program: Any) -> nn.Module:
    # What an exported program checks of its inputs would stand in the way of making
    # another graph of it, or a copy: the operations alone are kept.
    options = inspect.signature(program.module).parameters
    unchecked = {"check_guards": False} if "check_guards" in options else {}
    module, graph = program.module(**unchecked), torch.fx.Graph()
    found = graph.graph_copy(module.graph, {})
    graph.output(tuple(found))  # type: ignore[arg-type]
    graph.eliminate_dead_code()
    return torch.fx.GraphModule(module, graph, "Formula").eval()
