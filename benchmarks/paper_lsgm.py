"""LSGM's Table 1 and its ablations, on published networks.

    python benchmarks/paper_lsgm.py [--cache FOLDER] [--out FOLDER]

Features are those of ``posthoc_quality.py``: 4,000 training images, 2,000 test images
of CIFAR-10 and 1,000 of each set of outliers (all 1,200 textures). Seeds draw the
k-means starts. Times are the processor's on one thread.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from networks import NETWORKS
from papers import options_of, save, scored, sets_of, spread, table_of, write
from papers_published import LSGM_DENSENET, LSGM_RESNET
from posthoc_quality import Sets

import skood
from skood import LSGM

DENSENET = "densenet_mahalanobis"
METRICS = {"tnr95": "TNR95", "auroc": "AUROC", "aupr": "AUPR"}
COMPONENTS = (5, 10, 25, 50, 100, 200)
PRIORS = {None: "maximum likelihood", "dirichlet_process": "Dirichlet process"}
TIMED = (50, 100, 150, 200)
SHOWN = ("textures", "tiny_imagenet", "cifar100", "notmnist", "blob")
"""Sets on which not everything is 100 %, one of each kind."""


def fitted(detector: Any, sets: Sets, rows: int | None = None) -> Any:
    """Return the detector fitted on training rows, its threshold from held-out ones."""
    features, labels = sets.train
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return detector.fit(
            features[:rows], labels[:rows], threshold_data=sets.held_out[0]
        )


def over_seeds(
    make: Callable[[int], Any], sets: Sets, seeds: int, rows: int | None = None
) -> dict[str, pd.DataFrame]:
    """Return each figure of merit as a table of outlier sets by seeds."""
    runs = [
        table_of(scored(fitted(make(seed), sets, rows), sets)) for seed in range(seeds)
    ]
    return {m: pd.concat([run[m] for run in runs], axis=1) for m in runs[0]}


def lsgm(layers: Sequence[str], **parameters: Any) -> Callable[[int], LSGM]:
    """Return what makes the detector of a seed."""
    return lambda seed: LSGM(layers=layers, random_state=seed, **parameters)


def first_table(
    name: str, sets: Sets, printed: pd.DataFrame, seeds: int
) -> pd.DataFrame:
    """Return the paper's Table 1 beside what is measured."""
    network = NETWORKS[name]
    methods: dict[tuple[str, str], Any] = {
        ("MSP", "MSP"): (lambda _: skood.MSP(), 1),
        ("Mahalanobis", "Mahalanobis"): (lambda _: skood.Mahalanobis("penultimate"), 1),
        ("LSGM", "LSGM, the code's layers"): (lsgm(network.lsgm_layers), seeds),
        ("LSGM", "LSGM, all blocks"): (lsgm(network.blocks), seeds),
    }
    rows = []
    for (method, title), (make, n) in methods.items():
        ours = over_seeds(make, sets, n)
        for outliers in printed.loc[method].index:
            row: dict[str, Any] = {"outliers": outliers, "method": title}
            for metric, heading in METRICS.items():
                row[f"{heading} paper"] = printed.loc[(method, outliers), metric]
                row[f"{heading} here"] = spread(ours[metric].loc[outliers])
            mean = ours["auroc"].loc[outliers].mean()
            row["AUROC gap"] = mean - printed.loc[(method, outliers), "auroc"]
            rows.append(row)
    table = pd.DataFrame(rows)
    order = list(printed.loc["LSGM"].index)
    table = table.sort_values(
        "outliers", key=lambda c: c.map(order.index), kind="stable"
    )
    return table.set_index(["outliers", "method"])


def components(sets: Sets, layers: Sequence[str], seeds: int) -> pd.DataFrame:
    """Return AUROC and what is left of the components, by their number and prior."""
    rows = []
    for prior, title in PRIORS.items():
        for k in COMPONENTS:
            make = lsgm(layers, n_components=k, prior=prior)
            ours = over_seeds(make, sets, seeds)["auroc"]
            mixtures = fitted(make(0), sets).mixtures_.values()
            used = [int((m.weights * len(sets.train[0]) >= 1).sum()) for m in mixtures]
            row = {
                "mixture": title,
                "components": k,
                "in use": " and ".join(map(str, used)),
            }
            rows.append(row | {name: spread(ours.loc[name]) for name in SHOWN})
    return pd.DataFrame(rows).set_index("mixture")


def row_counts(sets: Sets, layers: Sequence[str], seeds: int) -> pd.DataFrame:
    """Return AUROC by the number of training rows, with 25 components."""
    rows = {}
    for n in (500, 1000, 2000, len(sets.train[0])):
        ours = over_seeds(lsgm(layers, n_components=25), sets, seeds, n)["auroc"]
        rows[n] = {name: spread(ours.loc[name]) for name in SHOWN}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("training rows")


def layer_sets(blocks: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield each block alone, then growing runs of them that end with the last."""
    yield from ((block,) for block in blocks)
    yield from (tuple(blocks[-m:]) for m in range(2, len(blocks) + 1))


def layers_table(name: str, sets: Sets, seeds: int) -> pd.DataFrame:
    """Return AUROC of each block's mixture alone, and of several in series."""
    network = NETWORKS[name]
    chosen = list(dict.fromkeys([*layer_sets(network.blocks), network.lsgm_layers]))
    rows = {}
    for layers in chosen:
        ours = over_seeds(lsgm(layers), sets, seeds)["auroc"]
        row = {outliers: spread(ours.loc[outliers]) for outliers in SHOWN}
        rows[", ".join(layers)] = row | {"mean of all ten": spread(ours.mean())}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("layers")


def seconds(stage: Callable[[], Any]) -> float:
    """Return the processor's seconds."""
    start = process_time()
    stage()
    return process_time() - start


def least_seconds(stages: Sequence[Callable[[], Any]], rounds: int) -> Sequence[float]:
    """Return each stage's least seconds of some rounds, which take turns."""
    taken = [[seconds(stage) for stage in stages] for _ in range(rounds)]
    return [min(column) for column in zip(*taken, strict=True)]


def times(sets: Sets, blocks: Sequence[str]) -> pd.DataFrame:
    """Return times against components with three layers, and against layers.

    All fits take equally many passes, so that the figures are those of a pass.
    """
    sizes = [*((3, k) for k in TIMED), (1, 50), (2, 50), (4, 50)]
    passes = {"max_iter": 10, "tol": 0}
    detectors = [LSGM(k, layers=blocks[-m:], **passes) for m, k in sizes]
    fits = least_seconds([partial(fitted, d, sets) for d in detectors], 3)
    scoring = [partial(d.score_samples, sets.known) for d in detectors]
    scores = 1e6 * np.array(least_seconds(scoring, 15)) / len(sets.known)
    table = pd.DataFrame(sizes, columns=["layers", "components"])
    table = table.assign(**{"fit, 10 passes (s)": fits, "score (us a row)": scores})
    return table.set_index("layers")


def draw_components(table: pd.DataFrame, file: Path) -> None:
    """Draw AUROC against the number of components."""
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.8), sharey=True, layout="tight")
    for ax, title in zip(axes, PRIORS.values(), strict=True):
        rows = table.loc[title]
        for name in SHOWN:
            means = [float(cell.split()[0]) for cell in rows[name]]
            ax.plot(rows["components"], means, "o-", ms=3, label=name.replace("_", " "))
        ax.set(xscale="log", xlabel="components a layer", title=title)
        ax.set_xticks(COMPONENTS, map(str, COMPONENTS))
        ax.minorticks_off()
    axes[0].set_ylabel("AUROC, per cent")
    axes[1].legend(fontsize=7, loc="center right")
    save(figure, file)


def draw_times(table: pd.DataFrame, file: Path) -> None:
    """Draw a row's time against components and against layers."""
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.6), layout="tight")
    column = "score (us a row)"
    three = table.loc[3].sort_values("components")
    axes[0].plot(three["components"], three[column], "o-")
    axes[0].set(xlabel="components a layer, three layers", ylabel="microseconds a row")
    fifty = table[table["components"] == 50].sort_index()
    axes[1].plot(fifty.index, fifty[column], "o-")
    axes[1].set(xlabel="layers, 50 components", xticks=fifty.index)
    for ax in axes:
        ax.set_ylim(bottom=0)
    save(figure, file)


def densenet_parts(only: Sequence[str], sets: Sets, seeds: int, out: Path) -> None:
    """Write the tables of the paper's own network."""
    network = NETWORKS[DENSENET]
    if "densenet" in only:
        write(first_table(DENSENET, sets, LSGM_DENSENET, seeds), out / "densenet.csv")
    if "layers" in only:
        write(layers_table(DENSENET, sets, seeds), out / "layers.csv")
    if "rows" in only:
        write(row_counts(sets, network.lsgm_layers, seeds), out / "rows.csv")
    if "components" in only:
        by_number = components(sets, network.lsgm_layers, seeds)
        write(by_number, out / "components.csv")
        draw_components(by_number, out / "components.png")
    if "times" in only:
        taken = times(sets, network.blocks)
        write(taken, out / "times.csv", float_format="%.2f")
        draw_times(taken, out / "times.png")


def main() -> None:
    """Print the tables, write them, and draw."""
    parts = ("densenet", "layers", "rows", "components", "times", "resnet")
    options = options_of(__doc__, parts)
    if set(options.only) - {"resnet"}:
        sets = sets_of(DENSENET, options)
        densenet_parts(options.only, sets, options.seeds, options.out)
    if "resnet" in options.only:
        sets = sets_of("resnet20", options)
        table = first_table("resnet20", sets, LSGM_RESNET, options.seeds)
        write(table, options.out / "resnet.csv")


if __name__ == "__main__":
    main()
