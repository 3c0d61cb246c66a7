"""Thresholds and alarms with a stated false-alarm rate."""

from __future__ import annotations

from skood.calibration.alarm_rate import AlarmRateMonitor
from skood.calibration.conformal import ConformalDetector
from skood.calibration.covariate_shift import (
    likelihood_ratios,
    weighted_conformal_p_values,
)
from skood.calibration.e_values import conformal_e_values, e_discoveries
from skood.calibration.false_discovery import conditional_p_values, discoveries
from skood.calibration.monitor import ShiftMonitor
from skood.calibration.p_values import conformal_p_values
from skood.calibration.threshold import TargetRateThreshold

__all__ = [
    "AlarmRateMonitor",
    "ConformalDetector",
    "ShiftMonitor",
    "TargetRateThreshold",
    "conditional_p_values",
    "conformal_e_values",
    "conformal_p_values",
    "discoveries",
    "e_discoveries",
    "likelihood_ratios",
    "weighted_conformal_p_values",
]
