"""Killed and damaged at random, a store never returns a wrong byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def faults(tmp_path, *options):
    command = [sys.executable, HERE / "store_faults.py", tmp_path / "store", *options]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    run = subprocess.run(
        list(map(str, command)),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_a_few_faults(tmp_path):
    about = faults(tmp_path, "--kills", 5, "--rows", 300, "--seed", os.getpid())
    assert about["kills"] == 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_thirty_faults(tmp_path, seed):
    about = faults(tmp_path, "--kills", 30, "--seed", seed)
    # How far it comes between the kills depends on the machine; that each shard that
    # was damaged is found does not.
    faults_to_files = ("flip", "wipe", "truncate", "lengthen")
    damaged = sum(about["faults"].get(kind, 0) for kind in faults_to_files)
    assert damaged > 5
    assert about["set aside, each named"] == damaged
    assert max(about["rows returned after each"]) > 0
