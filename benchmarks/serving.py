"""One row and 64 rows through a pipeline that serves, beside the bare network.

    python benchmarks/serving.py               # times a call
    python benchmarks/serving.py --misses 10000   # single rows that a cache has not

The network is small (two convolutions, 32 x 32 pixels), so that what is around it
shows. Timed are the bare forward, ``transform``, the detector's ``score_samples`` on
features that are there, and both as a pipeline; with ``--fastapi`` also a request to an
application of FastAPI that has the pipeline, through its test client. The rounds of all
of them are interleaved; the figures are medians in milliseconds, and what the pipeline
takes over the bare forward.

``--misses`` sends so many different rows one by one through a transformer with a cache
in a folder, in that mode, and prints the files there, the medians of the first hundred
and of the last hundred calls, and the one over the other.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline, make_pipeline
from torch import nn

from skood import LayerFeatureTransformer, Mahalanobis, score_and_predict


def small_network() -> nn.Module:
    """Return a network whose forward of one image takes a fraction of a millisecond."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    ).eval()


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3, 32, 32)).astype(np.float32)


def fitted_pipeline(network: nn.Module, **parameters: Any) -> Pipeline:
    features = LayerFeatureTransformer(network, ["2", "6"], **parameters)
    y = np.arange(300) % 5
    return make_pipeline(features, Mahalanobis()).fit(images(300), y)


def milliseconds(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the median time of each call, of rounds in which they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 3):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number >= 3:
                seconds[name].append(time.perf_counter() - start)
    return {name: 1000 * statistics.median(found) for name, found in seconds.items()}


# Calls -----------------------------------------------------------------------------


@contextlib.contextmanager
def serving(features: LayerFeatureTransformer) -> Iterator[None]:
    """Enter the transformer's mode for serving, where this version has one."""
    frozen = getattr(features, "frozen", None)
    with contextlib.nullcontext() if frozen is None else frozen():
        yield


def calls_of(network: nn.Module, pipeline: Pipeline, n: int) -> dict[str, Any]:
    X = images(n, seed=1)
    tensor = torch.as_tensor(X)
    features = pipeline[0].transform(X)

    def forward() -> Any:
        with torch.no_grad():
            return network(tensor)

    return {
        "forward": forward,
        "transform": lambda: pipeline[0].transform(X),
        "detector": lambda: pipeline[-1].score_samples(features),
        "pipeline": lambda: pipeline.score_samples(X),
    }


def request_to(pipeline: Pipeline, n: int) -> Callable[[], Any]:
    """Return a request to an application with the pipeline."""
    from fastapi import FastAPI, Request
    from fastapi.testclient import TestClient

    app = FastAPI()

    async def score(request: Request) -> dict[str, list[float]]:
        rows = np.frombuffer(await request.body(), dtype=np.float32)
        X = rows.reshape(-1, 3, 32, 32)
        scored = score_and_predict(pipeline, X)
        return {"scores": scored.scores.tolist(), "flags": scored.flags.tolist()}

    # FastAPI looks annotations up in this module, where these are not.
    score.__annotations__ = {"request": Request}
    app.post("/score")(score)
    client, body = TestClient(app), images(n, seed=1).tobytes()
    return lambda: client.post("/score", content=body).raise_for_status()


def table(rounds: int, with_fastapi: bool) -> None:
    network = small_network()
    pipeline = fitted_pipeline(network)
    for mode in ("as it is", "frozen"):
        if mode == "frozen" and not hasattr(pipeline[0], "frozen"):
            continue
        with serving(pipeline[0]) if mode == "frozen" else contextlib.nullcontext():
            for n in (1, 64):
                calls = calls_of(network, pipeline, n)
                if with_fastapi:
                    calls["request"] = request_to(pipeline, n)
                found = milliseconds(calls, rounds)
                shown = ", ".join(f"{k} {v:.2f}" for k, v in found.items())
                over = found["pipeline"] / found["forward"]
                print(f"{mode}, {n} rows: {shown} ms; pipeline / forward {over:.2f}")


def misses(n: int) -> None:
    network = small_network()
    X = images(n + 2, seed=2)
    with tempfile.TemporaryDirectory() as folder:
        features = LayerFeatureTransformer(network, ["2", "6"], cache=folder).fit(X[:2])
        seconds = []
        with serving(features):
            for row in range(2, len(X)):
                start = time.perf_counter()
                features.transform(X[row : row + 1])
                seconds.append(time.perf_counter() - start)
        n_files = sum(path.is_file() for path in Path(folder).rglob("*"))
    first, last = (statistics.median(part) for part in (seconds[:100], seconds[-100:]))
    print(
        f"{n} single rows: {n_files} files; first calls {1000 * first:.2f} ms, last "
        f"{1000 * last:.2f} ms, last / first {last / first:.2f}; in all "
        f"{sum(seconds):.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--misses", type=int, default=0)
    parser.add_argument("--fastapi", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.misses:
        misses(arguments.misses)
    else:
        table(arguments.rounds, arguments.fastapi)


if __name__ == "__main__":
    main()
