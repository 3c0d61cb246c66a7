"""The guarantees on repeated draws: benchmarks/conformal_coverage.py, small."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

REPETITIONS = 150


@pytest.fixture(scope="module")
def coverage():
    path = Path(__file__).resolve().parents[1] / "benchmarks" / "conformal_coverage.py"
    if not path.exists():
        pytest.skip("the benchmarks are not here")
    spec = importlib.util.spec_from_file_location("coverage_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("method", ["split", "cross", "class"])
def test_false_alarms_are_within_the_bound_and_not_far_below(coverage, method):
    rows = list(coverage.EXPERIMENTS[method](REPETITIONS))
    assert [row.level for row in rows] == [0.01, 0.05, 0.1]
    for row in rows:
        assert row.mean <= row.bound + 3 * row.error
        assert row.mean >= 0.5 * row.uniform - 3 * row.error


def test_jackknife_false_alarms_are_within_the_bound(coverage):
    for row in coverage.jackknife(25):
        assert 0.5 * row.uniform - 3 * row.error <= row.mean
        assert row.mean <= row.bound + 3 * row.error


def test_false_discovery_rate(coverage):
    rows = {row.what.strip(): row for row in coverage.fdr(40)}
    for name, row in rows.items():
        if name.startswith("FDR"):
            assert row.mean <= row.bound + 3 * row.error
    assert rows["FDR of select, split, bh"].mean >= 0.04


def test_monitor(coverage):
    rows = list(coverage.monitor(100))
    for row in rows:
        if "false alarms" in row.what:
            assert row.mean <= row.bound + 3 * max(row.error, 0.01)
        if "90 %" in row.what:
            assert row.mean < 60
