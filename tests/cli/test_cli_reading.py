"""What the command line reads, beside the arrays and features that were written."""

from __future__ import annotations

import numpy as np
import pytest

from skood import (
    LayerFeatures,
)
from skood.cli.data import Data, read, read_labels
from skood.cli.objects import DETECTORS, made_detector, settings_of


@pytest.mark.parametrize(
    "name",
    ["blocks.npz", "blocks.safetensors", "blocks.parquet", "parts"],
)
def test_blocks_and_labels_are_the_same_from_every_file(folder, name):
    known = LayerFeatures.load(folder / "features")
    data = read(str(folder / name))
    assert data.X.block_names == known.block_names
    np.testing.assert_array_equal(np.asarray(data.X), np.asarray(known))
    assert data.y.tolist() == np.repeat([0, 1, -1], [120, 60, 20]).tolist()
    assert read(str(folder / "features")).X.block_names == known.block_names


def test_one_array_of_a_file_may_be_named(folder):
    data = read(str(folder / "blocks.npz::layer2/max"))
    assert data.X.shape == (200, 2)
    assert read(str(folder / "blocks.parquet::y")).X.shape == (200,)
    assert read(str(folder / "parts::y")).X.shape == (200,)
    assert read(str(folder / "parts::layer2/max")).X.shape == (200, 2)
    labels = read_labels(str(folder / "labelled.npz"), Data(None))
    assert labels.tolist() == read(str(folder / "labelled.npz::y")).X.tolist()
    assert [*read(str(folder / "plain.parquet")).X.columns] == list("abcde")


def test_files_run_nothing(folder, tmp_path):
    np.save(tmp_path / "objects.npy", np.array([print, 1], dtype=object))
    with pytest.raises(ValueError, match="no file of one array without objects"):
        read(str(tmp_path / "objects.npy"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.npy", "there is no file"),
        ("cli_nets.py", r"is a \.py; read are \.npy"),
        (
            "blocks.npz::layer9",
            "no array 'layer9'; there are layer1, layer2/max, labels",
        ),
        ("torn.npz", r"torn\.npz"),
        ("torn.npy", r"torn\.npy: it is no file of one array"),
        ("torn.parquet", r"torn\.parquet: "),
        ("torn.safetensors", r"torn\.safetensors: "),
        ("images.npz", r"say which, as FILE::NAME"),
    ],
)
def test_what_cannot_be_read_is_said(folder, name, message):
    for kind in ("npz", "npy", "parquet", "safetensors"):
        (folder / f"torn.{kind}").write_bytes(b"PK not a zip file")
    np.savez(folder / "images.npz", a=np.zeros((2, 3, 4)), b=np.zeros((2, 3, 4)))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read(str(folder / name))


def test_an_empty_folder_has_no_images(tmp_path):
    with pytest.raises(ValueError, match="has no images"):
        read(str(tmp_path))


def test_settings_are_literals_or_texts():
    assert settings_of(["a=1", "b=x=y", "c=None", "d=[1, 'z']"]) == {
        "a": 1,
        "b": "x=y",
        "c": None,
        "d": [1, "z"],
    }
    with pytest.raises(ValueError, match="wanted is name=value"):
        settings_of(["a"])


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_is_made_by_its_name(name):
    assert type(made_detector(name, {})).__name__ == name
