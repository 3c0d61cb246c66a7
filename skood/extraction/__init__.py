"""From a trained network to :class:`~skood.features.LayerFeatures`."""

from __future__ import annotations

from skood.extraction.network import layer_names
from skood.extraction.transformer import LayerFeatureTransformer

__all__ = ["LayerFeatureTransformer", "layer_names"]
