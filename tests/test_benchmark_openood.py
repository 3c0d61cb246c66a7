"""OpenOOD's folders and lists, on a small made-up one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PATH = Path(__file__).resolve().parents[1] / "benchmarks" / "openood.py"
NETWORK = """
import torch
from torch import nn


def make():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 2),
    )
"""


@pytest.fixture(scope="module")
def openood():
    spec = importlib.util.spec_from_file_location("benchmark_openood", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_openood"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["benchmark_openood"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    lists = folder / "benchmark_imglist" / "cifar10"
    lists.mkdir(parents=True)
    counts = {"train_cifar10": 60, "test_cifar10": 20}
    outliers = ("cifar100", "tin", "mnist", "svhn", "texture", "places365")
    counts |= {f"test_{name}": 12 for name in outliers}
    for name, n in counts.items():
        images = folder / ("images_largescale" if "tin" in name else "images_classic")
        lines = []
        for row in range(n):
            # A name with a space; a grey image, and one that is wider than high.
            file = f"{name}/of all/{row}.png"
            size = (32, 32) if "cifar10" in name else (48, 40)
            dark = row % 2 * 120 if "cifar10" in name else 60
            pixels = rng.integers(dark, dark + 60, size, dtype=np.uint8)
            (images / file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(images / file)
            lines.append(f"{file} {row % 2}")
        (lists / f"{name}.txt").write_text("\n".join(lines) + "\n")
    (folder / "small_net.py").write_text(NETWORK)
    return folder


def test_one_command_gives_the_table(openood, root, capsys, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(root)
    openood.main(
        f"--root {root} --inliers cifar10 --network small_net:make --layers 1 logits "
        f"--detectors MSP KNN --workers 0 --out {tmp_path / 'table.csv'}".split()
    )
    printed = capsys.readouterr().out
    for column in ("near/cifar100", "near/tin", "far/svhn", "| near |", "| far |"):
        assert column in printed
    assert "KNN" in (tmp_path / "table.csv").read_text()


def test_labels_are_the_lists_and_outliers_have_none(openood, root):
    train = openood.listed(root, "cifar10", "train_cifar10", None)
    assert train.labels.tolist() == [0, 1] * 30
    other = openood.listed(root, "cifar10", "test_tin", None)
    assert set(other.labels) == {-1}
    assert other[0].shape == (3, 32, 32)


def test_a_part_of_a_list_is_spread_over_it(openood, root):
    part = openood.listed(root, "cifar10", "train_cifar10", 4)
    assert [int(file.stem) for file in part.files] == [0, 19, 39, 59]


def test_images_are_resized_by_the_shorter_side_and_cropped_in_the_middle(openood):
    # Two halves of one colour each: what is cropped has as much of both.
    pixels = np.repeat(np.array([[0] * 30 + [200] * 30], np.uint8), 40, axis=0)
    image = Image.fromarray(np.repeat(pixels[..., None], 3, axis=2))
    found = openood.cropped(image, 20, 16)
    assert found.shape == (16, 16, 3)
    assert (found[:, :6] == 0).all()
    assert (found[:, -6:] == 200).all()
    whole = np.asarray(image.crop((0, 0, 40, 40)))
    untouched = openood.cropped(Image.fromarray(whole), 40, 40)
    np.testing.assert_array_equal(untouched, whole)


def test_values_are_normalised_by_channel(openood, root):
    images = openood.listed(root, "cifar10", "test_cifar10", 1)
    mean, deviation = openood.BENCHMARKS["cifar10"].normalisation
    pixels = np.asarray(Image.open(images.files[0]).convert("RGB")) / 255
    expected = ((pixels - mean) / deviation).transpose(2, 0, 1)
    np.testing.assert_allclose(images[0], expected, rtol=1e-5, atol=1e-6)


def test_what_is_missing_is_named(openood, root):
    with pytest.raises(SystemExit, match=r"test_nowhere\.txt is not there"):
        openood.listed(root, "cifar10", "test_nowhere", None)
    lost = root / "benchmark_imglist" / "cifar10" / "test_lost.txt"
    lost.write_text("gone.png 0\n")
    with pytest.raises(SystemExit, match=r"gone\.png is neither in"):
        openood.listed(root, "cifar10", "test_lost", None)
