"""Detectors: from features to a score, with a threshold for new rows."""

from skood._lazy import lazy_names
from skood.detectors.registry import detector_homes

_HOMES = {
    **{n: home for n, home in detector_homes().items() if home.startswith(__name__)},
    "BaseDetector": "skood.detectors.base",
    "HeadDetector": "skood.detectors.head.base",
    "IncrementalDetector": "skood.detectors.incremental",
    "LayerDetector": "skood.detectors.layers.base",
    "LearnedLogitDetector": "skood.detectors.logits.base",
    "LogitDetector": "skood.detectors.logits.base",
    "NormRescaledHead": "skood.detectors.head.norm_rescaled",
    "ShapingDetector": "skood.detectors.shaping.base",
    "Training": "skood.detectors.training",
}

__all__ = [*_HOMES]

__getattr__ = lazy_names(globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
