"""Layer features: the data that everything else in skood takes."""

from skood.features.head import LinearHead
from skood.features.layer_features import LayerFeatures
from skood.features.names import LOGITS, Key, Layers, as_key
from skood.features.selector import LayerSelector

__all__ = [
    "LOGITS",
    "Key",
    "LayerFeatures",
    "LayerSelector",
    "Layers",
    "LinearHead",
    "as_key",
]
