"""AutoOOD on a single layer without labels: embeddings of ADBench.

    python benchmarks/auto_tables.py [--seeds 3]

Detectors are fitted on 70 % of the normal rows, drawn by the seed; the others are the
in-distribution side. The files are read from the folder SKOOD_DATA.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import data
import numpy as np
import pandas as pd

import skood

DETECTORS = {
    "KNN": skood.KNN(),
    "KNN, k = 1": skood.KNN(1),
    "Mahalanobis": skood.Mahalanobis(),
    "Mahalanobis, unit length": skood.Mahalanobis(normalize=True),
    "AutoOOD": skood.AutoOOD(),
    "AutoOOD, lda": skood.AutoOOD(combine="lda"),
    "AutoOOD, fisher": skood.AutoOOD(combine="fisher"),
}


def main() -> None:
    """Print AUROC in per cent, the mean over seeds, and write it as CSV."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="the table's file")
    options = parser.parse_args()
    seeds = options.seeds
    table = {}
    for path in sorted((data.data_folder() / "adbench").glob("*.npz")):
        file = np.load(path)
        X, odd = file["X"].astype(float), file["y"] == 1
        by_seed = [_areas(X, odd, seed) for seed in range(seeds)]
        table[path.stem] = pd.DataFrame(by_seed).mean()
    areas = pd.DataFrame(table).round(1)
    print(areas.to_string())
    if options.out:
        areas.to_csv(options.out, index_label="AUROC")


def _areas(X: np.ndarray, odd: np.ndarray, seed: int) -> dict[str, float]:
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(~odd))
    fitted = normal[: int(0.7 * len(normal))]
    tested = np.concatenate([normal[len(fitted) :], np.flatnonzero(odd)])
    y = np.where(odd[tested], -1, 0)
    return {
        name: 100 * skood.auroc(y, detector.fit(X[fitted]).score_samples(X[tested]))
        for name, detector in DETECTORS.items()
    }


if __name__ == "__main__":
    main()
