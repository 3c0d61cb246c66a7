"""The examples run, and show what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.slow
def test_quickstart(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / "quickstart.py", tmp_path],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tuned = done.stdout.split("KNN, tuned")[-1]
    near, far = (
        float(re.search(f"{kind}: .*?  ([01].[0-9]+)", tuned)[1])
        for kind in ("near", "far")
    )
    assert near > 0.9
    assert far > 0.99
    assert "gives the same scores" in done.stdout
    assert (tmp_path / "scores.png").stat().st_size > 10_000
    assert (tmp_path / "detector.joblib").is_file()
