"""The same by `mlflow.sklearn`, whose files are skops' now.

    python -m mlflow_pyfunc.sklearn_flavour SERVED FOLDER

A skops file holds no network, so that the pipeline gives its own away before, and gets
it back after; and skops has to be told to trust skood's types.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mlflow.sklearn
import numpy as np
from make_model import DigitsNetwork

import skood


def main(served: Path, folder: Path) -> None:
    pipeline = skood.load(served / "detector", network=DigitsNetwork)
    network = pipeline[0].network
    mlflow.sklearn.save_model(
        pipeline.set_params(features__store_network=False),
        folder,
        serialization_format="skops",
        skops_trusted_types=skood.trusted_types(),
        pip_requirements=["skood"],
    )
    loaded = mlflow.sklearn.load_model(folder)
    # The weights must be those of fit: keep them beside, as skood.save does.
    loaded.set_params(features__network=network)
    rows = np.load(served / "rows.npy")
    same = loaded.score_samples(rows) == pipeline.score_samples(rows)
    print(f"{same.sum()} of {len(rows)} scores are the same")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
