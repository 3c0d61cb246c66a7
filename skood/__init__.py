"""Out-of-distribution detection that feels like scikit-learn."""

from __future__ import annotations

from importlib.util import find_spec

from skood._lazy import lazy_names
from skood._version import __version__
from skood.detectors.registry import detector_homes

_HOMES = {
    **detector_homes(),
    "AlarmRateMonitor": "skood.calibration",
    "AnchoredClassifier": "skood.neural",
    "AutoOOD": "skood.ensemble",
    "BaseDetector": "skood.detectors",
    "ClassHoldout": "skood.model_selection",
    "ConformalDetector": "skood.calibration",
    "DetectorEnsemble": "skood.ensemble",
    "EnergyRegularizedClassifier": "skood.neural",
    "FeatureStore": "skood.store",
    "InlierKFold": "skood.model_selection",
    "InputPerturbation": "skood.extraction",
    "Jigsaw": "skood.model_selection",
    "LayerEnsemble": "skood.ensemble",
    "LayerFeatureTransformer": "skood.extraction.transformer",
    "LayerFeatures": "skood.features",
    "LayerSelector": "skood.features",
    "LeaveOutlierSourceOut": "skood.model_selection",
    "LinearHead": "skood.features",
    "NormRescaledHead": "skood.detectors.head.norm_rescaled",
    "OODScorer": "skood.model_selection",
    "OutliersIgnored": "skood.model_selection",
    "ShiftMonitor": "skood.calibration",
    "TargetRateThreshold": "skood.calibration",
    "all_detectors": "skood.detectors.registry",
    "aupr": "skood.metrics",
    "aupr_in_scorer": "skood.model_selection",
    "aupr_out_scorer": "skood.model_selection",
    "auroc": "skood.metrics",
    "auroc_scorer": "skood.model_selection",
    "balanced_accuracy_scorer": "skood.model_selection",
    "compare": "skood.ensemble",
    "conditional_p_values": "skood.calibration",
    "conformal_e_values": "skood.calibration",
    "conformal_p_values": "skood.calibration",
    "detection_accuracy": "skood.metrics",
    "discoveries": "skood.calibration",
    "e_discoveries": "skood.calibration",
    "fpr95_scorer": "skood.model_selection",
    "fpr_at_tpr": "skood.metrics",
    "layer_names": "skood.extraction",
    "likelihood_ratios": "skood.calibration",
    "list_layers": "skood.extraction",
    "load": "skood.persistence",
    "make_pseudo_outliers": "skood.model_selection",
    "ood_report": "skood.metrics",
    "ood_scorer": "skood.model_selection",
    "progress": "skood._progress",
    "save": "skood.persistence",
    "score_and_predict": "skood.detectors.thresholded",
    "to_module": "skood.export.module",
    "to_pyod": "skood.interop.pyod",
    "trusted_types": "skood._trusted",
    "weighted_conformal_p_values": "skood.calibration",
}

_EXTRAS = {"skood.neural": "skorch", "skood.interop.pyod": "pyod"}
"""What the modules of an extra import."""


def _is_installed(home: str) -> bool:
    needed = [name for room, name in _EXTRAS.items() if home.startswith(room)]
    return all(find_spec(name) for name in needed)


__all__ = ["__version__", *(n for n, home in _HOMES.items() if _is_installed(home))]
"""Without the names whose extra is missing: those raise, and say so, when used."""


__getattr__ = lazy_names(globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted({name for name in globals() if name.startswith("__")} | {*__all__})
