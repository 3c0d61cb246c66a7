"""Detectors: from features to a score, with a threshold for new rows."""

from skood.detectors.base import BaseDetector
from skood.detectors.energy import LayerEnergy
from skood.detectors.feature_norm import FeatureNorm
from skood.detectors.incremental import IncrementalDetector
from skood.detectors.knn import KNN
from skood.detectors.layer_detector import LayerDetector
from skood.detectors.logits import MSP, Energy, LogitDetector, MaxLogit
from skood.detectors.lsgm import LSGM
from skood.detectors.mahalanobis import Mahalanobis
from skood.detectors.nap import NAP
from skood.detectors.norm_rescaled import NormRescaledHead
from skood.detectors.training import Training

__all__ = [
    "KNN",
    "LSGM",
    "MSP",
    "NAP",
    "BaseDetector",
    "Energy",
    "FeatureNorm",
    "IncrementalDetector",
    "LayerDetector",
    "LayerEnergy",
    "LogitDetector",
    "Mahalanobis",
    "MaxLogit",
    "NormRescaledHead",
    "Training",
]
