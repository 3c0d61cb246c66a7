"""FeatureNorm by block, the block that NormRatio chooses, and its norm in other scores.

    python benchmarks/paper_feature_norm.py [--cache FOLDER] [--out FOLDER]

NormRatio is taken on each third of the training images and their jigsaw puzzles, which
shows how far the choice is chance. Candidates are all layers whose maps' norms are
extracted, more than the paper's blocks.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib.pyplot as plt
import pandas as pd
from networks import NETWORKS
from papers import options_of, save, scored, sets_of, spread, table_of, write
from papers_published import FEATURE_NORM
from posthoc_quality import Sets, group_of
from sklearn.pipeline import make_pipeline

import skood

PARTS = 3
GROUPS = ("near", "far", "noise")
DENSE = ("conv1", "trans1.relu", "trans1", "trans2.relu", "trans2", "relu")
CANDIDATES = {
    "resnet20": ("relu", *NETWORKS["resnet20"].norm_layers),
    "densenet_mahalanobis": DENSE,
    "densenet_dice": DENSE,
    "mnist_convnet": NETWORKS["mnist_convnet"].norm_layers,
}
TITLES = {
    "resnet20": "ResNet-20",
    "densenet_mahalanobis": "DenseNet (Mahalanobis)",
    "densenet_dice": "DenseNet (DICE)",
    "mnist_convnet": "MNIST, two convolutions",
}


def ratios(layers: Sequence[str], sets: Sets) -> pd.DataFrame:
    """Return NormRatio of each layer on each part of the training images."""
    train = sets.train[0]
    step = len(train) // PARTS
    parts = [train[i * step : (i + 1) * step] for i in range(PARTS)]
    found = [skood.FeatureNorm(layers).fit(part).norm_ratios_ for part in parts]
    return pd.DataFrame(found).T.loc[list(layers)]


def by_group(detector: Any, name: str, sets: Sets) -> dict[str, float]:
    """Return AUROC on textures and the means over near and far sets, and noise."""
    table = table_of(scored(detector, sets))
    groups = [group_of(outliers, NETWORKS[name].inliers) for outliers in table.index]
    means = table["auroc"].groupby(groups).mean()
    images = table[[group != "noise" for group in groups]]
    return {
        "textures": table.loc["textures", "auroc"],
        **{group: means[group] for group in GROUPS},
        "textures fpr95": table.loc["textures", "fpr95"],
        "mean auroc": images["auroc"].mean(),
        "mean fpr95": images["fpr95"].mean(),
    }


def blocks_table(name: str, sets: Sets) -> pd.DataFrame:
    """Return NormRatio and AUROC of each block; the chosen one is marked."""
    layers = CANDIDATES[name]
    found = ratios(layers, sets)
    chosen = skood.FeatureNorm(NETWORKS[name].norm_layers).fit(sets.train[0])
    rows = []
    for layer in layers:
        detector = skood.FeatureNorm(layer).fit(sets.train[0])
        merits = by_group(detector, name, sets)
        mark = "**" if layer == chosen.selected_layer_ else ""
        row: dict[str, Any] = {"network": TITLES[name], "block": f"{mark}{layer}{mark}"}
        row["NormRatio"] = spread(found.loc[layer], 2)
        row |= {g: merits[g] for g in ("textures", *GROUPS)}
        rows.append(row)
    return pd.DataFrame(rows)


def methods_table(name: str, sets: Sets) -> pd.DataFrame:
    """Return scores before and after the selected norm, and FeatureNorm itself."""
    norm_layers = NETWORKS[name].norm_layers
    rescaled = skood.NormRescaledHead(norm_layers)
    methods = {
        "MSP": skood.MSP(),
        "MSP, selected norm": make_pipeline(rescaled, skood.MSP()),
        "Energy": skood.Energy(),
        "Energy, selected norm": make_pipeline(rescaled, skood.Energy()),
        "FeatureNorm": skood.FeatureNorm(norm_layers),
    }
    rows = []
    for method, detector in methods.items():
        merits = by_group(detector.fit(*sets.train), name, sets)
        row: dict[str, Any] = {"network": TITLES[name], "method": method}
        row |= {f"textures {m}": merits[f"textures {m}"] for m in ("fpr95",)}
        row |= {"textures auroc": merits["textures"]}
        row |= {"mean fpr95": merits["mean fpr95"], "mean auroc": merits["mean auroc"]}
        rows.append(row)
    return pd.DataFrame(rows)


def beside_paper(ours: pd.DataFrame) -> pd.DataFrame:
    """Return the paper's rows and ours, network by network."""
    paper = FEATURE_NORM.reset_index()
    paper["network"] = paper["network"] + " (paper)"
    both = pd.concat([paper, ours])
    order = [
        "MSP",
        "MSP, selected norm",
        "Energy",
        "Energy, selected norm",
        "FeatureNorm",
    ]
    both["method"] = pd.Categorical(both["method"], order)
    names = list(both["network"].unique())
    both["network"] = pd.Categorical(both["network"], names)
    return both.sort_values(["network", "method"]).set_index("network")


def draw(table: pd.DataFrame, file: Path) -> None:
    """Draw NormRatio as bars and AUROC as lines, a panel a network."""
    names = table["network"].unique()
    figure, axes = plt.subplots(2, 2, figsize=(7.2, 5.2), layout="tight")
    for ax, name in zip(axes.flat, names, strict=True):
        rows = table[table["network"] == name]
        places = range(len(rows))
        means = [float(cell.split()[0]) for cell in rows["NormRatio"]]
        marked = rows["block"].str.startswith("**")
        colours = ["#0072B2" if mark else "#9ecae1" for mark in marked]
        ax.bar(places, means, color=colours)
        ax.set_xticks(places, rows["block"].str.strip("*"), rotation=60, size=7)
        ax.set(title=name, ylim=(0.6, None))
        lines = ax.twinx()
        for group, style in zip(GROUPS, ("o-", "s--", "^:"), strict=True):
            lines.plot(
                places, rows[group], style, ms=3, lw=1, color="black", label=group
            )
        lines.axhline(50, lw=0.5, color="grey")
        lines.set_ylim(0, 105)
    axes[0, 0].set_ylabel("NormRatio (bars)")
    axes[1, 0].set_ylabel("NormRatio (bars)")
    lines.set_ylabel("AUROC (lines)")
    lines.legend(fontsize=7)
    save(figure, file)


def main() -> None:
    """Print the tables, write them, and draw."""
    options = options_of(__doc__, tuple(TITLES))
    blocks, methods = [], []
    for name in options.only:
        sets = sets_of(name, options)
        blocks.append(blocks_table(name, sets))
        methods.append(methods_table(name, sets))
    by_block = pd.concat(blocks)
    write(by_block.set_index("network"), options.out / "blocks.csv")
    write(beside_paper(pd.concat(methods)), options.out / "methods.csv")
    if len(options.only) == len(TITLES):
        draw(by_block, options.out / "blocks.png")


if __name__ == "__main__":
    main()
