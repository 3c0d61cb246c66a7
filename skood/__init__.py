"""Out-of-distribution detection that feels like scikit-learn."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from skood._version import __version__

_HOMES = {
    "AMP": "skood.neural",
    "AnchoredClassifier": "skood.neural",
    "ClassHoldout": "skood.model_selection",
    "ConformalDetector": "skood.calibration",
    "Energy": "skood.detectors.logits",
    "EnergyRegularizedClassifier": "skood.neural",
    "FeatureNorm": "skood.detectors.feature_norm",
    "FeatureStore": "skood.store",
    "InlierKFold": "skood.model_selection",
    "Jigsaw": "skood.model_selection",
    "KNN": "skood.detectors.knn",
    "LSGM": "skood.detectors.lsgm",
    "LayerEnergy": "skood.detectors.energy",
    "LayerFeatureTransformer": "skood.extraction.transformer",
    "LayerFeatures": "skood.features",
    "LayerSelector": "skood.features",
    "LeaveOutlierSourceOut": "skood.model_selection",
    "LinearHead": "skood.features",
    "MSP": "skood.detectors.logits",
    "Mahalanobis": "skood.detectors.mahalanobis",
    "MaxLogit": "skood.detectors.logits",
    "NAP": "skood.detectors.nap",
    "NormRescaledHead": "skood.detectors.norm_rescaled",
    "OODScorer": "skood.model_selection",
    "OutliersIgnored": "skood.model_selection",
    "PyODDetector": "skood.interop.pyod",
    "ShiftMonitor": "skood.calibration",
    "TargetRateThreshold": "skood.calibration",
    "aupr": "skood.metrics",
    "aupr_in_scorer": "skood.model_selection",
    "aupr_out_scorer": "skood.model_selection",
    "auroc": "skood.metrics",
    "auroc_scorer": "skood.model_selection",
    "balanced_accuracy_scorer": "skood.model_selection",
    "conditional_p_values": "skood.calibration",
    "conformal_p_values": "skood.calibration",
    "detection_accuracy": "skood.metrics",
    "discoveries": "skood.calibration",
    "fpr95_scorer": "skood.model_selection",
    "fpr_at_tpr": "skood.metrics",
    "layer_names": "skood.extraction",
    "list_layers": "skood.extraction",
    "load": "skood.persistence",
    "make_pseudo_outliers": "skood.model_selection",
    "ood_report": "skood.metrics",
    "ood_scorer": "skood.model_selection",
    "save": "skood.persistence",
    "to_pyod": "skood.interop.pyod",
    "trusted_types": "skood._trusted",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that torch loads only then."""
    if name not in _HOMES:
        raise AttributeError(f"module 'skood' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
