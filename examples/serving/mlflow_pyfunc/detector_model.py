"""The pipeline as a pyfunc: arrays in, a frame with an answer a row out.

MLflow keeps this file itself ("models from code"), and no pickle.
"""

from __future__ import annotations

import mlflow
import numpy as np
import pandas as pd
from make_model import DigitsNetwork

import skood


class DetectorModel(mlflow.pyfunc.PythonModel):
    """A pipeline of skood that was saved by `skood.save`."""

    def load_context(self, context) -> None:
        """Load it; no code of the folder is run."""
        folder = context.artifacts["detector"]
        self.pipeline = skood.load(folder, network=DigitsNetwork)

    def predict(self, context, model_input: np.ndarray, params=None) -> pd.DataFrame:
        """Return score, p-value and flag of each row."""
        features = self.pipeline[:-1].transform(model_input)
        detector = self.pipeline[-1]
        scored = detector.score_and_predict(features)
        return pd.DataFrame(
            {
                "score": scored.scores,
                "p_value": detector.p_values(features),
                "is_inlier": scored.flags == 1,
            }
        )


mlflow.models.set_model(DetectorModel())
