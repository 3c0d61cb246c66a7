"""Folders that are damaged, incomplete, or hold something else."""

from __future__ import annotations

import os
import random
import shutil

import pytest
from forging import FILES, NETWORK, saved_pipeline, saved_small, watched_load

import skood
from skood.persistence import LoadError
from skood.persistence.about import parsed_about


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return saved_pipeline(tmp_path_factory.mktemp("original") / "saved")


@pytest.fixture
def path(original, tmp_path):
    shutil.copytree(original, tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def small(tmp_path):
    return saved_small(tmp_path / "small")


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused(name, path):
    whole = (path / name).read_bytes()
    lengths = {0, 1, 7, 8, 9, 63, 64, 65, len(whole) - 1, len(whole) - 2}
    lengths |= set(random.Random(0).sample(range(len(whole)), 60))
    for length in lengths:
        (path / name).write_bytes(whole[:length])
        with pytest.raises(LoadError):
            watched_load(path, network=NETWORK)
    (path / name).write_bytes(whole + b"\n")
    with pytest.raises(LoadError):
        watched_load(path, network=NETWORK)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_refused(name, path):
    whole = (path / name).read_bytes()
    rng = random.Random(1)
    for position in {*range(80), *rng.sample(range(len(whole)), 150)}:
        changed = bytearray(whole)
        changed[position] ^= 1 << rng.randrange(8)
        (path / name).write_bytes(changed)
        with pytest.raises(LoadError):
            skood.load(path, network=NETWORK)
    (path / name).write_bytes(whole)
    skood.load(path, network=NETWORK)


def test_every_byte_of_the_text_counts(path):
    whole = (path / "about.json").read_bytes()
    rng = random.Random(3)
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= rng.randrange(1, 256)
        with pytest.raises(LoadError):
            parsed_about(bytes(changed), path)
    assert parsed_about(whole, path)["schema"] == 1


def test_files_that_are_missing_or_do_not_belong(path, small, tmp_path):
    for name in FILES:
        (path / name).rename(tmp_path / name)
        with pytest.raises(LoadError, match=name):
            watched_load(path, network=NETWORK)
        (path / name).mkdir()
        with pytest.raises(LoadError, match=name):
            watched_load(path, network=NETWORK)
        (path / name).rmdir()
        if hasattr(os, "mkfifo"):
            os.mkfifo(path / name)
            with pytest.raises(LoadError, match=name):
                watched_load(path, network=NETWORK)
            (path / name).unlink()
        (path / name).symlink_to(tmp_path / name)  # as in a cache of a hub
        watched_load(path, network=NETWORK)
    shutil.copy(path / "network.safetensors", small)
    with pytest.raises(LoadError, match="does not belong"):
        watched_load(small)
    (path / "README.md").write_text("read by nobody")
    watched_load(path, network=NETWORK)


def test_what_is_no_saved_estimator(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        skood.load(tmp_path / "nothing")
    with pytest.raises(LoadError, match=r"no saved estimator: there is no about"):
        skood.load(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(LoadError, match="no saved estimator"):
        skood.load(tmp_path / "file")
    for text in ("", "{}", "[]", "null", '{"format": "skood estimator"}'):
        (tmp_path / "about.json").write_text(text)
        with pytest.raises(LoadError):
            skood.load(tmp_path)
