"""The same detectors of several libraries, in one run: time, memory, agreement.

    python benchmarks/libraries.py [--n 10000] [--d 512] [--csv libraries.csv]

pytorch-ood, oodeel, PyOD, scikit-learn and faiss, as far as they are installed and have
the method, get the rows that ``posthoc.py`` makes up; what takes rows of length one as
they are gets them so. Times are those of the processor, of one thread; memory is the
growth of the peak beyond the data; the rank correlation is that of the scores with
skood's. oodeel wants older versions of NumPy than others do:
``pip install --no-deps oodeel``. It takes networks, not arrays: it gets one of a layer
that changes nothing and the head, and batches of 1,000 rows.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from harness import NotInstalled, Peer, compare, write_table
from posthoc import data_of, load_what_is_shared, ours, theirs, write_data
from pytorch_ood_alone import NoTorchvision
from scipy.stats import spearmanr

NEIGHBOURS = 50
BATCH = 1000

OODEEL: dict[str, tuple[str, dict[str, Any]]] = {
    "MSP": ("MLS", {"output_activation": "softmax"}),
    "MaxLogit": ("MLS", {}),
    "Energy": ("Energy", {}),
    "Entropy": ("Entropy", {}),
    "GEN": ("GEN", {}),
    "SHE": ("SHE", {}),
    "ViM": ("VIM", {"princ_dims": 256}),
    "Mahalanobis": ("Mahalanobis", {}),
    "RelativeMahalanobis": ("RMDS", {}),
    "KNN": ("DKNN", {"nearest": NEIGHBOURS}),
}
"""Its class and parameters, by skood's name."""


def of(fit: Callable[[], Any], scores: Callable[[], Any]) -> Peer:
    """Return a peer whose answer is higher for in-distribution rows."""
    found: dict[str, Any] = {}

    def score() -> None:
        found["scores"] = np.asarray(scores())

    return Peer({"fit": fit, "score": score}, lambda: found["scores"])


def oodeel(folder: Path, name: str) -> Peer:
    if find_spec("oodeel") is None:
        raise NotInstalled("oodeel is not installed (pip install --no-deps oodeel)")
    if find_spec("torchvision") is None:
        sys.meta_path.append(NoTorchvision())
    import torch
    from oodeel import methods
    from torch.utils.data import DataLoader, TensorDataset

    known, new, y = data_of(folder)
    head = torch.nn.Linear(*known.head.weight.shape[::-1])
    head.weight.data = torch.tensor(known.head.weight)
    head.bias.data = torch.tensor(known.head.bias)
    network = torch.nn.Sequential(torch.nn.Identity(), head).eval()

    def batches(features: Any, labels: np.ndarray) -> Any:
        rows = torch.tensor(features.block("penultimate", "avg"))
        return DataLoader(TensorDataset(rows, torch.tensor(labels)), BATCH)

    kind, parameters = OODEEL[name]
    detector = getattr(methods, kind)(**parameters)
    training, asked = batches(known, y), batches(new, y)
    layers = {"feature_layers_id": [0]}
    return of(
        lambda: detector.fit(network, fit_dataset=training, **layers),
        lambda: -detector.score(asked)[0],
    )


def unit_rows(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return training rows and queries of length one."""
    rows = (f.block("penultimate", "avg") for f in data_of(folder)[:2])
    known, new = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in rows)
    return known, new


def pyod(folder: Path, name: str) -> Peer:
    if find_spec("pyod") is None:
        raise NotInstalled("pyod is not installed")
    from pyod.models.knn import KNN

    known, new = unit_rows(folder)
    detector = KNN(n_neighbors=NEIGHBOURS, method="largest", n_jobs=1)
    return of(lambda: detector.fit(known), lambda: -detector.decision_function(new))


def scikit_learn_neighbours(folder: Path, name: str) -> Peer:
    from sklearn.neighbors import NearestNeighbors

    known, new = unit_rows(folder)
    search = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute")
    return of(lambda: search.fit(known), lambda: -search.kneighbors(new)[0][:, -1])


def scikit_learn_covariance(folder: Path, name: str) -> Peer:
    from sklearn.covariance import EmpiricalCovariance

    known, new, y = data_of(folder)
    x, z = (f.block("penultimate", "avg") for f in (known, new))
    state: dict[str, Any] = {}

    def fit() -> None:
        means = np.array([x[y == c].mean(axis=0) for c in range(y.max() + 1)])
        tied = EmpiricalCovariance(assume_centered=True).fit(x - means[y])
        state.update(means=means, tied=tied)

    def scores() -> np.ndarray:
        distances = [state["tied"].mahalanobis(z - mean) for mean in state["means"]]
        return -np.min(distances, axis=0)

    return of(fit, scores)


def faiss(folder: Path, name: str) -> Peer:
    if find_spec("faiss") is None:
        raise NotInstalled("faiss is not installed (pip install faiss-cpu)")
    from faiss import IndexFlatL2

    known, new = unit_rows(folder)
    index = IndexFlatL2(known.shape[1])

    def fit() -> None:
        index.reset()
        index.add(known)

    return of(fit, lambda: -index.search(new, NEIGHBOURS)[0][:, -1])


Maker = Callable[[Path, str], Peer]
OTHERS: dict[str, dict[str, Maker]] = {
    "KNN": {"scikit-learn": scikit_learn_neighbours, "PyOD": pyod, "faiss": faiss},
    "Mahalanobis": {"scikit-learn": scikit_learn_covariance},
}
"""Beside pytorch-ood and oodeel."""


def table_of(folder: Path, name: str, rounds: int) -> pd.DataFrame:
    """Return the rows of one method, skood's first."""
    makers: dict[str, Callable[[], Peer]] = {
        "skood": partial(ours, folder, name, 1),
        "pytorch-ood": partial(theirs, folder, name, 1),
        "oodeel": partial(oodeel, folder, name),
    }
    others = OTHERS.get(name, {})
    makers |= {who: partial(make, folder, name) for who, make in others.items()}
    times, answers = compare(
        makers, rounds=rounds, clock=time.process_time, start="fork"
    )
    own = answers["skood"]
    times["rank correlation"] = [spearmanr(own, answers[p])[0] for p in times.index]
    times["score, times skood's"] = times["score_s"] / times["score_s"]["skood"]
    times.insert(0, "library", times.index)
    times.insert(0, "method", name)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=OODEEL, default=[*OODEEL])
    parser.add_argument("--csv", type=Path, help="a file for the table")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, chosen.n, chosen.d, chosen.classes)
        load_what_is_shared(folder)
        tables = [table_of(folder, method, chosen.rounds) for method in chosen.only]
    write_table(pd.concat(tables), chosen.csv)


if __name__ == "__main__":
    main()
