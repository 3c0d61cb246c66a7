"""Inputs as the module takes them: what a pipeline is given, as tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skood.features import Key, LayerFeatures

__all__ = ["batches", "called_with", "n_rows_of"]

BATCH = 256
"""Rows that an export is compared on at a time."""

Called = tuple[tuple[Any, ...], dict[str, Any]]


def called_with(blocks: list[Key], X: Any) -> Called:
    """Return what a module is called with for some inputs: positional and named.

    Parameters
    ----------
    blocks : list of (layer, statistic)
        What it takes of layer features.
    X : LayerFeatures, mapping, tuple, array-like or tensor
        The inputs.
    """
    if isinstance(X, LayerFeatures):
        return tuple(_tensor(X.block(*name)) for name in blocks), {}
    if _is_mapping(X):
        return (), {str(name): _tensor(value) for name, value in X.items()}
    if isinstance(X, tuple):
        return tuple(_tensor(value) for value in X), {}
    return (_tensor(X),), {}


def n_rows_of(X: Any) -> int:
    """Return the number of rows of some inputs."""
    if _is_mapping(X) or isinstance(X, tuple):
        values = X.values() if _is_mapping(X) else X
        return len(next(iter(values)))
    return len(X)


def batches(X: Any) -> Iterator[Any]:
    """Yield the inputs, no more than 256 rows at a time."""
    for start in range(0, n_rows_of(X), BATCH):
        yield rows_of(X, slice(start, start + BATCH))


def rows_of(X: Any, rows: slice) -> Any:
    """Return some rows of the inputs."""
    if _is_mapping(X):
        return {name: value[rows] for name, value in X.items()}
    if isinstance(X, tuple):
        return tuple(value[rows] for value in X)
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def _is_mapping(X: Any) -> bool:
    return isinstance(X, Mapping) or (
        hasattr(X, "items") and hasattr(X, "keys") and not hasattr(X, "columns")
    )


def _tensor(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    return torch.as_tensor(np.ascontiguousarray(np.asarray(value)))
