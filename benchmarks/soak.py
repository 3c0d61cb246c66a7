"""Does anything grow when it is asked a million times?

``python benchmarks/soak.py --calls 1000000`` scores one row again and again and says
what the process looks like along the way: resident memory, open descriptors, threads,
hooks on the network, and how long a call takes. It fails if something has grown.

    python benchmarks/soak.py --calls 1000000                # detectors alone
    python benchmarks/soak.py --calls 100000 --what pipeline # network, layers, detector
    python benchmarks/soak.py --calls 100000 --what served   # the same, frozen
"""

from __future__ import annotations

import argparse
import csv
import gc
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import psutil
import torch
from sklearn.pipeline import make_pipeline
from torch import nn

from skood import (
    Energy,
    LayerFeatureTransformer,
    Mahalanobis,
    score_and_predict,
)
from skood.estimator_checks import synthetic_features

STOPS = 10
"""How often along the way the process is looked at."""

GROWN_MB = 16
"""Memory that a process may take after its first tenth: allocators keep some."""

SLOWER = 1.5
"""How much longer a median call of the last tenth may take than one of the first."""


@dataclass
class Look:
    """What a process looks like after some calls.

    Attributes
    ----------
    calls : int
        Since the beginning.
    rss_mb : float
        Resident memory.
    descriptors, threads, hooks, objects : int
        Open files and sockets, threads, hooks on the network's modules, and objects
        that the garbage collector knows.
    p50_us, p99_us : float
        Of the calls since the last look: time of the processor, of which others that
        use the machine take none away.
    """

    calls: int
    rss_mb: float
    descriptors: int
    threads: int
    hooks: int
    objects: int
    p50_us: float
    p99_us: float


def small_network() -> nn.Module:
    """Return a network of two hidden layers and three classes."""
    torch.manual_seed(0)
    hidden = [nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(32, 3)).eval()


def number_of_hooks(network: nn.Module | None) -> int:
    """Return how many hooks of any kind there are on a network's modules."""
    if network is None:
        return 0
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return sum(len(getattr(m, kind)) for m in network.modules() for kind in kinds)


def detector_calls() -> tuple[Callable[[], object], None]:
    """Return a call that scores a row with one of two detectors, by turns."""
    features, y = synthetic_features(120, 0)
    made = [Mahalanobis("penultimate"), Energy()]
    fitted = [detector.fit(features, y, threshold_data=features) for detector in made]
    row = features[:1]
    turns = 0

    def call() -> object:
        nonlocal turns
        turns += 1
        return fitted[turns % len(fitted)].score_and_predict(row)

    return call, None


def pipeline_calls() -> tuple[Callable[[], object], nn.Module]:
    """Return a call that sends a row through a network and a detector."""
    X = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)
    network = small_network()
    extractor = LayerFeatureTransformer(network, ["1", "3"])
    alarm = make_pipeline(extractor, Mahalanobis()).fit(X)
    row = X[:1]
    return lambda: score_and_predict(alarm, row), network


def served_calls() -> tuple[Callable[[], object], nn.Module]:
    """Return the same call in a service's mode, which is left when the soak ends."""
    X = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)
    network = small_network()
    extractor = LayerFeatureTransformer(network, ["1", "3"])
    alarm = make_pipeline(extractor, Mahalanobis()).fit(X)
    row = X[:1]
    frozen = extractor.frozen()
    frozen.__enter__()
    return lambda: score_and_predict(alarm, row), network


WHAT = {
    "detectors": detector_calls,
    "pipeline": pipeline_calls,
    "served": served_calls,
}


def soaked(
    call: Callable[[], object],
    network: nn.Module | None,
    calls: int,
    seconds: float = np.inf,
    stops: int = STOPS,
) -> Iterator[Look]:
    """Yield what the process looks like, some times along the way.

    Parameters
    ----------
    call : callable
        What is asked again and again.
    network : Module or None
        Whose hooks are counted.
    calls : int
        How often.
    seconds : float
        Of the processor, after which it ends, however often it was asked.
    stops : int
        How often it is looked at.
    """
    process, begun, done = psutil.Process(), time.process_time(), 0
    for stop in range(1, stops + 1):
        until = begun + seconds * stop / stops
        if done and time.process_time() > until:
            continue  # a look after a call or two says nothing
        times = np.empty(max(1, calls * stop // stops - done))
        for number in range(len(times)):
            start = time.thread_time()
            call()
            times[number] = time.thread_time() - start
            if time.process_time() > until:
                times = times[: number + 1]
                break
        done += len(times)
        gc.collect()
        p50, p99 = np.percentile(times, [50, 99]) * 1e6
        yield Look(
            done,
            round(process.memory_info().rss / 2**20, 1),
            process.num_fds() if hasattr(process, "num_fds") else 0,
            threading.active_count(),
            number_of_hooks(network),
            len(gc.get_objects()),
            round(float(p50), 1),
            round(float(p99), 1),
        )


def what_has_grown(looks: list[Look]) -> list[str]:
    """Return what is more at the end than after the first tenth, in words."""
    first, last = looks[0], looks[-1]
    found = [
        f"{name}: {getattr(first, name)} to {getattr(last, name)}"
        for name in ("descriptors", "threads", "hooks")
        if getattr(last, name) > getattr(first, name)
    ]
    if last.rss_mb > first.rss_mb + GROWN_MB:
        found.append(f"memory: {first.rss_mb} to {last.rss_mb} MB")
    if last.objects > first.objects + 1000:
        found.append(f"objects: {first.objects} to {last.objects}")
    if last.p50_us > SLOWER * first.p50_us:
        found.append(f"a median call: {first.p50_us} to {last.p50_us} µs")
    return found


def main() -> None:
    """Soak, print the looks as a table, and fail if something has grown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--what", choices=[*WHAT], default="detectors")
    parser.add_argument("--seconds", type=float, default=np.inf)
    parser.add_argument("--output", type=Path, help="a CSV file")
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    torch.set_num_threads(1)
    call, network = WHAT[options.what]()
    looks = []
    for look in soaked(call, network, options.calls, options.seconds):
        looks.append(look)
        print("  ".join(f"{k} {v}" for k, v in asdict(look).items()), flush=True)
    grown = what_has_grown(looks)
    if options.output:
        with options.output.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, [field.name for field in fields(Look)])
            table.writeheader()
            table.writerows(map(asdict, looks))
    sys.exit("; ".join(grown) or 0)


if __name__ == "__main__":
    main()
