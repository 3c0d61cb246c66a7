"""A folder of files for the command line, and the command line in it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import save_file

import skood
from skood import (
    KNN,
    ConformalDetector,
    LayerFeatures,
)
from skood.cli import main

NETS = """
import torch

def small():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(4, 3),
    )

ready = small()

def grey(image):
    import numpy as np
    return np.repeat(np.asarray(image.convert("L"), "float32")[None] / 255, 3, axis=0)

def halved(rows):
    return torch.as_tensor(np.asarray(rows)) / 2

def broken():
    raise ZeroDivisionError("this network is broken")

import numpy as np
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a network's module, data of every kind, and two models."""
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 5)), np.repeat([0, 1, -1], [120, 60, 20])
    (folder / "cli_nets.py").write_text(NETS)
    np.save(folder / "train.npy", X[:180])
    np.save(folder / "test.npy", rng.normal(size=(80, 5)))
    np.save(folder / "far.npy", rng.normal(6, 1, size=(30, 5)))
    np.save(folder / "near.npy", rng.normal(2, 1, size=(30, 5)))
    np.savez(folder / "labelled.npz", X=X, y=y)
    blocks = {"layer1": X, "layer2/max": X[:, :2].copy()}
    np.savez(folder / "blocks.npz", **blocks, labels=y)
    save_file({**blocks, "y": y}, folder / "blocks.safetensors")
    features = LayerFeatures({"layer1": X, ("layer2", "max"): X[:, :2]})
    features.save(folder / "features")
    features.to_frame().assign(y=y).to_parquet(folder / "blocks.parquet")
    (folder / "parts").mkdir()
    for name, part in (("a", slice(0, 90)), ("b", slice(90, None))):
        path = folder / "parts" / f"{name}.parquet"
        features[part].to_parquet(path, {"y": y[part]})
    pd.DataFrame(X, columns=list("abcde")).to_parquet(folder / "plain.parquet")
    images = rng.integers(0, 255, size=(12, 9, 7, 3), dtype=np.uint8)
    for number, image in enumerate(images):
        place = folder / "images" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:02}.png")
    np.save(folder / "inputs.npy", rng.random((40, 3, 8, 8), dtype=np.float32))
    return folder


@pytest.fixture
def skood_(folder, capsys, monkeypatch):
    """Run a command in the folder; return its exit code, output and errors."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)

    def run(*line):
        code = main([str(part) for part in line])
        out, errors = capsys.readouterr()
        return code, out, errors

    return run


@pytest.fixture
def model(folder):
    path = folder / "model"
    if not path.exists():
        skood.save(ConformalDetector(KNN(5)).fit(np.load(folder / "train.npy")), path)
    return path
