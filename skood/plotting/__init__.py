"""Plots in the manner of scikit-learn's displays; ``plot`` imports matplotlib."""

from __future__ import annotations

from skood.plotting.comparison import ComparisonDisplay
from skood.plotting.det import DetDisplay
from skood.plotting.ensemble_report import EnsembleReportDisplay
from skood.plotting.flow import FlowDisplay
from skood.plotting.grid_heatmap import GridHeatmapDisplay
from skood.plotting.layer_auroc import LayerAurocDisplay
from skood.plotting.martingale import MartingaleDisplay
from skood.plotting.norm_ratio import NormRatioDisplay
from skood.plotting.p_values import PValueCalibrationDisplay
from skood.plotting.roc import RocDisplay
from skood.plotting.score_histogram import ScoreHistogramDisplay

__all__ = [
    "ComparisonDisplay",
    "DetDisplay",
    "EnsembleReportDisplay",
    "FlowDisplay",
    "GridHeatmapDisplay",
    "LayerAurocDisplay",
    "MartingaleDisplay",
    "NormRatioDisplay",
    "PValueCalibrationDisplay",
    "RocDisplay",
    "ScoreHistogramDisplay",
]
