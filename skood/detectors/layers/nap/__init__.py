"""NAP: Hamming distance to known binary patterns of neuron activations."""

from skood.detectors.layers.nap.auto import LayerChoice
from skood.detectors.layers.nap.detector import NAP
from skood.detectors.layers.nap.layer import activation_patterns

__all__ = ["NAP", "LayerChoice", "activation_patterns"]
