"""Log the detector to a local file store, load it from there, and predict.

python -m mlflow_pyfunc.log_model SERVED STORE
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# MLflow would rather have a database, which its skinny package has no driver for.
os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

HERE = Path(__file__).parent

SIGNATURE = ModelSignature(
    inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 1, 8, 8))]),
    outputs=Schema(
        [
            ColSpec("double", "score"),
            ColSpec("double", "p_value"),
            ColSpec("boolean", "is_inlier"),
        ]
    ),
)
"""Given, not inferred: MLflow then refuses inputs of another shape or type."""


def logged_model(served: Path, store: Path) -> str:
    """Return the address of the model in a file store."""
    mlflow.set_tracking_uri(store.resolve().as_uri())
    with mlflow.start_run():
        about = mlflow.pyfunc.log_model(
            name="detector",
            python_model=str(HERE / "detector_model.py"),
            artifacts={"detector": str(served / "detector")},
            code_paths=[str(HERE.parent / "make_model.py")],
            signature=SIGNATURE,
            pip_requirements=["skood"],
        )
    return about.model_uri


def main(served: Path, store: Path) -> None:
    model = mlflow.pyfunc.load_model(logged_model(served, store))
    rows = np.load(served / "rows.npy")
    print(model.predict(rows[15:25]).round(3).to_string())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
