"""Tables of the trained detectors, from the rows that ``amp.py`` has measured.

    python benchmarks/amp.py --ablation --out rows.csv
    python benchmarks/paper_trained.py --rows rows.csv [--out FOLDER]

AMP's tables go to ``amp`` below the folder, those of the energy regularisation to
``layer_energy``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from papers import spread, write
from papers_published import AMP_CORRUPTION, AMP_ENERGY_FPR95

SOURCES = ("mnist", "notmnist", "noise")
TRAININGS = ("cross-entropy", "regularised, pseudo", "regularised, notmnist*")
PARTS = ("none", "jitter, blur", "flip, grey", "crop", "all but crop", "all")


def cells(rows: pd.DataFrame, figure: str) -> dict[str, str]:
    """Return accuracy and a figure of each source, over the seeds."""
    found = {"accuracy": spread(rows["accuracy"])} if len(rows) else {}
    return found | {s: spread(rows[f"{s} {figure}"]) for s in SOURCES if len(rows)}


def amp_title(part: str, every: int, anchors: int) -> str:
    """Return how ``amp.py`` names a run."""
    often = "" if part == "none" else f", 1 batch in {every}"
    return f"AMP, corruption: {part}{often}, {anchors} anchors"


def corruptions(rows: pd.DataFrame) -> pd.DataFrame:
    """Return FPR95 by part of the corruption with five anchors, the paper's first."""
    energy = rows[rows["method"] == "cross-entropy: Energy"]
    out = [{"training": "cross-entropy, Energy", "paper": AMP_ENERGY_FPR95}]
    out[0] |= cells(energy, "fpr95")
    for part, every in [*((part, 1) for part in PARTS), ("all", 5)]:
        often = "" if every == 1 else f", 1 batch in {every}"
        row: dict[str, Any] = {"training": f"AMP, {part}{often}"}
        if part in AMP_CORRUPTION.index and every == 1:
            row["paper"] = AMP_CORRUPTION.loc[part, "5"]
        out.append(
            row | cells(rows[rows["method"] == amp_title(part, every, 5)], "fpr95")
        )
    return pd.DataFrame(out).set_index("training")


def anchors(rows: pd.DataFrame) -> pd.DataFrame:
    """Return FPR95 by number of anchors, without corruption and with all of it."""
    out = []
    for part in ("none", "all"):
        for k in map(int, AMP_CORRUPTION.columns):
            row: dict[str, Any] = {"corruption": part, "anchors": k}
            row["paper"] = AMP_CORRUPTION.loc[part, str(k)]
            found = cells(rows[rows["method"] == amp_title(part, 1, k)], "fpr95")
            out.append(row | {s: found[s] for s in SOURCES})
    return pd.DataFrame(out).set_index("corruption")


def methods(rows: pd.DataFrame, wanted: str) -> pd.DataFrame:
    """Return accuracy and AUROC of the methods whose name a pattern matches."""
    chosen = rows[rows["method"].map(lambda name: bool(re.search(wanted, name)))]
    names = chosen["method"].unique()
    table = {name: cells(chosen[chosen["method"] == name], "auroc") for name in names}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("method")


def layers(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the two-sided AUROC of each layer's energy alone, by training."""
    out = []
    for training in TRAININGS:
        named = rows["method"].str.extract(
            rf"^{re.escape(training)}: LayerEnergy, (.*) alone$", expand=False
        )
        for layer in named.dropna().unique():
            found = cells(rows[named == layer], "auroc")
            found.pop("accuracy")
            out.append({"training": training, "layer": layer, **found})
    return pd.DataFrame(out).set_index("training")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args(arguments)
    rows = pd.read_csv(options.rows)
    amp, energy = (options.out / name for name in ("amp", "layer_energy"))
    for folder in (amp, energy):
        folder.mkdir(parents=True, exist_ok=True)
    write(corruptions(rows), amp / "corruptions.csv")
    write(anchors(rows), amp / "anchors.csv")
    scores = r"^cross-entropy: (?!LayerEnergy)|^AMP.*[^0-9]5 anchors"
    write(methods(rows, scores), amp / "methods.csv")
    energies = r"^(cross|regularised).*(Energy$|LayerEnergy(?!.* alone)|: MSP)"
    write(methods(rows, energies), energy / "training.csv")
    write(layers(rows), energy / "training_layers.csv")


if __name__ == "__main__":
    main()
