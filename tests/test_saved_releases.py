"""What an earlier version saved loads, and says what it said then."""

from __future__ import annotations

import joblib
import numpy as np
import pytest
import save_release
import skops.io
from save_release import ROWS, SAID, SAVED, WRITERS, read_rows, what_it_says

from skood import __version__, load, trusted_types

VERSIONS = sorted(folder.name for folder in SAVED.iterdir() if folder.is_dir())
LOADERS = {
    "folder": load,
    "joblib": joblib.load,
    "skops": lambda path: skops.io.load(path, trusted=trusted_types()),
}

# Training in float32 is not repeated, but its network is run again.
TOLERANCE = {"EnergyRegularizedClassifier": 1e-5}


def test_every_release_is_here():
    assert VERSIONS
    if "dev" not in __version__:
        assert __version__ in VERSIONS, "run tests/save_release.py"


@pytest.mark.parametrize("version", VERSIONS)
def test_files_load_and_say_the_same(version):
    folder = SAVED / version
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


@pytest.mark.parametrize("version", VERSIONS)
def test_files_are_small(version):
    files = (SAVED / version).rglob("*.*")
    sizes = [file.stat().st_size for file in files if file.is_file()]
    assert max(sizes) < 64 * 1024
    assert sum(sizes) < 1024 * 1024


def test_a_release_can_be_written(tmp_path):
    count = save_release.write_release(tmp_path / "now")
    names = [f.name for f in (tmp_path / "now").iterdir()]
    assert len(names) == count * len(WRITERS) + 2


def test_a_folder_is_not_written_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(save_release, "SAVED", tmp_path)
    (tmp_path / __version__).mkdir()
    with pytest.raises(SystemExit, match="is there already"):
        save_release.main()
    assert list((tmp_path / __version__).iterdir()) == []
