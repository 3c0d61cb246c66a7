"""What looking into a network costs: the transformer's time over the bare forward.

Both run the same ResNet-18 on the same batches, in turns within each round; the table
has the median over rounds of the ratio of the two times, by the wall clock and by the
processors' time, which other work on the machine disturbs less. "spread" is the
slowest bare round over the fastest: near 1 on a quiet machine. The last column is the
share of the forward's multiplications up to the deepest wanted layer: what the ratio
can go down to.

    python benchmarks/extraction.py --images 256 --rounds 5 --threads 2
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from harness import write_table
from resnet import ResNet18
from torch import nn

from skood import LayerFeatureTransformer, __version__

STAGES = ("layer1", "layer2", "layer3", "layer4")

CASES: dict[str, dict[str, Any]] = {
    "last stage, avg": {"layers": ("layer4",)},
    "penultimate": {"layers": ("penultimate",)},
    "logits": {"layers": ("logits",)},
    "last stage + logits, avg": {"layers": ("layer4", "logits")},
    "four stages + logits, avg": {"layers": (*STAGES, "logits")},
    "four stages + logits, avg max l2": {
        "layers": (*STAGES, "logits"),
        "statistics": ("avg", "max", "l2"),
    },
    "four stages + logits, gram": {
        "layers": (*STAGES, "logits"),
        "statistics": ("gram",),
    },
    "layer1, avg": {"layers": ("layer1",)},
    "layer1 layer2, avg": {"layers": ("layer1", "layer2")},
    "layer1 layer2, avg max l2": {
        "layers": ("layer1", "layer2"),
        "statistics": ("avg", "max", "l2"),
    },
    "layer3, avg": {"layers": ("layer3",)},
}

COLUMNS = ("ratio", "ratio, processor", "share", "spread")


def main() -> None:
    """Measure every case and print the table."""
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = torch.device(args.device)
    network = ResNet18().eval().to(device)
    X = np.random.default_rng(0).normal(size=(args.images, 3, 32, 32))
    X = X.astype(np.float32)
    bare = bare_forward(network, X, args.batch_size, device)
    shares = multiplication_shares(network)
    transformers = {
        name: LayerFeatureTransformer(
            network, batch_size=args.batch_size, device=args.device, **case
        ).fit(X)
        for name, case in CASES.items()
        if args.only in name
    }
    print_heading(args)
    rows = []
    for name, transformer in transformers.items():
        rounds = interleaved([bare, partial(transformer.transform, X)], args.rounds)
        wall, cpu = (median_ratio(rounds, clock) for clock in (0, 1))
        base = [bare_times[0] for bare_times, _ in rounds]
        deepest = max(shares.get(layer, 1.0) for layer in CASES[name]["layers"])
        values = (wall, cpu, deepest, max(base) / min(base))
        rows.append({"wanted": name} | dict(zip(COLUMNS, values, strict=True)))
        print(rows[-1], flush=True)
    write_table(pd.DataFrame(rows), args.csv)


def arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="only cases that contain this text")
    parser.add_argument("--csv", type=Path, help="a file for the table")
    return parser.parse_args()


def print_heading(args: argparse.Namespace) -> None:
    """Print what is measured, with what."""
    print(
        f"skood {__version__}, torch {torch.__version__}, {platform.machine()}, "
        f"{args.device}, {args.threads} threads; ResNet-18, {args.images} images of "
        f"32 x 32 in batches of {args.batch_size}, median of {args.rounds} rounds"
    )


def bare_forward(
    network: nn.Module, X: np.ndarray, batch_size: int, device: torch.device
) -> Callable[[], Any]:
    """Return a function that runs the network alone and brings the output to NumPy."""

    def run() -> np.ndarray:
        with torch.no_grad():
            batches = torch.from_numpy(X).split(batch_size)
            outputs = [network(batch.to(device)).cpu() for batch in batches]
        return torch.cat(outputs).numpy()

    return run


def interleaved(
    functions: list[Callable[[], Any]], rounds: int
) -> list[list[tuple[float, float]]]:
    """Return each round's times by two clocks; every other round is turned round."""
    for function in functions:
        function()
    times = []
    for number in range(rounds):
        order = list(range(len(functions)))[:: -1 if number % 2 else 1]
        taken = {index: clocked(functions[index]) for index in order}
        times.append([taken[index] for index in range(len(functions))])
    return times


def clocked(function: Callable[[], Any]) -> tuple[float, float]:
    """Return the wall clock's and the processors' seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu


def median_ratio(rounds: list[list[tuple[float, float]]], clock: int) -> float:
    """Return the median over rounds of the second function's time over the first's."""
    return statistics.median(own[clock] / bare[clock] for bare, own in rounds)


def multiplication_shares(network: nn.Module) -> dict[str, float]:
    """Return the share of all multiplications done when each child is done."""
    shares: dict[str, float] = {}
    counts: list[int] = []

    def count(module: nn.Module, _args: Any, output: torch.Tensor) -> None:
        counts.append(output.numel() * module.weight[0].numel())

    handles = [
        part.register_forward_hook(count)
        for part in network.modules()
        if isinstance(part, (nn.Conv2d, nn.Linear))
    ]
    handles += [
        child.register_forward_hook(
            lambda *_, name=name: shares.__setitem__(name, float(sum(counts)))
        )
        for name, child in network.named_children()
    ]
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32, device=next(network.parameters()).device))
    for handle in handles:
        handle.remove()
    return {name: share / sum(counts) for name, share in shares.items()}


if __name__ == "__main__":
    main()
