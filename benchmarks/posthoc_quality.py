"""Every post-hoc detector on every pair of real image sets, and its false alarms.

    python benchmarks/posthoc_quality.py --network resnet20 [--train-rows 4000]
        [--held-out 1000] [--test-rows 1000] [--cache FOLDER] [--out FOLDER]
    python benchmarks/posthoc_quality.py --summary --out docs/benchmarks/posthoc_quality

Detectors have their defaults, but for the layers that they read, and see no outlier
before they are scored. Each is fitted twice: on training images with the threshold from
images held out of the network's training, whose scores are the table; and on the held
out images alone. Both times the share of further images of the same set that it rejects
is compared with the 5 % asked. The features are computed once and kept in the cache's
folder, if one is given. ``--summary`` puts the networks' tables together.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import data
import numpy as np
import pandas as pd
from detection import Labelled, cached
from networks import NETWORKS, Published
from numpy.typing import NDArray
from scipy.stats import betabinom

import skood
from skood import LayerFeatures
from skood.detectors.registry import REGISTRY
from skood.numerics.ranks import rank_for_rate

RATE = 0.05
CERTAINTY = 0.999
"""Of the bounds on false alarms: of the table's cells, one in a thousand is out."""

NEAR = {
    "cifar10": ("cifar100", "tiny_imagenet"),
    "mnist": ("fashion_mnist", "notmnist"),
}
"""As OpenOOD has it; other images are far."""

NOISE = ("negative", "gaussian", "rademacher", "bernoulli", "uniform", "blob")

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "Mahalanobis, relative": ("Mahalanobis", {"relative": True}),
    "Mahalanobis++": ("Mahalanobis", {"normalize": True}),
    "Mahalanobis++, relative": ("Mahalanobis", {"normalize": True, "relative": True}),
    "LTS": ("SCALE", {"transform": "square"}),
    "ASH, B": ("ASH", {"variant": "B"}),
    "ASH, P": ("ASH", {"variant": "P"}),
    "VRA, clip": ("VRA", {"low": "clip"}),
    "ReAct, GEN": ("ReAct", {"score": skood.GEN()}),
    "KPCA, random features": ("KPCA", {"kernel": "cosine_rbf"}),
}
"""Beside the registry: other methods of the same class, and one composition."""

LEFT_OUT = {"ConceptMatching", "AMP", "PyODDetector"}
"""They need texts, training or another library."""

PENULTIMATE = {"layers": "penultimate"}


class Sets(NamedTuple):
    """Features of one network."""

    train: Labelled
    held_out: Labelled
    known: LayerFeatures
    outliers: dict[str, LayerFeatures]


def transformer_of(network: Published) -> skood.LayerFeatureTransformer:
    """Return what extracts every statistic that some detector reads."""
    extra = [(layer, s) for layer in network.blocks for s in ("gram", "lse")]
    return skood.LayerFeatureTransformer(
        network.loaded(data.data_folder()),
        [*network.layers, *extra],
        ("avg", "max", "l2"),
        preprocess=network.preprocess,
        batch_size=8,
        views={"jigsaw": skood.Jigsaw(grid=3)},
    )


def extracted(
    network: Published, sizes: tuple[int, int, int], cache: Path | None
) -> Sets:
    """Return the features of all sets; the in-distribution has twice the test rows."""
    train_rows, held_out, test_rows = sizes
    transformer = transformer_of(network)
    images, labels = data.train_set(network.inliers, train_rows)
    train = cached(cache, "train", images, transformer.fit_transform)
    transformer.fit(images[:2])
    rows = held_out + 2 * test_rows
    inputs, classes = data.test_set(network.inliers, network.inliers, rows)
    held = cached(cache, "held_out", inputs[:held_out], transformer.fit_transform)
    known = cached(cache, "known", inputs[held_out:], transformer.transform)
    outliers = {}
    for name in data.OUTLIERS[network.inliers]:
        inputs, _ = data.test_set(name, network.inliers, test_rows)
        outliers[name] = cached(cache, name, inputs, transformer.transform)
    return Sets((train, labels), (held, classes[:held_out]), known, outliers)


def detectors(network: Published) -> dict[str, Any]:
    """Return the detectors of the table by name, all with their defaults."""
    layers: dict[str, dict[str, Any]] = {
        "Mahalanobis": PENULTIMATE,
        "KNN": PENULTIMATE,
        "GaussianMixtureDetector": PENULTIMATE,
        "LSGM": {"layers": network.lsgm_layers, "random_state": 0},
        "NAP": {"layers": network.activations},
        "FeatureNorm": {"layers": network.norm_layers},
        "LayerEnergy": {"layers": network.blocks},
        "Gram": {"layers": network.blocks},
        "ActivationPrior": {"layers": network.norm_layers},
    }
    plain = {name: (name, {}) for name in REGISTRY if name not in LEFT_OUT}
    return {
        name: REGISTRY[base].detector(**layers.get(base, {}), **parameters)
        for name, (base, parameters) in (plain | VARIANTS).items()
    }


def false_alarms(detector: Any, n: int, known: NDArray[np.float64]) -> dict[str, Any]:
    """Return the rate of rejected rows, and whether it is what n scores promise.

    The threshold is the k-th smallest of n scores of rows like the others, so that the
    number below it is beta-binomial.
    """
    k = rank_for_rate(n, RATE)
    below = int((known < detector.offset_).sum())
    low, high = betabinom.interval(CERTAINTY, len(known), k, n + 1 - k)
    verdict = "over" if below > high else "under" if below < low else ""
    return {"rate": 100 * below / len(known), "verdict": verdict}


def row_of(detector: Any, sets: Sets) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return AUROC and FPR95 by outlier set, and the false alarms of both fits."""
    held_out, labels = sets.held_out
    on_train = fitted(detector, sets.train, held_out)
    known = on_train.score_samples(sets.known)
    cells = {}
    for name, features in sets.outliers.items():
        new = on_train.score_samples(features)
        y = np.repeat([0, -1], [len(known), len(new)])
        both = np.concatenate([known, new])
        cells[name] = {
            "auroc": 100 * skood.auroc(y, both),
            "fpr95": 100 * skood.fpr_at_tpr(y, both),
        }
    alarms = {"train": false_alarms(on_train, len(held_out), known)}
    on_held_out = fitted(detector, (held_out, labels), None)
    scores = on_held_out.score_samples(sets.known)
    alarms["held_out"] = false_alarms(on_held_out, len(held_out), scores)
    return cells, alarms


def fitted(detector: Any, rows: Labelled, threshold_data: Any) -> Any:
    """Return the detector fitted anew, without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return detector.fit(*rows, threshold_data=threshold_data)


def tables(network: Published, sets: Sets) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return one row a detector and outlier set, and one row a detector."""
    pairs, alarms = [], []
    for name, detector in detectors(network).items():
        start = time.process_time()
        try:
            cells, rates = row_of(detector, sets)
        except ValueError as error:
            print(f"{name}: refused, {error}", flush=True)
            continue
        pairs += [{"detector": name, "outliers": o, **c} for o, c in cells.items()]
        flat = {f"{fit} {k}": v for fit, r in rates.items() for k, v in r.items()}
        alarms.append({"detector": name, **flat})
        seconds = time.process_time() - start
        mean = np.mean([c["auroc"] for c in cells.values()])
        print(f"{name}: {seconds:.1f} s, mean AUROC {mean:.2f}, {flat}", flush=True)
    return pd.DataFrame(pairs), pd.DataFrame(alarms)


def group_of(outliers: str, inliers: str) -> str:
    """Return ``"near"``, ``"far"`` or ``"noise"``."""
    if outliers in NEAR[inliers]:
        return "near"
    return "noise" if outliers in NOISE else "far"


def collected(folder: Path, what: str) -> pd.DataFrame:
    """Return the tables of all networks that have been run, one under the other."""
    found = {n: folder / f"{n}_{what}.csv" for n in NETWORKS}
    read = {n: pd.read_csv(file) for n, file in found.items() if file.exists()}
    return pd.concat(read, names=["network"]).reset_index("network")


def summary(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return one row a detector: means over networks by group, and regrets.

    Means are over the sets of a group, then over the networks. The regret is the best
    AUROC of any detector on a pair less this one's.
    """
    inliers = pairs["network"].map({n: NETWORKS[n].inliers for n in NETWORKS})
    groups = [group_of(*p) for p in zip(pairs["outliers"], inliers, strict=True)]
    best = pairs.groupby(["network", "outliers"])["auroc"].transform("max")
    pairs = pairs.assign(group=groups, regret=best - pairs["auroc"])
    means = pairs.groupby(["detector", "network", "group"])[["auroc", "fpr95"]].mean()
    means = means.groupby(["detector", "group"]).mean().unstack()
    images = pairs[pairs["group"] != "noise"].groupby("detector")["regret"]
    columns = {
        f"{group} {name}": means[metric, group]
        for metric, name in (("auroc", "AUROC"), ("fpr95", "FPR95"))
        for group in ("near", "far", "noise")
    }
    regrets = {"mean regret": images.mean(), "worst regret": images.max()}
    table = pd.DataFrame(columns | regrets).round(1)
    refused = (
        pairs["network"].nunique() - pairs.groupby("detector")["network"].nunique()
    )
    table["refused"] = refused
    return table.sort_values("mean regret")


def alarm_table(alarms: pd.DataFrame) -> pd.DataFrame:
    """Return the rates of both fits by detector and network, out of bounds marked."""
    cells = {}
    for fit in ("train", "held_out"):
        told = alarms[f"{fit} verdict"].astype(object)
        marks = told.map(lambda v: f" **{v}**" if isinstance(v, str) else "")
        cells[fit] = alarms[f"{fit} rate"].map("{:.1f}".format) + marks
    shown = alarms.assign(cell=cells["train"] + " / " + cells["held_out"])
    return shown.pivot(index="detector", columns="network", values="cell")


def write_summary(folder: Path) -> None:
    """Write the tables that the documentation shows."""
    pairs, alarms = collected(folder, "pairs"), collected(folder, "alarms")
    summary(pairs).to_csv(folder.parent / "posthoc_quality.csv")
    alarm_table(alarms).to_csv(folder / "false_alarms.csv")
    for network, rows in pairs.groupby("network"):
        both = [
            rows.pivot(index="detector", columns="outliers", values=metric)
            for metric in ("auroc", "fpr95")
        ]
        cells = both[0].map("{:.1f}".format) + " / " + both[1].map("{:.1f}".format)
        order = both[0].mean(axis=1).sort_values(ascending=False).index
        cells.loc[order, rows["outliers"].unique()].to_csv(folder / f"{network}.csv")
    print(summary(pairs).to_string())


def main() -> None:
    """Extract, print the tables, and write them as CSV."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", choices=NETWORKS)
    parser.add_argument(
        "--summary", action="store_true", help="of all networks' tables"
    )
    parser.add_argument("--train-rows", type=int, default=4000)
    parser.add_argument("--held-out", type=int, default=1000)
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--cache", type=Path, help="folder where features are kept")
    parser.add_argument("--out", type=Path, help="folder for the tables as CSV")
    options = parser.parse_args()
    if options.summary:
        write_summary(options.out)
        return
    sizes = (options.train_rows, options.held_out, options.test_rows)
    network = NETWORKS[options.network]
    cache = options.cache and options.cache / options.network
    pairs, alarms = tables(network, extracted(network, sizes, cache))
    print(pairs.pivot(index="detector", columns="outliers", values="auroc").round(2))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        for what, table in (("pairs", pairs), ("alarms", alarms)):
            file = options.out / f"{options.network}_{what}.csv"
            table.to_csv(file, index=False, float_format="%.2f")


if __name__ == "__main__":
    main()
