"""What an earlier version saved loads, and says what it said then."""

from __future__ import annotations

import joblib
import numpy as np
import pytest
import save_release
import skops.io
from save_release import ROWS, SAID, SAVED, WRITERS, read_rows, what_it_says

from skood import __version__, load, trusted_types

VERSIONS = sorted(folder.name for folder in SAVED.glob("*") if folder.is_dir())
"""None before the first release."""

LOADERS = {
    "folder": load,
    "joblib": joblib.load,
    "skops": lambda path: skops.io.load(path, trusted=trusted_types()),
}

# Training in float32 is not repeated, but its network is run again.
TOLERANCE = {"EnergyRegularizedClassifier": 1e-5}


def test_every_release_is_here():
    if "dev" not in __version__:
        assert __version__ in VERSIONS, "run tests/save_release.py"


def check(folder):
    """Load all files of a release, and compare what they say with what they said."""
    rows = read_rows(folder)
    with np.load(folder / SAID) as file:
        said = dict(file)
    files = [f"{name}.{ending}" for name in said for ending in WRITERS]
    assert len(said) >= 20
    assert {f.name for f in folder.iterdir()} == {*files, ROWS, SAID}
    for name, expected in said.items():
        rtol = TOLERANCE.get(name.partition("-")[2], 1e-7)
        for ending, load_file in LOADERS.items():
            estimator = load_file(folder / f"{name}.{ending}")
            found = what_it_says(estimator, rows)
            np.testing.assert_allclose(
                found, expected, rtol=rtol, atol=1e-9, err_msg=f"{name}.{ending}"
            )


def check_sizes(folder):
    sizes = [file.stat().st_size for file in folder.rglob("*.*") if file.is_file()]
    assert max(sizes) < 256 * 1024
    assert sum(sizes) < 14 * 1024 * len(sizes)


# Whoever updates scikit-learn, or goes back, is told by it, and has the same scores.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.InconsistentVersionWarning")
def test_files_of_every_release_load_and_say_the_same():
    for version in VERSIONS:
        check(SAVED / version)
        check_sizes(SAVED / version)


def test_a_release_can_be_written(tmp_path):
    folder = tmp_path / "now"
    count = save_release.write_release(folder)
    assert len([f.name for f in folder.iterdir()]) == count * len(WRITERS) + 2
    check(folder)
    check_sizes(folder)


def test_a_folder_is_not_written_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(save_release, "SAVED", tmp_path)
    (tmp_path / __version__).mkdir()
    with pytest.raises(SystemExit, match="is there already"):
        save_release.main()
    assert list((tmp_path / __version__).iterdir()) == []
