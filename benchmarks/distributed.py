"""Fits and scores by two workers, beside one: this process.

    python benchmarks/distributed.py                   # loky and dask
    python benchmarks/distributed.py --backends loky dask ray --rows 200000

Features of random numbers are saved to a folder, which the workers open. BLAS has one
thread everywhere, so that a worker is a core, and results are compared to the last bit.
Workers are started, and have imported what they need, before the clock runs: a cluster
is there. "At once" is what the machine has to give: two processes that each do all the
work, at the same time, over one that does it alone. Bytes are those of the pickled
chunks and detectors that go to the workers and of what comes back, as if each task
carried its detector; the rows themselves are read from the folder. Figures are medians.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pickle
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import joblib
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from skood import KNN, LSGM, NAP, LayerFeatures, Mahalanobis
from skood.features import workers as engine
from skood.features.workers import workers

if __name__ == "__main__":  # workers import this file, too, and lack its folder
    from harness import write_table

# This file has the name of Dask's package, which is to be found for it.
sys.path[:] = [p for p in sys.path if Path(p).resolve() != Path(__file__).parent]

DETECTORS: dict[str, Callable[[], Any]] = {
    "Mahalanobis": Mahalanobis,
    "LSGM, 20 components": lambda: LSGM(20, max_iter=5, random_state=0),
    "NAP, max_rows=20,000": lambda: NAP(statistic="avg", max_rows=20_000),
    "KNN, max_rows=4,000": lambda: KNN(50, max_rows=4000),
}


class Moved:
    """Bytes that go to workers and come back, counted here by pickling once more."""

    def __init__(self) -> None:
        self.sent = self.came = 0

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        outputs = engine._outputs

        def counting(parallel: Any, tasks: Iterator[Any]) -> Iterator[Any]:
            def seen() -> Iterator[Any]:
                for task in tasks:
                    self.sent += len(pickle.dumps(task[1]))
                    yield task

            for result in outputs(parallel, seen()):
                self.came += len(pickle.dumps(result))
                yield result

        with mock.patch.object(engine, "_outputs", counting):
            yield


def saved_features(folder: Path, rows: int, width: int) -> tuple[LayerFeatures, Any]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, rows)
    centres = rng.normal(size=(10, width)).astype(np.float32)
    x = rng.normal(size=(rows, width)).astype(np.float32) + centres[y]
    LayerFeatures({"layer": x}).save(folder / "features")
    return LayerFeatures.load(folder / "features"), y


@contextlib.contextmanager
def backend(name: str, n_workers: int) -> Iterator[None]:
    """Start workers that are joblib's inside, and have imported skood."""
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"n_jobs": n_workers}
        if name == "dask":
            from distributed import Client, LocalCluster

            cluster = LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                dashboard_address=":0",
                host="127.0.0.1",
            )
            stack.enter_context(cluster)
            stack.enter_context(Client(cluster))
            options = {}
        if name == "ray":
            import ray
            from ray.util.joblib import register_ray

            ray.init(num_cpus=n_workers, include_dashboard=False, log_to_driver=False)
            stack.callback(ray.shutdown)
            register_ray()
        stack.enter_context(joblib.parallel_config(backend=name, **options))
        stack.enter_context(workers())
        list(engine.called_in_order(_warm, [()] * 4 * n_workers))
        yield


def _warm() -> None:
    Mahalanobis().fit(np.random.default_rng(0).normal(size=(50, 2)))


def timed(make: Callable[[], Any], features: Any, y: Any) -> Any:
    start = time.perf_counter()
    detector = make().fit(features, y, threshold_data=features[:200])
    fitted = time.perf_counter()
    scores = detector.score_samples(features)
    return fitted - start, time.perf_counter() - fitted, scores


def at_once(make: Callable[[], Any], features: LayerFeatures, y: Any) -> float:
    """Return the seconds of two processes that each do what one does alone."""
    with backend("loky", 2):
        whole = partial(_whole, make, features, y)
        return max(engine.called_in_order(whole, [(), ()]))


def _whole(make: Callable[[], Any], features: LayerFeatures, y: Any) -> float:
    fit_seconds, score_seconds, _ = timed(make, features, y)
    return fit_seconds + score_seconds


def row(
    name: str, features: LayerFeatures, y: Any, backends: list[str], rounds: int
) -> list[dict[str, Any]]:
    make = DETECTORS[name]
    found: dict[tuple[str, int], list[Any]] = {}
    moved: dict[tuple[str, int], Moved] = {}
    settings = [("serial", 1), *((b, 2) for b in backends)]
    for setting in settings:
        moved[setting] = Moved()
        serial = setting[0] == "serial"
        with contextlib.nullcontext() if serial else backend(*setting):
            found[setting] = [timed(make, features, y) for _ in range(rounds)]
            if not serial:
                with moved[setting].counted():
                    timed(make, features, y)
    expected = found["serial", 1][0][2]
    alone = statistics.median(run[0] + run[1] for run in found["serial", 1])
    most = 2 * alone / at_once(make, features, y)
    return [
        {
            "detector": name,
            "backend": setting[0],
            "workers": setting[1],
            "fit s": statistics.median(run[0] for run in runs),
            "score s": statistics.median(run[1] for run in runs),
            "sent MB": moved[setting].sent / 1e6,
            "came MB": moved[setting].came / 1e6,
            "at once": most,
            "equal": all(np.array_equal(run[2], expected) for run in runs),
        }
        for setting, runs in found.items()
    ]


def with_speed_up(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the serial times over those of each line."""
    total = table["fit s"] + table["score s"]
    serial = total.where(table["backend"] == "serial").groupby(table["detector"])
    speed_up = serial.transform("max") / total
    return table.assign(**{"speed-up": speed_up})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backends", nargs="+", default=["loky", "dask"])
    parser.add_argument("--csv", type=Path, help="a file for the table")
    parser.add_argument("--detectors", nargs="+", default=[*DETECTORS])
    chosen = parser.parse_args()
    tables = []
    os.environ["OMP_NUM_THREADS"] = "1"  # of the workers; here it is too late for that
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        features, y = saved_features(Path(folder), chosen.rows, chosen.width)
        for name in chosen.detectors:
            tables += row(name, features, y, chosen.backends, chosen.rounds)
        del features
    print(f"{chosen.rows} rows of {chosen.width} float32; load {os.getloadavg()}")
    write_table(with_speed_up(pd.DataFrame(tables)), chosen.csv)


if __name__ == "__main__":
    main()
