"""NAP: Hamming distance to known binary patterns of neuron activations."""

from skood.detectors.nap.auto import LayerChoice
from skood.detectors.nap.detector import NAP
from skood.detectors.nap.layer import activation_patterns

__all__ = ["NAP", "LayerChoice", "activation_patterns"]
