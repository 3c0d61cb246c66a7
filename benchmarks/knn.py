"""KNN's search: the distance to the k-th nearest of n rows of length one, exactly.

Beside faiss's flat index, scikit-learn's brute force and pytorch-ood, in seconds to
prepare the rows and to search the queries. The answers of the first queries are
compared with differences of all pairs in float64. ``--offset`` adds a common part to
all rows, which products lose digits to; rows are then not scaled to length one.

    python benchmarks/knn.py --n 50000 --d 512 --k 50 --threads 1
    python benchmarks/knn.py --n 50000 --d 512 --k 50 --threads 1 --offset 100
"""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from harness import (
    NotInstalled,
    Peer,
    compare,
    relative_error,
    write_table,
)
from pytorch_ood_alone import pytorch_ood_detectors

COMPARED = 200
"""Queries whose answer is taken from all differences."""


def write_data(
    folder: Path, n: int, d: int, classes: int, queries: int, offset: float
) -> None:
    """Write float32 rows of positive features of classes; of length one, or offset."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(classes, d))
    for name, rows in (("X", n), ("Q", queries)):
        x = means[rng.integers(0, classes, rows)] + rng.normal(size=(rows, d))
        x = np.maximum(x, 0) + offset
        if not offset:
            x /= np.linalg.norm(x, axis=1)[:, None]
        np.save(folder / name, x.astype(np.float32))


def exact_distances(X: np.ndarray, Q: np.ndarray, k: int) -> np.ndarray:
    """Return the distances to the k-th nearest row, from differences in float64."""
    found = []
    for q in Q[:COMPARED].astype(np.float64):
        squares = np.concatenate(
            [((part - q) ** 2).sum(axis=1) for part in np.array_split(X, 16)]
        )
        found.append(np.sqrt(np.partition(squares, k - 1)[k - 1]))
    return np.array(found)


def unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1)[:, None]


def read_data(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    return np.load(folder / "X.npy"), np.load(folder / "Q.npy")


def faiss_peer(folder: Path, k: int) -> Peer:
    if find_spec("faiss") is None:
        raise NotInstalled("faiss is not installed (pip install faiss-cpu)")
    import faiss

    X, Q = read_data(folder)
    state = {}

    def fit() -> None:
        state["index"] = faiss.IndexFlatL2(X.shape[1])
        state["index"].add(X)

    def search() -> None:
        state["squares"] = state["index"].search(Q, k)[0][:, -1]

    return Peer(
        {"fit": fit, "search": search},
        lambda: np.sqrt(np.maximum(state["squares"][:COMPARED], 0)),
    )


def scikit_learn_peer(folder: Path, k: int) -> Peer:
    from sklearn.neighbors import NearestNeighbors

    X, Q = read_data(folder)
    model, out = NearestNeighbors(n_neighbors=k, algorithm="brute"), {}
    return Peer(
        {
            "fit": lambda: model.fit(X),
            "search": lambda: out.update(s=model.kneighbors(Q)[0][:, -1]),
        },
        lambda: out["s"][:COMPARED],
    )


def pytorch_ood_peer(folder: Path, k: int, offset: float) -> Peer:
    if find_spec("pytorch_ood") is None:
        raise NotInstalled("pytorch-ood is not installed")
    import torch

    X, Q = map(torch.from_numpy, read_data(folder))
    labels = torch.zeros(len(X), dtype=torch.long)
    model, out = pytorch_ood_detectors().KNN(None, k=k, normalize=not offset), {}
    return Peer(
        {
            "fit": lambda: model.fit_features(X, labels),
            "search": lambda: out.update(s=model.predict_features(Q)),
        },
        lambda: np.asarray(out["s"])[:COMPARED],
    )


def skood_peer(folder: Path, k: int, offset: float, dtype: str, backend: str) -> Peer:
    from skood.neighbors import NeighborBank

    if backend == "faiss" and find_spec("faiss") is None:
        raise NotInstalled("faiss is not installed (pip install faiss-cpu)")
    X, Q = (array.astype(dtype) for array in read_data(folder))
    state = {}

    def fit() -> None:
        state["bank"] = NeighborBank(X, unit=not offset, backend=backend)

    def search() -> None:
        state["s"] = state["bank"].kth_distances(Q, k)

    return Peer({"fit": fit, "search": search}, lambda: state["s"][:COMPARED])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--offset", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--csv", type=Path, help="a file for the table")
    args = parser.parse_args()
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = str(args.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, args.n, args.d, args.classes, args.queries, args.offset)
        ours = partial(skood_peer, folder, args.k, args.offset)
        peers = {
            "faiss IndexFlatL2": partial(faiss_peer, folder, args.k),
            "scikit-learn brute": partial(scikit_learn_peer, folder, args.k),
            "pytorch-ood": partial(pytorch_ood_peer, folder, args.k, args.offset),
            "skood float32": partial(ours, "float32", "exact"),
            "skood float64": partial(ours, "float64", "exact"),
            "skood with faiss": partial(ours, "float32", "faiss"),
        }
        table, answers = compare(peers, rounds=args.rounds)
        X, Q = read_data(folder)
        if not args.offset:  # float32 rows are not quite of length one
            X, Q = unit(X), unit(Q)
        exact = exact_distances(X, Q, args.k)
    table["max_error"] = [relative_error(answers[peer], exact) for peer in table.index]
    table["search_ratio"] = table["search_s"].iloc[0] / table["search_s"]
    print(
        f"n={args.n} d={args.d} k={args.k} queries={args.queries} "
        f"classes={args.classes} offset={args.offset:g} threads={args.threads}; "
        f"ratios: times as fast as {table.index[0]}"
    )
    write_table(table, args.csv, index="peer")


if __name__ == "__main__":
    main()
