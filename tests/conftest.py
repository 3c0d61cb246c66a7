"""Settings and fixtures that every test shares."""

from __future__ import annotations

import os

# Before NumPy and torch are imported, which read it once: the tests' matrices are
# small, and several test processes must not fight for the same cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
from hypothesis import settings

# Timings vary with the machine, so none fails a test; in CI the examples are the same
# every time, so that a red run is the change's own.
settings.register_profile(
    "skood", deadline=None, derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("skood")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets; the test is skipped where there is none."""
    default = REPOSITORY.parent / "shared" / "data"
    folder = Path(os.environ.get("SKOOD_DATA", default))
    if not folder.is_dir():
        pytest.skip("no real data here: set SKOOD_DATA to the folder that has them")
    return folder


@pytest.fixture(scope="module")
def cli_folder(tmp_path_factory) -> Path:
    """A folder with a network's module and data of every kind."""
    from cli_folder import write_cli_folder

    folder = tmp_path_factory.mktemp("cli")
    write_cli_folder(folder)
    return folder


@pytest.fixture
def skood_(cli_folder, capsys, monkeypatch):
    """Run a command in the folder; return its exit code, output and errors."""
    monkeypatch.chdir(cli_folder)
    monkeypatch.syspath_prepend(cli_folder)
    from skood.cli import main

    def run(*line):
        code = main([str(part) for part in line])
        out, errors = capsys.readouterr()
        return code, out, errors

    return run


@pytest.fixture
def cli_model(cli_folder):
    import numpy as np

    import skood

    path = cli_folder / "model"
    if not path.exists():
        skood.save(
            skood.ConformalDetector(skood.KNN(5)).fit(
                np.load(cli_folder / "train.npy")
            ),
            path,
        )
    return path
