"""What the scripts of the papers' tables share: features, figures of merit, output."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import data
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from detection import cached
from matplotlib.figure import Figure
from networks import NETWORKS
from numpy.typing import NDArray
from posthoc_quality import Sets, extracted, transformer_of
from sklearn.metrics import average_precision_score

import skood

Scores = NDArray[np.float64]

TEXTURES = 1200
"""All of them: they lie class by class, so that the first 1,000 lack some classes."""

RATIOS = {"textures": 0.564}
"""Outliers for each known row where papers test 10,000 a set: there are 5,640."""

mpl.rcParams.update({"font.size": 9, "savefig.dpi": 120})


def sets_of(name: str, options: argparse.Namespace) -> Sets:
    """Return the features of a network's sets, from the cache if it has them."""
    network = NETWORKS[name]
    cache = options.cache and options.cache / name
    sizes = (options.train_rows, options.held_out, options.test_rows)
    sets = extracted(network, sizes, cache)
    if options.test_rows >= TEXTURES:
        return sets
    transformer = transformer_of(network)
    transformer.fit(data.train_set(network.inliers, 2)[0])
    images, _ = data.test_set("textures", network.inliers, TEXTURES)
    textures = cached(cache, "textures", images, transformer.transform)
    return sets._replace(outliers={**sets.outliers, "textures": textures})


def scored(detector: Any, sets: Sets) -> dict[str, Scores]:
    """Return a fitted detector's scores by set, the in-distribution as ``"known"``."""
    both = {"known": sets.known, **sets.outliers}
    return {name: detector.score_samples(rows) for name, rows in both.items()}


def merits(known: Scores, new: Scores, ratio: float = 1.0) -> dict[str, float]:
    """Return figures of merit in per cent.

    ``fpr95`` has the in-distribution positive; ``tnr95`` and ``aupr`` have the
    outliers positive. ``aupr`` counts ``ratio`` outliers for each known row.
    """
    y = np.repeat([0, -1], [len(known), len(new)])
    both = np.concatenate([known, new])
    weights = np.repeat([1 / len(known), ratio / len(new)], [len(known), len(new)])
    found = {
        "auroc": skood.auroc(y, both),
        "fpr95": skood.fpr_at_tpr(y, both),
        "tnr95": 1 - skood.fpr_at_tpr(y, both, pos_label="ood"),
        "aupr": average_precision_score(y == -1, -both, sample_weight=weights),
    }
    return {name: 100 * float(value) for name, value in found.items()}


def table_of(scores: dict[str, Scores]) -> pd.DataFrame:
    """Return the figures of merit by outlier set, from one detector's scores."""
    known = scores["known"]
    rows = {
        name: merits(known, new, RATIOS.get(name, 1.0))
        for name, new in scores.items()
        if name != "known"
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def spread(values: Iterable[float], digits: int = 1) -> str:
    """Return the mean of some runs and, of several, their standard deviation."""
    numbers = np.array(list(values), dtype=float)
    if len(numbers) == 1:
        return f"{numbers[0]:.{digits}f}"
    return f"{numbers.mean():.{digits}f} ± {numbers.std(ddof=1):.{digits}f}"


def options_of(description: str, parts: Sequence[str]) -> Any:
    """Return the options that the scripts have in common, ``only`` some parts."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--train-rows", type=int, default=4000)
    parser.add_argument("--held-out", type=int, default=1000)
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cache", type=Path, help="folder where features are kept")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for tables")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    return options


def write(table: pd.DataFrame, file: Path, **how: Any) -> None:
    """Write a table for the documentation, and print it."""
    table.to_csv(file, **{"float_format": "%.1f", **how})
    print(
        f"\n{file.stem}\n\n{table.to_string(float_format='{:.2f}'.format)}", flush=True
    )


def save(figure: Figure, file: Path) -> None:
    """Save a picture for the documentation."""
    figure.savefig(file, metadata={"Software": None})
    plt.close(figure)
