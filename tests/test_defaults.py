"""Public estimators pass scikit-learn's battery as they are made without arguments.

The other batteries run on chosen parameters; here nothing is chosen but what has no
default: what a wrapper wraps.
"""

from __future__ import annotations

import warnings
from collections import Counter

import pytest
from sklearn.ensemble import IsolationForest
from sklearn.svm import OneClassSVM
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator

from skood import (
    ConformalDetector,
    LayerSelector,
    Mahalanobis,
    OutliersIgnored,
    ShiftMonitor,
    TargetRateThreshold,
)
from skood.detectors.registry import REGISTRY

DETECTORS = [
    entry.detector()
    for entry in REGISTRY.values()
    if entry.family != "wrapped"  # PyODDetector, in the tests of PyOD
]
OTHERS = [
    TargetRateThreshold(Mahalanobis()),
    TargetRateThreshold(OneClassSVM()),
    ConformalDetector(Mahalanobis()),
    ConformalDetector(IsolationForest(n_estimators=9, random_state=0)),
    ShiftMonitor(Mahalanobis()),
    OutliersIgnored(Mahalanobis()),
    OutliersIgnored(IsolationForest(n_estimators=9, random_state=0)),
    LayerSelector(),
]
AT_LEAST = 39
"""Checks of scikit-learn 1.9 for a monitor, which predicts nothing, less two."""


@pytest.mark.parametrize("estimator", [*DETECTORS, *OTHERS], ids=repr)
def test_battery_of_scikit_learn(estimator, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few rows, clusters, iterations
        report = check_estimator(estimator, on_skip=None, on_fail=None)
    count = Counter(result["status"] for result in report)
    with capsys.disabled():
        print(f"\n{estimator!r}: {len(report)} checks, {dict(count)}", end=" ")
    failed = {
        r["check_name"]: repr(r["exception"]) for r in report if r["status"] == "failed"
    }
    assert not failed
    assert not any(result["expected_to_fail"] for result in report)
    # What is no table (layers with a head, logits that belong to labels) has one check.
    tables = get_tags(estimator).input_tags.two_d_array
    assert len(report) >= (AT_LEAST if tables else 1)
    assert count["skipped"] <= 1  # the array API, without SCIPY_ARRAY_API


def test_most_estimators_take_tables():
    takes = [get_tags(e).input_tags.two_d_array for e in [*DETECTORS, *OTHERS]]
    assert sum(takes) >= 24
