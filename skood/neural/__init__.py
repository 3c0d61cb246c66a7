"""Detectors that are trained: AMP and energy regularisation, as skorch nets."""

from skood.neural.amp import AMP
from skood.neural.anchored import AnchoredClassifier
from skood.neural.corruption import ImageCorruption, VectorCorruption
from skood.neural.energy_regularized import EnergyRegularizedClassifier
from skood.neural.mlp import MLP

__all__ = [
    "AMP",
    "MLP",
    "AnchoredClassifier",
    "EnergyRegularizedClassifier",
    "ImageCorruption",
    "VectorCorruption",
]
