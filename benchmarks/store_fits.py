"""Fits from a store: the time of each detector, and the peak of its process's memory.

    python benchmarks/store_fits.py --gigabytes 4

A store of random features with several layers is written. For each detector a process
fits on half of the rows and scores the others, and the peak of its resident memory is
printed. KNN, whose time goes with the product of both, scores as many as ``--queries``
says; AMP trains for one epoch.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from harness import write_table
from store import PIECE

BLOCKS = {
    ("layer1", "avg"): 256,
    ("layer2", "avg"): 512,
    ("penultimate", "avg"): 512,
    ("layer3", "l2"): 1024,
    ("layer3", "lse"): 1,
}
CLASSES = 10


def fill(folder: Path, gigabytes: float) -> int:
    """Write a store of random features of so many gigabytes; return its rows."""
    from skood import FeatureStore
    from skood.store.listing import Listing
    from skood.store.row_keys import row_keys

    store, rng = FeatureStore(folder), np.random.default_rng(0)
    width = sum(BLOCKS.values()) + CLASSES
    n_rows = int(gigabytes * 1e9) // (4 * width)
    about = {"source": "random", "description": "random numbers"}
    step = PIECE // (4 * width)
    centres = {
        block: rng.random((CLASSES, d), dtype=np.float32) for block, d in BLOCKS.items()
    }
    weight = rng.standard_normal((CLASSES, 512)).astype(np.float32) / 16
    labels, all_keys = [], []
    for start in range(0, n_rows, step):
        n = min(step, n_rows - start)
        y, keys = rng.integers(0, CLASSES, n), row_keys(np.arange(start, start + n))
        arrays = {"keys": keys}
        for (layer, statistic), d in BLOCKS.items():
            block = rng.standard_normal((n, d), dtype=np.float32)
            block += centres[layer, statistic][y]
            arrays[f"{statistic}/{layer}"] = np.maximum(block, 0)
        arrays["logits/logits"] = arrays["avg/penultimate"] @ weight.T
        store.opened.add("features", arrays, about)
        labels.append(y)
        all_keys.append(keys)
    listing = Listing(np.concatenate(all_keys), np.concatenate(labels))
    store.opened.add("rows", listing.arrays(), about)
    zeros = np.zeros(CLASSES, dtype=np.float32)
    head = {"weight": weight, "bias": zeros}
    store.opened.add("note", head, {"name": "head random"})
    return n_rows


def detectors() -> dict[str, Callable[[], Any]]:
    """Detectors by name."""
    from skood import (
        AMP,
        KNN,
        LSGM,
        MSP,
        NAP,
        AnchoredClassifier,
        Energy,
        FeatureNorm,
        LayerEnergy,
        Mahalanobis,
        MaxLogit,
    )
    from skood.neural.mlp import MLP

    one_epoch = AnchoredClassifier(
        MLP,
        module__n_features=BLOCKS["penultimate", "avg"],
        module__n_classes=CLASSES,
        standardize=True,
        train_split=None,
        max_epochs=1,
        batch_size=1024,
        random_state=0,
    )
    return {
        "AMP": partial(AMP, one_epoch, layers="penultimate"),
        "Mahalanobis": Mahalanobis,
        "Mahalanobis, relative": partial(Mahalanobis, relative=True),
        "LSGM": partial(LSGM, n_components=10, max_iter=5, random_state=0),
        "NAP": partial(NAP, statistic="avg"),
        "KNN": partial(KNN, layers="penultimate"),
        "FeatureNorm": partial(FeatureNorm, "layer3"),
        "LayerEnergy": LayerEnergy,
        "MSP": MSP,
        "MaxLogit": MaxLogit,
        "Energy": Energy,
    }


def fitted_and_scored(folder: str, name: str, queries: int, pipe: Any) -> None:
    """Fit on half of a store, score the rest; send seconds and peak memory."""
    from skood import FeatureStore

    store = FeatureStore(folder)
    features, y = store.features(), store.labels
    half = len(features) // 2
    known, rest = slice(0, half), slice(half, half + queries if name == "KNN" else None)
    try:
        start = time.perf_counter()
        detector = detectors()[name]().fit(features[known], y[known])
        fit = time.perf_counter() - start
        scores = detector.score_samples(features[rest])
        score = time.perf_counter() - start - fit
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        assert np.isfinite(scores).all()
        pipe.send((known.stop, len(scores), fit, score, peak))
    except Exception as error:  # a row of the table is lost, not the table
        pipe.send(f"{type(error).__name__}: {error}")


def print_fits(
    gigabytes: float, queries: int, only: list[str], folder: str, csv: Path | None
) -> None:
    path, context = Path(folder) / "big", multiprocessing.get_context("spawn")
    start = time.perf_counter()
    filler = context.Process(target=fill, args=(path, gigabytes))
    filler.start()
    filler.join()
    size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) / 1e9
    print(f"a store of {size:.2f} GB, written in {time.perf_counter() - start:.0f} s")
    table = {}
    for name in only or detectors():
        ours, theirs = context.Pipe()
        arguments = (str(path), name, queries, theirs)
        process = context.Process(target=fitted_and_scored, args=arguments)
        process.start()
        found = ours.recv()
        process.join()
        if isinstance(found, str):
            print(f"{name}: {found}")
            continue
        columns = ("fitted on", "scored", "fit s", "score s", "peak MB")
        table[name] = dict(zip(columns, found, strict=True))
        print(f"{name}: peak {found[-1]:.0f} MB", file=sys.stderr, flush=True)
    write_table(pd.DataFrame.from_dict(table, orient="index"), csv, index="detector")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=4, help="of the store")
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--detectors", nargs="*", default=[])
    parser.add_argument("--csv", type=Path, help="a file for the table")
    parser.add_argument("--folder", help="where to write; default: the temporary one")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    print(f"{platform.platform()}, Python {platform.python_version()}\n")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        chosen = given.detectors
        print_fits(given.gigabytes, given.queries, chosen, folder, given.csv)


if __name__ == "__main__":
    main()
