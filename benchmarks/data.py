"""The image sets of the folder SKOOD_DATA, and noise, as networks take them.

Images come as uint8, still to be normalised; noise comes as float32 and is given to
the network as it is. All are of shape (n, channels, side, side).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

FILES = {
    "mnist": "mnist.npz",
    "fashion_mnist": "fashion_mnist.npz",
    "notmnist": "notmnist.npz",
    "cifar10": "cifar10.med.npz",
    "cifar100": "cifar100.med.npz",
    "tiny_imagenet": "tiny_imagenet.med.npz",
    "textures": "textures.med.npz",
}
OUTLIERS = {
    "mnist": [
        *("fashion_mnist", "notmnist", "cifar10", "cifar100", "tiny_imagenet"),
        *("textures", "negative", "gaussian", "bernoulli", "uniform", "blob"),
    ],
    "cifar10": [
        *("cifar100", "tiny_imagenet", "textures", "mnist", "fashion_mnist"),
        *("notmnist", "gaussian", "rademacher", "uniform", "blob"),
    ],
}
LUMA = (0.299, 0.587, 0.114)


def data_folder() -> Path:
    """Return the folder of data sets: SKOOD_DATA, or shared/data beside the project."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SKOOD_DATA", default))
    if not (folder / "benchio.py").is_file():
        raise SystemExit(
            f"{folder} holds no data sets: set the environment variable SKOOD_DATA to "
            "the folder that has them, with its benchio.py."
        )
    return folder


def train_set(inliers: str, rows: int) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    """Return the first `rows` training images of a set, and their labels."""
    return _images(inliers, "train", rows, inliers)


def test_set(
    name: str, inliers: str, rows: int
) -> tuple[NDArray[Any], NDArray[np.integer]]:
    """Return up to `rows` test inputs for a network of `inliers`, and their labels.

    Outliers, which are all sets but `inliers` itself, have the label -1.
    """
    if name == inliers:
        return _images(name, "test", rows, inliers)
    if name in FILES:
        inputs: NDArray[Any] = _images(name, "test", rows, inliers)[0]
    elif name == "negative":
        inputs = 255 - _images(inliers, "test", rows, inliers)[0]
    else:
        inputs = noise(name, inliers, rows)
    return inputs, np.full(len(inputs), -1)


def noise(kind: str, inliers: str, rows: int, seed: int = 0) -> NDArray[np.float32]:
    """Return noise as the papers make it, in [-1, 1] for CIFAR and [0, 1] for MNIST.

    ``"gaussian"`` is normal around the middle with standard deviation 0.5, clipped;
    ``"rademacher"`` and ``"bernoulli"`` are either end with equal probability;
    ``"uniform"`` is uniform; ``"blob"`` is Bernoulli noise (0.7), smoothed by a
    Gaussian of standard deviation 1.5 over rows, columns and channels, and zero where
    that is below 0.75.
    """
    rng = np.random.default_rng(seed)
    grey = inliers == "mnist"
    shape = (rows, 1, 28, 28) if grey else (rows, 3, 32, 32)
    low, middle = (0.0, 0.5) if grey else (-1.0, 0.0)
    makers: dict[str, Callable[[], NDArray[Any]]] = {
        "gaussian": lambda: rng.normal(middle, 0.5, shape).clip(low, 1.0),
        "bernoulli": lambda: rng.choice([low, 1.0], shape),
        "rademacher": lambda: rng.choice([low, 1.0], shape),
        "uniform": lambda: rng.uniform(low, 1.0, shape),
        "blob": lambda: low + (1.0 - low) * _blobs(rng, shape),
    }
    return makers[kind]().astype(np.float32)


def _blobs(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    dots = rng.binomial(1, 0.7, shape).astype(np.float32)
    smooth = gaussian_filter(dots, (0, 1.5, 1.5, 1.5), mode="nearest")
    return np.where(smooth < 0.75, 0.0, smooth)


def _images(
    name: str, split: str, rows: int, inliers: str
) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    arrays = _file(name)
    images, labels = arrays[f"x_{split}"][:rows], arrays[f"y_{split}"][:rows]
    if images.ndim == 3:
        images = images[..., None]
    channels_first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return _fitting(channels_first, grey=inliers == "mnist"), labels


@cache
def _file(name: str) -> dict[str, NDArray[Any]]:
    folder = data_folder()
    spec = importlib.util.spec_from_file_location("benchio", folder / "benchio.py")
    reader = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(reader)  # type: ignore[union-attr]
    loaded: dict[str, NDArray[Any]] = reader.load(str(folder / FILES[name]))
    return loaded


def _fitting(images: NDArray[np.uint8], *, grey: bool) -> NDArray[np.uint8]:
    """Return images in the size and the number of channels that a network takes."""
    side = 28 if grey else 32
    if images.shape[-1] != side:
        resized = F.interpolate(
            torch.from_numpy(images).float(),
            size=(side, side),
            mode="bilinear",
            antialias=True,
        )
        images = _bytes(resized.numpy())
    if grey and images.shape[1] == 3:
        images = _bytes(np.tensordot(images, LUMA, axes=(1, 0))[:, None])
    return images if grey or images.shape[1] == 3 else images.repeat(3, axis=1)


def _bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    return values.round().clip(0, 255).astype(np.uint8)
