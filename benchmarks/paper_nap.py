"""NAP's automatic configuration over validation sets, and its table of votes.

    python benchmarks/paper_nap.py [--cache FOLDER] [--out FOLDER]

As in the paper, each set of outliers configures the detector once (thresholds, layers,
pooling, percentiles, against known images that the network was not trained on) and all
other sets test it, as many outliers as known images. Nothing is drawn by chance.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from nap_patterns import Patterns
from networks import NETWORKS
from papers import options_of, save, sets_of, write
from papers_published import NAP_VOTING
from scipy.stats import spearmanr

from skood.detectors.layers.nap.auto import STATISTICS, best_threshold

VOTES = (3, 5, 7, 9)
CRITERIA = ("accuracy", "threshold")
SETS = {
    "cifar10": (
        *("mnist", "fashion_mnist", "notmnist", "cifar100", "tiny_imagenet"),
        *("uniform", "gaussian"),
    ),
    "mnist": (
        *("fashion_mnist", "notmnist", "cifar10", "cifar100", "tiny_imagenet"),
        *("uniform", "gaussian"),
    ),
}
"""Those that the paper pairs with the network's own set."""


def over_pairs(
    patterns: Patterns, names: Sequence[str], known: str, criterion: str, votes: int
) -> pd.DataFrame:
    """Return the tests of every ordered pair of validation and test set."""
    rows = []
    for validation in names:
        chosen = patterns.searched(known, validation, criterion, votes)
        for test in names:
            if test == validation:
                continue
            found = patterns.tested(chosen, test)
            rows.append({"validation": validation, "test": test, **found})
    return pd.DataFrame(rows)


def voting_table(patterns: Patterns, names: Sequence[str]) -> pd.DataFrame:
    """Return the paper's table of votes beside that of a network with nine layers."""
    rows = []
    for criterion in CRITERIA:
        for votes in VOTES:
            row: dict[str, Any] = {"criterion": criterion, "votes": votes}
            pairs = over_pairs(patterns, names, "held_out", criterion, votes)
            for figure in ("auroc", "summed", "voting"):
                for network in ("VGG", "ResNet"):
                    paper = NAP_VOTING.loc[(network, criterion, votes), figure]
                    row[f"{figure}, paper's {network}"] = paper
                row[f"{figure}, here"] = pairs[figure].mean()
            rows.append(row)
    return pd.DataFrame(rows).set_index("criterion")


def ways(patterns: Patterns, names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return the tests of the search and of what needs no outliers."""
    found = {
        f"{statistic}, 50 %, no search": pd.DataFrame(
            [
                {"test": t, **patterns.tested(patterns.fixed(statistic), t)}
                for t in names
            ]
        )
        for statistic in STATISTICS
    }
    for known, title in (("held_out", "held-out rows"), ("train", "training rows")):
        for criterion in CRITERIA:
            pairs = over_pairs(patterns, names, known, criterion, VOTES[-1])
            found[f"search by {criterion}, {title}"] = pairs
    return found


def ways_table(network: str, found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return means over the pairs, in all and over near and far outliers."""
    rows = []
    for title, pairs in found.items():
        near = pairs["test"].isin(["cifar100", "tiny_imagenet"])
        if network == "mnist_convnet":
            near = pairs["test"].isin(["fashion_mnist", "notmnist"])
        row = {"network": network, "configuration": title}
        row |= {"AUROC": pairs["auroc"].mean()}
        row |= {
            "near": pairs[near]["auroc"].mean(),
            "far": pairs[~near]["auroc"].mean(),
        }
        row |= {
            f"accuracy, {f}": pairs[f].mean() for f in ("summed", "voting", "at 5 %")
        }
        row["false alarms, summed"] = pairs["false alarms, summed"].mean()
        rows.append(row)
    return pd.DataFrame(rows)


def pairs_table(pairs: pd.DataFrame, fixed: pd.DataFrame) -> pd.DataFrame:
    """Return AUROC by validation set (rows) and test set (columns)."""
    cells = pairs.pivot(index="validation", columns="test", values="auroc")
    order = list(fixed["test"])
    cells = cells.loc[order, order]
    cells.loc["none: avg, 50 %"] = fixed.set_index("test")["auroc"]
    return cells.assign(mean=cells.mean(axis=1))


def choices_table(patterns: Patterns, names: Sequence[str]) -> pd.DataFrame:
    """Return pooling, percentile and validation accuracy by set and layer."""
    rows = {}
    for validation in names:
        chosen = patterns.searched("held_out", validation, "accuracy", VOTES[-1])
        rows[validation] = {
            c.layer: f"{c.statistic} {c.percentile:.0f} ({100 * c.accuracy:.0f})"
            for c in chosen
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("validation")


def single_layers(patterns: Patterns, names: Sequence[str]) -> pd.DataFrame:
    """Return accuracies of each configuration alone on validation and test sets."""
    rows = []
    for configuration, found in patterns.distances.items():
        held_out, known = found["held_out"], found["known"]
        limits = {n: best_threshold(held_out, found[n]) for n in names}
        tests = [
            np.mean(known <= limits[v][0]) / 2 + np.mean(found[t] > limits[v][0]) / 2
            for v, t in permutations(names, 2)
        ]
        validation = np.mean([accuracy for _, accuracy in limits.values()])
        rows.append((*configuration, 100 * validation, 100 * np.mean(tests)))
    columns = ["layer", "statistic", "percentile", "validation", "test"]
    return pd.DataFrame(rows, columns=columns)


def draw_single_layers(table: pd.DataFrame, file: Path) -> None:
    """Draw the mean test accuracy of each layer, percentile and pooling alone."""
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.9), sharey=True, layout="tight")
    for ax, statistic in zip(axes, STATISTICS, strict=True):
        rows = table[table["statistic"] == statistic]
        cells = rows.pivot(index="percentile", columns="layer", values="test")
        cells = cells[rows["layer"].unique()]
        ax.imshow(cells, vmin=50, vmax=85, cmap="viridis", aspect="auto")
        for (i, j), value in np.ndenumerate(cells.to_numpy()):
            ink = "black" if value > 70 else "white"
            ax.text(j, i, f"{value:.0f}", ha="center", va="center", color=ink, size=8)
        ax.set_xticks(range(len(cells.columns)), cells.columns, rotation=60, size=7)
        ax.set_yticks(range(len(cells)), [f"{p:.0f} %" for p in cells.index])
        ax.set_title(f"pooled by {statistic}")
    save(figure, file)


def measured(options: Any) -> Iterator[tuple[str, Patterns, Sequence[str]]]:
    """Yield each network's distances, and the names of its outliers."""
    for name in options.only:
        network = NETWORKS[name]
        patterns = Patterns.of(sets_of(name, options), network.activations)
        yield name, patterns, SETS[network.inliers]


def resnet_tables(
    patterns: Patterns,
    names: Sequence[str],
    found: Mapping[str, pd.DataFrame],
    out: Path,
) -> None:
    """Write what only a network of nine layers can show."""
    write(voting_table(patterns, names), out / "voting.csv")
    pairs = found["search by accuracy, held-out rows"]
    fixed = found["avg, 50 %, no search"]
    write(pairs_table(pairs, fixed), out / "pairs.csv")
    write(choices_table(patterns, names), out / "choices.csv")
    single = single_layers(patterns, names)
    draw_single_layers(single, out / "single.png")
    rank = spearmanr(single["validation"], single["test"]).statistic
    print(f"rank correlation of validation and test accuracy: {rank:.2f}")


def main() -> None:
    """Print the tables, write them, and draw."""
    options = options_of(__doc__, tuple(NETWORKS))
    every = []
    for name, patterns, names in measured(options):
        found = ways(patterns, names)
        every.append(ways_table(name, found))
        if name == "resnet20":
            resnet_tables(patterns, names, found, options.out)
    write(pd.concat(every).set_index("network"), options.out / "networks.csv")


if __name__ == "__main__":
    main()
