"""What a module is called with: the inputs of a pipeline, as tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skood.extraction.inputs import Inputs
from skood.extraction.network import floating_dtype
from skood.features import Key, LayerFeatures

__all__ = ["Called", "calls"]

BATCH = 256
"""Rows that an export is compared on at a time."""

Called = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and named tensors."""


def calls(X: Any, blocks: list[Key], features: Any = None) -> Iterator[Called]:
    """Yield what a module is called with for some inputs, batch by batch.

    Parameters
    ----------
    X : object
        What the pipeline takes. Without a pipeline, what the network takes, or the
        detector: an array or tensor, a mapping or tuple of them, or LayerFeatures.
    blocks : list of (layer, statistic)
        What is taken of layer features.
    features : LayerFeatureTransformer, optional
        The pipeline's first step, whose ``preprocess`` is done here.
    """
    if features is not None:
        yield from _of_network(features, X)
        return
    for start in range(0, _length(X), BATCH):
        yield _of_arrays(_cut(X, slice(start, start + BATCH)), blocks)


def _of_network(features: Any, X: Any) -> Iterator[Called]:
    module = features._known_module()
    inputs = Inputs(X, features.preprocess).into(module)
    cpu, dtype = torch.device("cpu"), floating_dtype(module)
    for start in range(0, len(inputs), BATCH):
        rows = slice(start, min(start + BATCH, len(inputs)))
        batch = inputs[rows].moved(cpu, dtype)
        yield batch.args, batch.kwargs


def _of_arrays(X: Any, blocks: list[Key]) -> Called:
    if isinstance(X, LayerFeatures):
        return tuple(_tensor(X.block(*name)) for name in blocks), {}
    if isinstance(X, Mapping):
        return (), {str(name): _tensor(value) for name, value in X.items()}
    if isinstance(X, tuple):
        return tuple(map(_tensor, X)), {}
    return (_tensor(X),), {}


def _length(X: Any) -> int:
    if isinstance(X, (Mapping, tuple)):
        return len(next(iter(X.values() if isinstance(X, Mapping) else X)))
    return len(X)


def _cut(X: Any, rows: slice) -> Any:
    if isinstance(X, Mapping):
        return {name: value[rows] for name, value in X.items()}
    if isinstance(X, tuple):
        return tuple(value[rows] for value in X)
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def _tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    return torch.as_tensor(np.array(value))  # a copy that may be written to
