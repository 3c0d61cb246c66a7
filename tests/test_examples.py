"""The examples run, and show what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def output_of(example, *arguments):
    """Return what an example prints; it must end well, without a warning."""
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / example, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_tabular_amp():
    printed = output_of("tabular_amp.py")
    right = [float(x) for x in re.findall(r"network gets ([0-9.]+)%", printed)]
    assert len(right) == 2
    assert min(right) > 90


@pytest.mark.slow
def test_pyod_both_ways():
    printed = output_of("pyod_both_ways.py")
    rows = re.findall(r"([01]\.\d+) +([01]\.\d+) +(\d+\.\d)%", printed)
    assert len(rows) == 3
    assert min(float(near) for near, _, _ in rows) > 0.7
    assert min(float(far) for _, far, _ in rows) > 0.99
    in_our_pipelines = [float(rows[0][2]), float(rows[2][2])]
    assert max(in_our_pipelines) < 10


@pytest.mark.slow
def test_quickstart(tmp_path):
    printed = output_of("quickstart.py", tmp_path)
    tuned = printed.split("KNN, tuned")[-1]
    near, far = (
        float(re.search(f"{kind}: .*?  ([01].[0-9]+)", tuned)[1])
        for kind in ("near", "far")
    )
    assert near > 0.9
    assert far > 0.99
    assert "gives the same scores" in printed
    assert (tmp_path / "scores.png").stat().st_size > 10_000
    assert (tmp_path / "detector.joblib").is_file()
