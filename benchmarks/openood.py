"""The benchmarks of OpenOOD v1.5, from its folders and image lists.

    python benchmarks/openood.py --root data --inliers cifar10 \\
        --network nets:resnet18 --checkpoint best.ckpt \\
        --layers layer1 layer2 penultimate logits [--detectors KNN Energy]

The folder is the one that OpenOOD's own script downloads: lists of ``path label`` in
``benchmark_imglist/<inliers>``, and the images in ``images_classic`` and
``images_largescale``. The network is ``package.module:name``, a function without
arguments that makes it; the checkpoint is its ``state_dict``. Detectors are fitted on
the training list and compared on the test lists: a column for each set of outliers,
and the means over the near and the far ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

import skood

IMAGES = ("images_classic", "images_largescale")
CLASSIC = ("mnist", "svhn", "texture", "places365")
LARGE = ("inaturalist", "textures", "openimage_o")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Benchmark(NamedTuple):
    """Sets of outliers, sides of the image resized and cropped, mean and deviation."""

    near: Sequence[str]
    far: Sequence[str]
    resized: int
    cropped: int
    normalisation: tuple[Sequence[float], Sequence[float]]


BENCHMARKS = {
    "cifar10": Benchmark(
        ("cifar100", "tin"),
        CLASSIC,
        32,
        32,
        ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    ),
    "cifar100": Benchmark(
        ("cifar10", "tin"),
        CLASSIC,
        32,
        32,
        ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    ),
    "imagenet200": Benchmark(("ssb_hard", "ninco"), LARGE, 256, 224, IMAGENET),
    "imagenet": Benchmark(("ssb_hard", "ninco"), LARGE, 256, 224, IMAGENET),
}


@dataclass
class ListedImages(Dataset):
    """Images of a list, as the network takes them.

    Parameters
    ----------
    files : sequence of Path
        The images.
    labels : ndarray of shape (n,)
        -1 for outliers.
    benchmark : Benchmark
        How they are resized, cropped and normalised.
    """

    files: Sequence[Path]
    labels: NDArray[np.intp]
    benchmark: Benchmark

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> NDArray[np.float32]:
        with Image.open(self.files[row]) as image:
            pixels = cropped(
                image.convert("RGB"), self.benchmark.resized, self.benchmark.cropped
            )
        mean, deviation = np.float32(self.benchmark.normalisation)
        return ((pixels / np.float32(255) - mean) / deviation).transpose(2, 0, 1)


def cropped(image: Image.Image, resized: int, side: int) -> NDArray[np.uint8]:
    """Return the middle of an image whose shorter side was resized."""
    width, height = image.size
    short = min(width, height)
    if short != resized:
        size = (int(resized * width / short), int(resized * height / short))
        image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (round((length - side) / 2) for length in image.size)
    return np.asarray(image.crop((left, top, left + side, top + side)))


def listed(root: Path, inliers: str, name: str, rows: int | None) -> ListedImages:
    """Return the images of a list, ``train_cifar10`` for instance.

    Of a long list `rows` are taken, evenly spread: lists are in the order of classes.

    Raises
    ------
    SystemExit
        If the list, or an image of it, is not there.
    """
    path = root / "benchmark_imglist" / inliers / f"{name}.txt"
    if not path.is_file():
        raise SystemExit(f"{path} is not there: --root is OpenOOD's folder of data.")
    lines = [line.rsplit(maxsplit=1) for line in path.read_text().splitlines() if line]
    if rows is not None and rows < len(lines):
        lines = [lines[i] for i in np.linspace(0, len(lines) - 1, rows).astype(int)]
    files = [_image(root, file) for file, _ in lines]
    known = name.partition("_")[2] == inliers
    labels = np.array([int(label) if known else -1 for _, label in lines])
    return ListedImages(files, labels, BENCHMARKS[inliers])


def _image(root: Path, file: str) -> Path:
    for folder in IMAGES:
        if (root / folder / file).is_file():
            return root / folder / file
    raise SystemExit(f"{file} is neither in {root / IMAGES[0]} nor in {IMAGES[1]}.")


def outliers_of(root: Path, inliers: str, rows: int | None) -> dict[str, ListedImages]:
    """Return the test sets of outliers by ``near/name`` and ``far/name``."""
    benchmark = BENCHMARKS[inliers]
    return {
        f"{side}/{name}": listed(root, inliers, f"test_{name}", rows)
        for side in ("near", "far")
        for name in getattr(benchmark, side)
    }


def network_of(name: str, checkpoint: Path | None) -> torch.nn.Module:
    """Return the network, with the weights of the checkpoint."""
    module, _, factory = name.partition(":")
    network = getattr(import_module(module), factory)()
    if checkpoint is not None:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        network.load_state_dict(state.get("state_dict", state))
    return network


def compared(options: argparse.Namespace) -> Any:
    """Return the comparison of the detectors on all sets of the benchmark."""
    root, inliers = options.root, options.inliers
    extractor = skood.LayerFeatureTransformer(
        network_of(options.network, options.checkpoint),
        options.layers,
        options.statistics,
        cache=options.cache,
        num_workers=options.workers,
        verbose=1,
    )
    train = listed(root, inliers, f"train_{inliers}", options.train_rows)
    test = listed(root, inliers, f"test_{inliers}", options.test_rows)
    sets = outliers_of(root, inliers, options.test_rows)
    return skood.compare(
        {name: getattr(skood, name)() for name in options.detectors},
        extractor.fit_transform(train),
        train.labels,
        inliers=extractor.transform(test),
        outliers={name: extractor.transform(images) for name, images in sets.items()},
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it as CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--inliers", choices=BENCHMARKS, required=True)
    parser.add_argument("--network", required=True, metavar="MODULE:NAME")
    parser.add_argument("--checkpoint", type=Path, help="its state_dict")
    parser.add_argument("--layers", nargs="+", required=True)
    parser.add_argument("--statistics", nargs="+", default=["avg"])
    parser.add_argument("--detectors", nargs="+", default=["MSP", "Energy", "KNN"])
    parser.add_argument("--train-rows", type=int, default=50_000)
    parser.add_argument("--test-rows", type=int, help="of each list; all without")
    parser.add_argument("--workers", type=int, default=4, help="processes that decode")
    parser.add_argument("--cache", type=Path, help="folder where features are kept")
    parser.add_argument("--out", type=Path, help="the table as CSV")
    options = parser.parse_args(arguments)
    found = compared(options)
    print(found.to_markdown())
    if options.out:
        found.to_csv(options.out)


if __name__ == "__main__":
    main()
