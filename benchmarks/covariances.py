"""Covariances of a published network's layers: which estimate Mahalanobis needs.

    python benchmarks/covariances.py [--cache FOLDER] [--csv covariances.csv]

DenseNet-BC-100 on CIFAR-10, float32 features as extracted: AUROC in per cent against
near images and textures, by the penultimate layer alone, by the four blocks, and by
both as one vector; and the share of known images that is flagged where 5 % are asked.
Fitted on training images, with the threshold on images held out of the training.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from harness import write_table
from networks import NETWORKS
from posthoc_quality import Sets, extracted, fitted

import skood

NETWORK = "densenet_mahalanobis"
OUTLIERS = ("cifar100", "tiny_imagenet", "textures")
SIZES = 4000, 1000, 1000
COVARIANCES = ("empirical", "oas", "ledoit_wolf")


def detectors() -> dict[str, dict[str, Any]]:
    """Return the parameters of each row by its name."""
    blocks = NETWORKS[NETWORK].blocks
    layers = {
        "penultimate": {"layers": "penultimate"},
        "four blocks": {"layers": blocks},
        "four blocks, joint": {"layers": blocks, "joint": True},
    }
    return {
        f"{name}, {covariance}": {**chosen, "covariance": covariance}
        for name, chosen in layers.items()
        for covariance in COVARIANCES
    }


def row_of(parameters: dict[str, Any], sets: Sets) -> dict[str, float]:
    """Return the AUROC by outlier set, and the false alarms."""
    mahalanobis = skood.Mahalanobis(statistic="avg", **parameters)
    detector = fitted(mahalanobis, sets.train, sets.held_out[0])
    known = detector.score_samples(sets.known)
    row = {}
    for name in OUTLIERS:
        new = detector.score_samples(sets.outliers[name])
        y = np.repeat([0, -1], [len(known), len(new)])
        row[name] = 100 * skood.auroc(y, np.concatenate([known, new]))
    return row | {"flagged, %": 100 * float(np.mean(known < detector.offset_))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, help="folder where features are kept")
    parser.add_argument("--csv", type=Path, help="a file for the table")
    chosen = parser.parse_args()
    cache = chosen.cache and chosen.cache / NETWORK
    sets = extracted(NETWORKS[NETWORK], SIZES, cache)
    rows = {name: row_of(parameters, sets) for name, parameters in detectors().items()}
    table = pd.DataFrame.from_dict(rows, orient="index")
    write_table(table, chosen.csv, index="layers, covariance")


if __name__ == "__main__":
    main()
