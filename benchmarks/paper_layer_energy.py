"""Energies of intermediate layers: which layers tell, in which direction, and together.

    python benchmarks/paper_layer_energy.py [--cache FOLDER] [--out FOLDER]

What training against outliers makes of them is measured by ``amp.py``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from detection import with_outliers
from networks import NETWORKS
from paper_feature_norm import GROUPS, TITLES
from papers import Scores, options_of, save, scored, sets_of, table_of, write
from papers_published import LAYER_ENERGY
from posthoc_quality import Sets, group_of

import skood
from skood import LayerEnergy, LayerFeatures
from skood.numerics.logsumexp import log_sum_exp

WAYS = ("low energy is known", "either way", "two-sided")


def energies(features: LayerFeatures, layer: str) -> Scores:
    """Return minus the energy of a layer, which is high for known rows' logits."""
    if layer == "logits":
        return np.asarray(log_sum_exp(features.block("logits").astype(np.float64)))
    return features.block(layer, "lse").astype(np.float64).ravel()


def layer_table(name: str, layer: str, sets: Sets) -> pd.DataFrame:
    """Return AUROC by outlier set, in three ways to read one layer's energy.

    "Either way" turns an AUROC below 50 around, by the outliers that it is for.
    """
    both = {"known": sets.known, **sets.outliers}
    plain = table_of({n: energies(rows, layer) for n, rows in both.items()})["auroc"]
    detector = LayerEnergy(layer).fit(sets.train[0], threshold_data=sets.held_out[0])
    sided = table_of(scored(detector, sets))["auroc"]
    either = plain.where(plain > 50, 100 - plain)
    return pd.concat([plain, either, sided], axis=1, keys=WAYS)


def groups_of(name: str, outliers: pd.Index) -> list[str]:
    """Return the group of each set of outliers."""
    return [group_of(o, NETWORKS[name].inliers) for o in outliers]


def by_layer(name: str, sets: Sets) -> pd.DataFrame:
    """Return each layer's AUROC over near and far sets and noise, in three ways."""
    rows = []
    for layer in (*NETWORKS[name].blocks, "logits"):
        table = layer_table(name, layer, sets)
        means = table.groupby(groups_of(name, table.index)).mean()
        row: dict[str, Any] = {"network": TITLES[name], "layer": layer}
        row |= {f"{w}: {g}": means.loc[g, w] for w in WAYS for g in GROUPS}
        rows.append(row)
    return pd.DataFrame(rows)


def together(name: str, sets: Sets) -> pd.DataFrame:
    """Return the aggregated energies beside that of the logits."""
    blocks = NETWORKS[name].blocks
    layers = [*blocks, "logits"]
    puzzled = with_outliers(sets.train, "jigsaw", {})
    methods: dict[str, tuple[Any, Any]] = {
        "Energy of the logits": (skood.Energy(), sets.train),
        "z-scores, blocks": (LayerEnergy(blocks), sets.train),
        "z-scores, blocks and logits": (LayerEnergy(layers), sets.train),
        "Mahalanobis, blocks and logits": (
            LayerEnergy(layers, aggregation="mahalanobis"),
            sets.train,
        ),
        "signed by jigsaws, blocks and logits": (
            LayerEnergy(layers, aggregation="signed"),
            puzzled,
        ),
    }
    rows = []
    for title, (detector, train) in methods.items():
        fitted = detector.fit(*train, threshold_data=sets.held_out[0])
        table = table_of(scored(fitted, sets))
        means = table["auroc"].groupby(groups_of(name, table.index)).mean()
        row: dict[str, Any] = {"network": TITLES[name], "energies": title}
        rows.append(row | {group: means[group] for group in GROUPS})
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, file: Path) -> None:
    """Draw AUROC by layer: one-sided as lines, two-sided dashed, a panel a network."""
    figure, axes = plt.subplots(2, 2, figsize=(7.2, 5.0), sharey=True, layout="tight")
    colours = {"near": "#0072B2", "far": "#D55E00", "noise": "#888888"}
    for ax, name in zip(axes.flat, TITLES.values(), strict=True):
        rows = table[table["network"] == name]
        for group, colour in colours.items():
            for way, style in ((WAYS[0], "o-"), (WAYS[2], "s--")):
                label = f"{group}, {way}"
                values = rows[f"{way}: {group}"]
                ax.plot(
                    range(len(rows)), values, style, color=colour, ms=3, label=label
                )
        ax.axhline(50, lw=0.5, color="black")
        ax.set_xticks(range(len(rows)), rows["layer"], size=7)
        ax.set(title=name, ylim=(0, 103))
    for ax in axes[:, 0]:
        ax.set_ylabel("AUROC, per cent")
    axes[0, 0].legend(fontsize=6, loc="lower right")
    save(figure, file)


def main() -> None:
    """Print the tables, write them, and draw."""
    options = options_of(__doc__, tuple(TITLES))
    layers, all_of_them = [], []
    for name in options.only:
        sets = sets_of(name, options)
        layers.append(by_layer(name, sets))
        all_of_them.append(together(name, sets))
    table = pd.concat(layers)
    write(table.set_index("network"), options.out / "layers.csv")
    write(pd.concat(all_of_them).set_index("network"), options.out / "together.csv")
    write(LAYER_ENERGY, options.out / "paper.csv", float_format="%.0f")
    if len(options.only) == len(TITLES):
        draw(table, options.out / "layers.png")


if __name__ == "__main__":
    main()
