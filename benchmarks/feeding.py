"""Inputs that are decoded: an extraction beside a plain loop over a DataLoader.

    python benchmarks/feeding.py --workers 0 2 4
    python benchmarks/feeding.py --workers 0 2 4 --network resnet18 --images 256

JPEG files are decoded in a Dataset and go through a network, with so many processes
that read: once in a plain loop over a ``DataLoader`` (batches, the network, its output
to memory), once by a ``LayerFeatureTransformer`` without a cache, and once with an
empty one, which also takes the digest of each row and writes the features. The three
take turns in each round; printed are medians of images a second, of the time over that
of the plain loop (by the clock, and by the processors, which other work on the machine
disturbs less), and of the share of the time in which the network waited for inputs.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from harness import write_table
from PIL import Image
from resnet import ResNet18
from torch import nn
from torch.utils.data import DataLoader, Dataset

from skood import LayerFeatureTransformer


class Photographs(Dataset[Any]):
    """Files decoded, cut to 224 x 224 pixels and normalised, as for ImageNet."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> torch.Tensor:
        with Image.open(self.files[number]) as image:
            small = image.convert("RGB").resize((256, 256)).crop((16, 16, 240, 240))
        array = np.asarray(small, dtype=np.float32) / 255
        return torch.from_numpy((array.transpose(2, 0, 1) - 0.45) / 0.22)


def made_files(folder: Path, n: int) -> list[Path]:
    """Write JPEG files of 500 x 400 pixels, and return their paths."""
    rng = np.random.default_rng(0)
    files = []
    for number in range(n):
        coarse = rng.integers(0, 256, (25, 20, 3), dtype=np.uint8)
        path = folder / f"{number}.jpg"
        Image.fromarray(coarse).resize((500, 400)).save(path, quality=90)
        files.append(path)
    return files


def network(name: str, width: int) -> nn.Module:
    """Return a small one, as fast as a large one on an accelerator, or a ResNet-18."""
    torch.manual_seed(0)
    if name == "resnet18":
        resnet = ResNet18(1000)
        stem = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        resnet.conv1 = nn.Sequential(stem, nn.MaxPool2d(3, 2, padding=1))
        return resnet.eval()
    return nn.Sequential(
        nn.Conv2d(3, width, 7, stride=4, padding=3),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, 10),
    ).eval()


def plain_loop(data: Dataset[Any], module: nn.Module, size: int, workers: int) -> float:
    """Return the share of the time that the network waited."""
    device = next(module.parameters()).device
    start, waited, outputs = time.perf_counter(), 0.0, []
    loader = DataLoader(data, size, num_workers=workers)
    batches = iter(loader)
    with torch.no_grad():
        for _ in range(len(loader)):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            outputs.append(module(batch.to(device)).cpu().numpy())
    np.concatenate(outputs)
    return waited / (time.perf_counter() - start)


def extraction(
    data: Dataset[Any], module: nn.Module, size: int, workers: int, cached: bool
) -> float:
    """Return the share of the time that the network waited."""
    with tempfile.TemporaryDirectory() as folder:
        features = LayerFeatureTransformer(
            module,
            ["penultimate", "logits"],
            batch_size=size,
            num_workers=workers,
            cache=folder if cached else None,
        ).fit(data)
        start = time.perf_counter()
        inputs = features._inputs(data, reset=False)
        found = features._blocks(module, inputs, _cache(features))
        len(found)
        return inputs.meter.seconds / (time.perf_counter() - start)


def _cache(features: LayerFeatureTransformer) -> Any:
    from skood.extraction.cached import Cache

    return Cache(features.cache)


def seconds(call: Callable[[], float]) -> tuple[float, float, float]:
    """Return the time by the clock and by the processors, and what was returned."""
    start, used = time.perf_counter(), sum(os.times()[:4])
    share = call()
    gc.collect()  # which waits for the processes that have read
    return time.perf_counter() - start, sum(os.times()[:4]) - used, share


def row_of(workers: int, n: int, runs: dict[str, list[Any]]) -> dict[str, Any]:
    """Return the medians of the rounds with so many processes that read."""
    plain = runs["plain loop"]
    row: dict[str, Any] = {
        "processes reading": workers,
        "plain loop, images/s": n / statistics.median(taken for taken, _, _ in plain),
    }
    for place, clock in enumerate(("time", "processors' time")):
        for name, found in [*runs.items()][1:]:
            pairs = zip(found, plain, strict=True)
            ratio = statistics.median(one[place] / other[place] for one, other in pairs)
            row[f"{clock}, {name}"] = ratio
    shares = (statistics.median(share for _, _, share in f) for f in runs.values())
    row["the network waits"] = ", ".join(f"{share:.0%}" for share in shares)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=768)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--network", choices=["small", "resnet18"], default="small")
    parser.add_argument("--width", type=int, default=24)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--csv", type=Path, help="a file for the table")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    module, size = network(arguments.network, arguments.width), arguments.batch_size
    if torch.cuda.is_available():
        module.cuda()
    with tempfile.TemporaryDirectory() as folder:
        data = Photographs(made_files(Path(folder), arguments.images))
        rows = []
        for workers in arguments.workers:
            own = (data, module, size, workers)
            calls: dict[str, Callable[[], float]] = {
                "plain loop": lambda own=own: plain_loop(*own),
                "without a cache": lambda own=own: extraction(*own, cached=False),
                "empty cache": lambda own=own: extraction(*own, cached=True),
            }
            runs: dict[str, list[Any]] = {name: [] for name in calls}
            for _ in range(arguments.rounds):
                for name, call in calls.items():
                    runs[name].append(seconds(call))
            rows.append(row_of(workers, len(data), runs))
            print(rows[-1], flush=True)
    write_table(pd.DataFrame(rows), arguments.csv)


if __name__ == "__main__":
    main()
