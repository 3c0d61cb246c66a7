"""Several detectors as one: averaging where selecting would need outliers."""

from __future__ import annotations

from skood.ensemble.auto import AutoOOD
from skood.ensemble.compared import Comparison, compare
from skood.ensemble.detectors import DetectorEnsemble
from skood.ensemble.layers import LayerEnsemble

__all__ = ["AutoOOD", "Comparison", "DetectorEnsemble", "LayerEnsemble", "compare"]
