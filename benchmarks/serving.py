"""One row and 64 rows through a pipeline that serves, beside the bare network.

    python benchmarks/serving.py --csv calls.csv                # times a call
    python benchmarks/serving.py --overhead --csv overhead.csv  # over a ResNet-18
    python benchmarks/serving.py --misses 10000   # single rows that a cache has not

The network is small (two convolutions, 32 x 32 pixels), so that what is around it
shows. Timed are the bare forward, ``transform``, the detector's ``score_samples`` on
features that are there, both as a pipeline, and what is exported of it: one torch
module, and the same in onnxruntime; with ``--fastapi`` also a request to an
application of FastAPI that has the pipeline, through its test client. The rounds of all
of them are interleaved; the figures are medians in milliseconds, and what the pipeline
takes over the bare forward.

``--overhead`` says for every detector that can be exported what its part of a module
and of a file of ONNX takes for 64 rows and for 1, in per cent of the forward of a
ResNet-18 at 32 x 32 pixels. They are fitted on made-up features of 512 columns, 10
classes and 1,000 rows, which are also what banks hold. With ``--kept`` what is exported
stays in a folder, so that the times can be taken again without making it again.

``--misses`` sends so many different rows one by one through a transformer with a cache
in a folder, in that mode, and prints the files there, the medians of the first hundred
and of the last hundred calls, and the one over the other.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import pickle
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from resnet import ResNet18
from sklearn.pipeline import Pipeline, make_pipeline
from torch import nn

from skood import (
    LayerFeatures,
    LayerFeatureTransformer,
    LinearHead,
    Mahalanobis,
    score_and_predict,
    to_module,
)
from skood.detectors.registry import REGISTRY
from skood.export.banks import bounded
from skood.export.onnx import onnx_model


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

    module = to_module(pipeline)
    called = (torch.as_tensor(images(2)),), {}
    session = on_one_thread(onnx_model(module, called, (0,)).SerializeToString())
    return {
        "forward": forward,
        "transform": lambda: pipeline[0].transform(X),
        "detector": lambda: pipeline[-1].score_samples(features),
        "pipeline": lambda: pipeline.score_samples(X),
        "module": lambda: without_gradients(module, tensor),
        "ONNX": lambda: session.run(None, {"input": X}),
    }


def without_gradients(module: nn.Module, *given: torch.Tensor) -> Any:
    with torch.no_grad():
        return module(*given)


def on_one_thread(file: bytes) -> Any:
    """Return a session of onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options)


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


def table(rounds: int, with_fastapi: bool) -> list[dict[str, Any]]:
    """Return the milliseconds of each call, a row a mode and number of rows."""
    network = small_network()
    pipeline, found = fitted_pipeline(network), []
    for mode in ("as it is", "frozen"):
        with serving(pipeline[0]) if mode == "frozen" else contextlib.nullcontext():
            for n in (1, 64):
                calls = calls_of(network, pipeline, n)
                if with_fastapi:
                    calls["request"] = request_to(pipeline, n)
                times = milliseconds(calls, rounds)
                over = {
                    f"{name} / forward": times[name] / times["forward"]
                    for name in ("pipeline", "module")
                }
                found.append({"mode": mode, "rows": n, **times, **over})
                print(found[-1], flush=True)
    return found


# The detectors' part ----------------------------------------------------------------


def made_up_features(n: int, seed: int) -> tuple[LayerFeatures, np.ndarray]:
    """Return features as a ResNet-18 has them, behind a ReLU, with logits and head."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(0)
    means, weight = fixed.random((10, 512)), fixed.normal(size=(10, 512)) / 20
    y = np.arange(n) % 10
    h = np.maximum(means[y] + rng.normal(size=(n, 512)), 0).astype(np.float32)
    head = LinearHead((weight + means / 50).astype(np.float32), np.ones(10, np.float32))
    blocks: dict[Any, Any] = {("layer4", name): h for name in ("avg", "max", "l2")}
    blocks |= {("layer4", "lse"): h.sum(axis=1, keepdims=True)}
    blocks |= {("layer4", "gram"): np.tile(h, (1, 10))}
    blocks |= {"penultimate": h, "logits": head.logits(h)}
    return LayerFeatures(blocks, head=head), y


def overhead(rounds: int, kept: Path, wanted: list[str]) -> list[dict[str, Any]]:
    """Return what detectors take, in per cent of the forward of a ResNet-18."""
    parts = {name: part_of(REGISTRY[name], kept / name) for name in wanted}
    torch.manual_seed(0)
    network, base = ResNet18().eval(), {}
    for n in (64, 1):
        forward = partial(without_gradients, network, torch.as_tensor(images(n)))
        base[n] = milliseconds({"": forward}, 10)[""]
    print("the forward of a ResNet-18 takes, in milliseconds:", base)
    found = []
    for name, part in parts.items():
        found.append({"detector": name, **shares(*part, base, rounds)})
        print(found[-1], flush=True)
    return found


def part_of(entry: Any, kept: Path) -> tuple[nn.Module, bytes, bool]:
    """Return a fitted detector as a module and a file, and whether it keeps rows.

    They are made once, and kept: it takes much longer than they take to score.
    """
    if not kept.exists():
        X, y = made_up_features(1000, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            detector = entry.detector(**(entry.on_features or ({},))[0]).fit(X, y)
            module = to_module(detector, X[:2])
            called = tuple(torch.as_tensor(X[:2].block(*n)) for n in module.blocks), {}
            file = onnx_model(module, called, (0,)).SerializeToString()
        made = module, file, bounded(detector, 1) is not detector
        kept.write_bytes(pickle.dumps(made))
    found: tuple[nn.Module, bytes, bool] = pickle.loads(kept.read_bytes())
    return found


def shares(
    module: Any, file: bytes, bank: bool, base: dict[int, float], rounds: int
) -> dict[str, Any]:
    session, found = on_one_thread(file), {"bank": bank}
    for n, forward in base.items():
        new, _ = made_up_features(n, 2)
        arrays = [new.block(*name) for name in module.blocks]
        inputs = (one.name for one in session.get_inputs())
        calls = {
            "module": partial(without_gradients, module, *map(torch.as_tensor, arrays)),
            "ONNX": partial(session.run, None, dict(zip(inputs, arrays, strict=True))),
        }
        times = milliseconds(calls, rounds)
        found |= {f"{k} {n}": 100 * v / forward for k, v in times.items()}
    return found


def write(rows: list[dict[str, Any]], file: str | None) -> None:
    """Write a table, its numbers with three digits."""
    if file is None:
        return
    with open(file, "w", newline="", encoding="utf-8") as target:
        writer = csv.DictWriter(target, [*rows[0]], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: _short(v) for k, v in row.items()})


def _short(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:.3g}" if isinstance(value, float) else value


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
    parser.add_argument("--overhead", action="store_true")
    parser.add_argument("--csv", help="a file for the table")
    exported = [name for name, entry in REGISTRY.items() if not entry.no_graph]
    parser.add_argument("--detectors", nargs="+", default=exported)
    parser.add_argument("--kept", help="a folder for what --overhead exports")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.misses:
        misses(arguments.misses)
    elif arguments.overhead:
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(arguments.kept or folder)
            kept.mkdir(exist_ok=True)
            found = overhead(arguments.rounds, kept, arguments.detectors)
            write(found, arguments.csv)
    else:
        write(table(arguments.rounds, arguments.fastapi), arguments.csv)


if __name__ == "__main__":
    main()
