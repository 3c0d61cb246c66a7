"""The battery for out-of-distribution detectors, beside scikit-learn's own."""

from skood.estimator_checks.battery import (
    BrokenRule,
    check_estimator,
    estimator_checks_generator,
    parametrize_with_checks,
)
from skood.estimator_checks.synthetic import synthetic_features

__all__ = [
    "BrokenRule",
    "check_estimator",
    "estimator_checks_generator",
    "parametrize_with_checks",
    "synthetic_features",
]
