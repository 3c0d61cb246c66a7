"""Every detector of the registry against its slow, plain reference."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import numpy as np
import pytest
import references

from skood.detectors.registry import REGISTRY
from skood.estimator_checks import synthetic_features

COMPARED_ELSEWHERE = {
    "AMP": "test_neural_amp.py",
    "FeatureNorm": "test_feature_norm.py",
    "LSGM": "test_lsgm.py",
    "LayerEnergy": "test_energy.py",
    "NAP": "test_nap.py",
    "PyODDetector": "test_interop_pyod.py",
}
"""They take more than features, labels and a head, or train something."""


def all_references():
    """What the modules of tests/references have in their ``REFERENCES``."""
    found = {}
    for module in pkgutil.iter_modules(references.__path__):
        found |= getattr(import_module(f"references.{module.name}"), "REFERENCES", {})
    return found


CASES = [
    pytest.param(entry, parameters, id=f"{entry.name}-{parameters}")
    for entry in REGISTRY.values()
    if entry.name not in COMPARED_ELSEWHERE
    for parameters in entry.on_features
]


@pytest.mark.parametrize(("entry", "parameters"), CASES)
def test_scores_are_those_of_the_reference(entry, parameters):
    known, y = synthetic_features(120, 0)
    new, _ = synthetic_features(20, 10, random_state=1)
    # All rows are learned from where others set the threshold.
    detector = entry.detector(**parameters).fit(known, y, threshold_data=new)
    expected = all_references()[entry.name](known, y, new, **parameters)
    np.testing.assert_allclose(detector.score_samples(new), expected, rtol=1e-9)


def test_every_detector_is_compared():
    assert {*all_references(), *COMPARED_ELSEWHERE} == {*REGISTRY}
    assert len(CASES) >= 10
