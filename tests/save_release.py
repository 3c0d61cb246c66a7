"""Write the files of a release that every later one has to load.

``python tests/save_release.py`` fits one small estimator of each kind and writes it in
each format to ``tests/data/saved/<version>``, with the rows and what the estimators say
of them. It is run once for a version, and what it wrote is never written again.
"""

from __future__ import annotations

import sys
from pathlib import Path

import joblib
import numpy as np
import skops.io
from instances import OOD_BATTERY
from sklearn.base import clone

from skood import (
    AMP,
    KNN,
    LSGM,
    AnchoredClassifier,
    ConformalDetector,
    EnergyRegularizedClassifier,
    LayerFeatures,
    LinearHead,
    Mahalanobis,
    NormRescaledHead,
    OutliersIgnored,
    PyODDetector,
    TargetRateThreshold,
    __version__,
    save,
)
from skood.estimator_checks import synthetic_features
from skood.neural import MLP

SAVED = Path(__file__).parent / "data" / "saved"
"""A folder for each version."""

ROWS = "rows.npz"
SAID = "said.npz"
WRITERS = {
    "folder": save,
    "joblib": lambda estimator, path: joblib.dump(estimator, path, compress=9),
    "skops": lambda estimator, path: skops.io.dump(estimator, path, compression=8),
}
"""By the ending."""

SMALL = {
    "module__n_features": 38,
    "module__n_classes": 3,
    "module__width": 8,
    "max_epochs": 5,
    "random_state": 0,
}


def estimators():
    """Return what a release is represented by, not fitted."""
    # A detector of PyOD's and a large network have no place in a small file that is
    # to load for ever.
    ours = [e for e in OOD_BATTERY if not isinstance(e, (AMP, PyODDetector))]
    return [
        *map(clone, ours),
        LSGM(2, layers="layer2", covariance_type="full", random_state=0),
        AMP(AnchoredClassifier(MLP, **SMALL, standardize=True)),
        EnergyRegularizedClassifier(MLP, ["0", "logits"], **SMALL),
        TargetRateThreshold(KNN(5, layers="layer1"), 0.3, cv=0.5),
        ConformalDetector(KNN(5, layers="layer1"), 0.3, class_conditional=True, cv=0.5),
        OutliersIgnored(Mahalanobis("layer1")),
        NormRescaledHead(),
    ]


def fitted(estimator, features, y):
    """Return an estimator fitted, in portions where that is something of its own."""
    if isinstance(estimator, EnergyRegularizedClassifier):
        return estimator.fit(features.select(statistic="avg"), y)
    return estimator.fit(features, y)


def what_it_says(estimator, features):
    """Return an estimator's numbers for rows, in one array."""
    if isinstance(estimator, EnergyRegularizedClassifier):
        return estimator.predict_proba(features.select(statistic="avg"))
    if hasattr(estimator, "predict_proba"):
        return estimator.predict_proba(features)
    if not hasattr(estimator, "score_samples"):
        return np.asarray(estimator.transform(features))
    numbers = [estimator.score_samples(features), estimator.decision_function(features)]
    return np.column_stack(numbers)


def read_rows(folder):
    """Return the layer features that the files of a folder are asked about."""
    with np.load(folder / ROWS) as file:
        arrays = dict(file)
    head = LinearHead(arrays.pop("head weight"), arrays.pop("head bias"))
    return LayerFeatures(
        {tuple(name.split("/")): a for name, a in arrays.items()}, head
    )


def write_release(folder):
    """Fill a new folder and return how many estimators are in it."""
    folder.mkdir(parents=True)
    features, y = synthetic_features(45, 15)
    rows, _ = synthetic_features(8, 4, random_state=1)
    blocks = {"/".join(name): rows.block(*name) for name in rows.block_names}
    head = {"head weight": rows.head.weight, "head bias": rows.head.bias}
    np.savez_compressed(folder / ROWS, **blocks, **head)
    portions = Mahalanobis("layer1").partial_fit(features[:30], y[:30])
    found = [fitted(estimator, features, y) for estimator in estimators()]
    said = {}
    for number, estimator in enumerate([*found, portions.partial_fit(features, y)]):
        name = f"{number:02}-{type(estimator).__name__}"
        said[name] = what_it_says(estimator, rows)
        for ending, write in WRITERS.items():
            write(estimator, folder / f"{name}.{ending}")
    np.savez_compressed(folder / SAID, **said)
    return len(said)


def main():
    folder = SAVED / __version__
    if folder.exists():
        sys.exit(f"{folder} is there already: the files of a version stay as they are.")
    count = write_release(folder)
    size = sum(file.stat().st_size for file in folder.rglob("*.*") if file.is_file())
    print(
        f"{count} estimators of skood {__version__}: {size / 1024:.0f} kB in {folder}"
    )


if __name__ == "__main__":
    main()
