"""Fitted estimators, the formats they are saved in, and a fresh process to load them.

``python persisted.py FOLDER`` loads every file of a folder that ``written`` made, in
every way that there is, and writes what the estimators then say.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import skops.io
from instances import OOD_BATTERY, SKLEARN_BATTERY
from pyod.models.pca import PCA
from sklearn.base import clone
from sklearn.covariance import EllipticEnvelope
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skood import (
    KNN,
    ConformalDetector,
    Energy,
    InlierKFold,
    LayerSelector,
    Mahalanobis,
    NormRescaledHead,
    OutliersIgnored,
    PyODDetector,
    TargetRateThreshold,
    auroc_scorer,
    load,
    save,
    trusted_types,
)
from skood.estimator_checks import synthetic_features

AROUND_MATRICES = [
    PyODDetector(PCA()),
    OutliersIgnored(make_pipeline(StandardScaler(), KNN(3))),
    GridSearchCV(
        make_pipeline(StandardScaler(), Mahalanobis()),
        {"mahalanobis__normalize": [False, True]},
        scoring=auroc_scorer,
        cv=InlierKFold(2),
    ),
]
AROUND_FEATURES = [
    PyODDetector(PCA(), layers="layer2"),
    TargetRateThreshold(KNN(5, layers="layer2"), 0.3, cv=0.5),
    ConformalDetector(KNN(5), 0.3, class_conditional=True, cv=0.5),
    OutliersIgnored(
        make_pipeline(
            LayerSelector("layer1", "avg"),
            StandardScaler(),
            EllipticEnvelope(random_state=0),
        )
    ),
    make_pipeline(NormRescaledHead(), Energy()),
    GridSearchCV(
        make_pipeline(LayerSelector(statistic="avg"), StandardScaler(), KNN()),
        {"layerselector__layers": ["layer1", "layer2"], "knn__n_neighbors": [2, 5]},
        scoring=auroc_scorer,
        cv=InlierKFold(2),
    ),
]
ONE_A_CLASS = {type(estimator): estimator for estimator in SKLEARN_BATTERY}
ESTIMATORS = {
    "ndarray": [*SKLEARN_BATTERY, *AROUND_MATRICES],
    "LayerFeatures": [*OOD_BATTERY, *AROUND_FEATURES],
    "DataFrame": [*ONE_A_CLASS.values(), *AROUND_MATRICES],
}
"""By the kind of their data."""

OF_OTHERS = ["pyod.models.pca.PCA"]
"""What is to be trusted in them beside skood's own types."""


def _pickled(estimator, path):
    path.write_bytes(pickle.dumps(estimator))


WRITERS = {
    "folder": save,
    "joblib": joblib.dump,
    "pickle": _pickled,
    "skops": skops.io.dump,
}
"""By the ending of the file."""

READERS = {
    "joblib": ("joblib", joblib.load),
    "joblib, mapped": ("joblib", lambda path: joblib.load(path, mmap_mode="r")),
    "pickle": ("pickle", lambda path: pickle.loads(path.read_bytes())),
    "skops": (
        "skops",
        lambda path: skops.io.load(path, trusted=[*trusted_types(), *OF_OTHERS]),
    ),
    "save": ("folder", lambda path: load(path, trusted=OF_OTHERS)),
}
"""By the name of the way: the ending of its files, and the function."""


def data_of(kind, random_state=0):
    """Return rows of a kind and their labels."""
    features, y = synthetic_features(60, 20, random_state=random_state)
    if kind == "LayerFeatures":
        return features, y
    matrix = np.asarray(features.select(statistic="avg"))
    if kind == "ndarray":
        return matrix, y
    return pd.DataFrame(matrix, columns=[f"unit{k}" for k in range(matrix.shape[1])]), y


def fitted(kind):
    """Return the fitted estimators for a kind of rows; of a search, its best."""
    X, y = data_of(kind)
    found = [clone(estimator).fit(X, y) for estimator in ESTIMATORS[kind]]
    return [getattr(estimator, "best_estimator_", estimator) for estimator in found]


def scores_of(estimator, kind):
    """Return what an estimator says of rows: scores, then decisions, then flags."""
    X, _ = data_of(kind, random_state=1)
    methods = ("score_samples", "decision_function", "predict")
    return np.stack([getattr(estimator, method)(X) for method in methods])


def written(estimators, folder):
    """Write estimators, given by kind, in every format."""
    for kind, of_kind in estimators.items():
        (folder / kind).mkdir()
        for number, estimator in enumerate(of_kind):
            for ending, write in WRITERS.items():
                write(estimator, folder / kind / f"{number}.{ending}")


def loaded_scores(folder):
    """Return the scores of all that is in a folder, by kind, number and way."""
    return {
        f"{kind.name}/{path.stem}/{way}": scores_of(read(path), kind.name)
        for kind in sorted(folder.iterdir())
        for way, (ending, read) in READERS.items()
        for path in sorted(kind.glob(f"*.{ending}"))
    }


if __name__ == "__main__":
    place = Path(sys.argv[1])
    np.savez(place / "scores.npz", **loaded_scores(place))
