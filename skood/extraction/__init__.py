"""From a trained network to :class:`~skood.features.LayerFeatures`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "FeatureStore": "skood.store",
    "InputPerturbation": "skood.extraction.perturbation",
    "LayerFeatureTransformer": "skood.extraction.transformer",
    "layer_names": "skood.extraction.network",
    "list_layers": "skood.extraction.layers",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is asked for: to read features, nothing does."""
    if name not in _HOMES:
        raise AttributeError(f"module 'skood.extraction' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
