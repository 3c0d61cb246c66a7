"""Mahalanobis: fit on n rows of d features and some classes, score other rows.

Beside it pytorch-ood and the usual way with scikit-learn's EmpiricalCovariance (one
product a class). Answers are compared with differences in float64.

    python benchmarks/mahalanobis.py --n 50000 --d 512 --classes 10
    python benchmarks/mahalanobis.py --n 50000 --d 2048 --classes 1000
    python benchmarks/mahalanobis.py --n 50000 --d 512 --classes 10000 --rounds 1
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
from scipy.linalg import cholesky, solve_triangular


def write_data(folder: Path, n: int, d: int, classes: int, queries: int) -> None:
    """Write rows of Gaussian classes with a covariance of condition 10^6."""
    rng = np.random.default_rng(0)
    mix = np.linalg.qr(rng.standard_normal((d, d)))[0]
    mix = (np.geomspace(1, 1e-3, d)[:, None] * mix).astype(np.float32)
    means = (2 + 1.5 * rng.standard_normal((classes, d)) @ mix).astype(np.float32)
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    X = rng.standard_normal((n, d), dtype=np.float32) @ mix + means[y]
    stretch = np.where(np.arange(queries) % 2, 1.0, 1.3)[:, None].astype(np.float32)
    Q = rng.standard_normal((queries, d), dtype=np.float32) @ mix * stretch
    Q += means[rng.integers(0, classes, queries)]
    for name, array in {"X": X, "y": y, "Q": Q}.items():
        np.save(folder / name, array)
    np.save(folder / "exact", exact_distances(X, y, Q))


def exact_distances(X: np.ndarray, y: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """Return the distances from differences, in float64, without a ridge."""
    means = np.array(
        [X[y == c].mean(axis=0, dtype=np.float64) for c in range(max(y) + 1)]
    )
    covariance = np.zeros((X.shape[1], X.shape[1]))
    for start in range(0, len(X), 8192):
        centred = X[start : start + 8192] - means[y[start : start + 8192]]
        covariance += centred.T @ centred / len(X)
    lower = cholesky(covariance, lower=True)
    points = solve_triangular(lower, means.T, lower=True).T
    white = solve_triangular(lower, Q.T.astype(np.float64), lower=True).T
    squares = (points**2).sum(axis=1)
    nearest = np.concatenate(
        [(squares - 2 * part @ points.T).argmin(axis=1) for part in np.split(white, 10)]
    )
    return ((white - points[nearest]) ** 2).sum(axis=1)


class Data:
    """The arrays of the folder, read when asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getattr__(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{name}.npy")


def skood_peer(folder: Path, dtype: str, threshold: bool) -> Peer:
    from skood import Mahalanobis
    from skood.detectors import as_if_new

    if not threshold:  # the peers set none
        as_if_new.threshold_rows = lambda n_rows: np.arange(2)
    data = Data(folder)
    X, y, Q = data.X.astype(dtype), data.y, data.Q.astype(dtype)
    detector = Mahalanobis(device="cpu")
    out = {}
    return Peer(
        {
            "fit": lambda: detector.fit(X, y),
            "score": lambda: out.update(s=detector.score_samples(Q)),
        },
        lambda: -out["s"],
    )


def pytorch_ood_peer(folder: Path, slow_rows: int) -> Peer:
    if find_spec("pytorch_ood") is None:
        raise NotInstalled("pytorch-ood is not installed (pip install pytorch-ood)")
    import torch

    data = Data(folder)
    X, y, Q = torch.from_numpy(data.X), torch.from_numpy(data.y), data.Q
    part = torch.from_numpy(Q[:slow_rows] if slow_rows else Q)
    detector = pytorch_ood_detectors().Mahalanobis(None)
    out = {}

    def score() -> None:
        batches = [detector.predict_features(b) for b in part.split(256)]
        out["s"] = (
            torch.cat(batches).numpy() * 2 * len(X)
        )  # its sum is not divided by n

    return Peer(
        {"fit": lambda: detector.fit_features(X, y), "score": score},
        lambda: out["s"],
        {"score": len(Q) / len(part)},
    )


def scikit_learn_peer(folder: Path, slow_rows: int) -> Peer:
    from sklearn.covariance import EmpiricalCovariance

    data = Data(folder)
    X, y, Q = data.X, data.y, data.Q
    part = Q[:slow_rows] if slow_rows else Q
    state = {}

    def fit() -> None:
        means = np.array([X[y == c].mean(axis=0) for c in range(y.max() + 1)])
        precision = EmpiricalCovariance().fit(X - means[y]).precision_
        state.update(means=means, precision=precision.astype(np.float32))

    def score() -> None:
        distances = []
        for mean in state["means"]:
            u = part - mean
            distances.append(np.einsum("ij,ij->i", u @ state["precision"], u))
        state["s"] = np.min(distances, axis=0)

    return Peer(
        {"fit": fit, "score": score}, lambda: state["s"], {"score": len(Q) / len(part)}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--csv", type=Path, help="a file for the table")
    args = parser.parse_args()
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = str(args.threads)
    slow_rows = 100 if args.classes * args.d > 100_000 else 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, args.n, args.d, args.classes, args.queries)
        peers = {
            "pytorch-ood": partial(pytorch_ood_peer, folder, slow_rows),
            "scikit-learn + loop": partial(scikit_learn_peer, folder, slow_rows),
            "skood float32": partial(skood_peer, folder, "float32", False),
            "skood float64": partial(skood_peer, folder, "float64", False),
            "skood float32, with threshold": partial(
                skood_peer, folder, "float32", True
            ),
        }
        table, answers = compare(peers, rounds=args.rounds)
        exact = np.load(folder / "exact.npy")
    table["max_error"] = [relative_error(answers[peer], exact) for peer in table.index]
    first = table.iloc[0]
    table["fit_ratio"] = first["fit_s"] / table["fit_s"]
    table["score_ratio"] = first["score_s"] / table["score_s"]
    print(
        f"\nn={args.n} d={args.d} classes={args.classes} queries={args.queries} "
        f"threads={args.threads}; ratios: times as fast as {table.index[0]}"
    )
    if slow_rows:
        print(f"the first two scored {slow_rows} rows, scaled up to all of them")
    write_table(table, args.csv, index="peer")


if __name__ == "__main__":
    main()
