"""LSGM: expectation maximisation pass by pass, and scoring, beside what there is.

Every peer starts from the same parameters and does the same passes, each in a process
of its own. scikit-learn is measured on float64 arrays and, by its array-API path, on
float32 torch tensors; its ``fit`` ends with one more expectation step, and that of the
Bayesian mixture begins with a maximisation step: each counts as half a pass. What it
would take to converge is its time a pass, as many times as skood needs passes from
that start (their bounds are the same).

``pass_s`` is the clock's time and ``processor_s`` the processor's, both of one pass;
the ratios are to the first peer of the kind.

Then LSGM's scores for several layers, beside the plain matrix products in them.

    python benchmarks/lsgm.py --n 50000 --d 128 --k 200 --cov full
    python benchmarks/lsgm.py --n 50000 --d 128 --k 200 --cov tied --peers skood
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pandas as pd
from harness import Peer, compare, write_table

LAYERS = (1, 2, 4)

HALVES = {"scikit-learn": 0.5, "scikit-learn torch": 0.5, "scikit-learn Bayesian": 1.0}
"""Passes that a call of ``fit`` does beside those asked for."""

RATIOS = {"pass_s": "faster", "processor_s": "less_work", "mb": "less_memory"}


def write_data(folder: Path, n: int, d: int, k: int, cov: str) -> None:
    """Write rows of k clusters in twenty orientations, and a common start."""
    rng = np.random.default_rng(0)
    turns = [np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(20)]
    centres = 1 + 0.35 * rng.standard_normal((k, d))
    deviations = np.geomspace(1.0, 0.1, d)
    cluster = rng.integers(0, k, n)
    X = rng.standard_normal((n, d)) * deviations
    for number, turn in enumerate(turns):
        own = cluster % len(turns) == number
        X[own] = X[own] @ turn
    X = (X + centres[cluster]).astype(np.float32)

    from sklearn.cluster import KMeans

    points = KMeans(k, n_init=1, max_iter=20, random_state=0).fit(X).cluster_centers_
    np.save(folder / "X", X)
    np.save(folder / "points", points)
    start = run_of(X.astype(np.float64), k, cov, None).started(centred(X, points))
    precisions = 1 / start.parameters.covariances
    if cov != "diag":
        precisions = np.linalg.inv(start.parameters.covariances)
    np.save(folder / "weights", start.parameters.weights)
    np.save(folder / "precisions", precisions)


def centred(X: np.ndarray, points: np.ndarray) -> np.ndarray:
    return rows_of(X).frame.of(points)


def rows_of(X: np.ndarray) -> Any:
    from skood import LayerFeatures
    from skood.mixtures.rows import LayerRows

    return LayerRows.of(LayerFeatures({"layer": X}), block_of, False)


def block_of(chunk: Any) -> np.ndarray:
    return chunk.block("layer")


def run_of(X: np.ndarray, k: int, cov: str, prior: str | None, **options: Any) -> Any:
    from skood.mixtures.em import MixtureFit, Run

    return Run.of(rows_of(X), MixtureFit(k, cov, prior, **{"tol": 0} | options))


def on_processor(stage: Callable[[], Any], seconds: list[float]) -> Callable[[], None]:
    """Return the stage, noting the processor's seconds, which others cannot stretch."""

    def run() -> None:
        began = process_time()
        stage()
        seconds.append(process_time() - began)

    return run


def skood_peer(
    folder: Path, cov: str, prior: str | None, dtype: str, iters: int
) -> Peer:
    X = np.load(folder / "X.npy").astype(dtype)
    points = np.load(folder / "points.npy")
    k = len(points)
    run_of(X[:k], k, cov, prior)  # imports what it needs
    state: dict[str, Any] = {}

    def start() -> None:
        state["run"] = run_of(X, k, cov, prior, max_iter=iters)
        state["start"] = state["run"].started(centred(X, points))

    def passes() -> None:
        state["mixture"] = state["run"].improved(state["start"])

    seconds: list[float] = []

    def answer() -> dict[str, Any]:
        run = run_of(X, k, cov, prior, max_iter=1000, tol=1e-3)
        began = perf_counter()
        converged = run.improved(run.started(centred(X, points)))
        return {
            "lower_bound": state["mixture"].lower_bound,
            "processor_s": min(seconds),
            "n_iter": converged.n_iter,
            "converged_s": perf_counter() - began,
        }

    return Peer({"start": start, "passes": on_processor(passes, seconds)}, answer)


def scikit_learn_peer(folder: Path, cov: str, kind: str, iters: int) -> Peer:
    from sklearn import set_config
    from sklearn.mixture import GaussianMixture

    warnings.simplefilter("ignore")
    start = [np.load(folder / f"{n}.npy") for n in ("weights", "points", "precisions")]
    X = np.load(folder / "X.npy")
    if kind == "tensors":
        import torch

        set_config(array_api_dispatch=True)
        X, *start = (torch.from_numpy(a.astype(np.float32)) for a in (X, *start))
    else:
        X = X.astype(np.float64)
    weights, means, precisions = start
    model = GaussianMixture(
        len(means),
        covariance_type=cov,
        max_iter=iters,
        tol=0,
        reg_covar=1e-6,
        init_params="random_from_data",
        weights_init=weights,
        means_init=means,
        precisions_init=precisions,
        random_state=0,
    )
    return scikit_learn_passes(model, X)


def scikit_learn_passes(model: Any, X: Any) -> Peer:
    seconds: list[float] = []
    return Peer(
        {"passes": on_processor(lambda: model.fit(X), seconds)},
        lambda: {
            "lower_bound": float(np.squeeze(model.lower_bound_)),
            "processor_s": min(seconds),
        },
    )


def bayesian_peer(folder: Path, cov: str, iters: int) -> Peer:
    """Return scikit-learn's Dirichlet process; k-means is its start and not timed."""
    from sklearn.mixture import BayesianGaussianMixture

    class StartedFromPoints(BayesianGaussianMixture):
        def _initialize_parameters(self, X, random_state, xp=None):
            squares = (points**2).sum(axis=1)
            nearest = (squares - 2 * X @ points.T).argmin(axis=1)
            self._initialize(X, np.eye(len(points))[nearest])

    warnings.simplefilter("ignore")
    points = np.load(folder / "points.npy").astype(np.float64)
    X = np.load(folder / "X.npy").astype(np.float64)
    model = StartedFromPoints(
        n_components=len(points),
        covariance_type=cov,
        weight_concentration_prior_type="dirichlet_process",
        max_iter=iters,
        tol=0,
        reg_covar=1e-6,
    )
    return scikit_learn_passes(model, X)


def score_peer(n: int, d: int, k: int, cov: str, layers: int) -> Peer:
    """Return scoring n rows of some layers, and the products that it cannot avoid."""
    from skood import LSGM, LayerFeatures

    rng = np.random.default_rng(0)
    blocks = {f"layer{i}": rng.standard_normal((n, d)) for i in range(layers)}
    features = LayerFeatures(blocks)
    warnings.simplefilter("ignore")
    detector = LSGM(k, covariance_type=cov, max_iter=1, random_state=0, device="cpu")
    detector.fit(features)
    white = rng.standard_normal((d, d))
    means = rng.standard_normal((d, k))

    def products() -> None:
        for x in blocks.values():
            if cov == "diag":
                x @ means, x @ means
            elif cov == "tied":
                x @ white @ means
            else:
                for _ in range(k):
                    x @ white
        for transition in detector.transition_matrix_:
            np.zeros((n, k)) @ transition

    return Peer(
        {"score": lambda: detector.score_samples(features), "products": products}
    )


def peers_of(folder: Path, cov: str, iters: int) -> dict[str, Any]:
    process = "dirichlet_process"
    return {
        "scikit-learn": partial(scikit_learn_peer, folder, cov, "arrays", iters),
        "scikit-learn torch": partial(scikit_learn_peer, folder, cov, "tensors", iters),
        "skood float32": partial(skood_peer, folder, cov, None, "float32", iters),
        "skood float64": partial(skood_peer, folder, cov, None, "float64", iters),
        "scikit-learn Bayesian": partial(bayesian_peer, folder, cov, iters),
        "skood Dirichlet float32": partial(
            skood_peer, folder, cov, process, "float32", iters
        ),
    }


def fit_table(args: argparse.Namespace) -> pd.DataFrame:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, args.n, args.d, args.k, args.cov)
        peers = peers_of(folder, args.cov, args.iters)
        chosen = {p: make for p, make in peers.items() if args.peers in p}
        times, answers = compare(chosen, rounds=args.rounds, max_seconds=20)
    table = pd.DataFrame(index=times.index)
    passes = np.array([args.iters + HALVES.get(peer, 0) for peer in times.index])
    table["pass_s"] = times.passes_s / passes
    for column in ("processor_s", "lower_bound", "n_iter", "converged_s"):
        table[column] = [answers[peer].get(column) for peer in times.index]
    table["processor_s"] /= passes
    table["mb"] = times.filter(regex="_mb$").max(axis=1)
    bayesian = table.index.str.contains("Bayesian|Dirichlet")
    for kind in filter(np.any, (bayesian, ~bayesian)):
        missing = kind & table.converged_s.isna()
        needed = table.n_iter[kind].max()
        table.loc[missing, "converged_s"] = needed * table.pass_s[missing]
        for column, ratio in RATIOS.items():
            table.loc[kind, ratio] = table[column][kind].iloc[0] / table[column][kind]
    return table


def score_table(args: argparse.Namespace) -> pd.DataFrame:
    shape = (args.queries, args.d, args.k, args.cov)
    peers = {
        f"{count} layers": partial(score_peer, *shape, count) for count in (1, 2, 4)
    }
    times, _ = compare(peers, rounds=args.rounds)
    table = times[["score_s", "products_s"]].copy()
    table["ratio"] = table.score_s / table.products_s
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--d", type=int, default=128)
    parser.add_argument("--k", type=int, default=200)
    parser.add_argument("--cov", choices=["full", "diag", "tied"], default="diag")
    parser.add_argument("--iters", type=int, default=2)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--peers", default="", help="those whose name has this in it")
    parser.add_argument("--no-fit", action="store_true", help="only the scores")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="a folder for the tables")
    args = parser.parse_args()
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = str(args.threads)
    os.environ["SCIPY_ARRAY_API"] = "1"  # scikit-learn wants it for tensors
    print(
        f"n={args.n} d={args.d} k={args.k} cov={args.cov} passes={args.iters} "
        f"threads={args.threads}"
    )
    if not args.no_fit:
        fits = args.out and args.out / f"{args.cov}.csv"
        write_table(fit_table(args), fits, index="peer")
    print(f"\nscoring {args.queries} rows in float64")
    scores = args.out and args.out / f"{args.cov}_scores.csv"
    write_table(score_table(args), scores, index="layers")


if __name__ == "__main__":
    main()
