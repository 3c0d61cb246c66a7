"""One table of every public detector, as the batteries run it."""

from __future__ import annotations

from pyod.models.abod import ABOD
from pyod.models.cblof import CBLOF
from pyod.models.ecod import ECOD
from pyod.models.gmm import GMM
from pyod.models.hbos import HBOS
from pyod.models.iforest import IForest
from pyod.models.inne import INNE
from pyod.models.kde import KDE
from pyod.models.knn import KNN as PyODKNN
from pyod.models.lof import LOF
from pyod.models.mcd import MCD
from pyod.models.ocsvm import OCSVM
from pyod.models.pca import PCA
from pyod.models.sampling import Sampling

from skood import (
    KNN,
    AutoOOD,
    ConformalDetector,
    DetectorEnsemble,
    Energy,
    LayerEnsemble,
    Mahalanobis,
    PyODDetector,
    TargetRateThreshold,
)
from skood.detectors.registry import REGISTRY

SKLEARN_BATTERY = [
    entry.detector(**parameters)
    for entry in REGISTRY.values()
    for parameters in entry.on_arrays
] + [
    TargetRateThreshold(Mahalanobis(), 0.3, cv=0.5),
    ConformalDetector(Mahalanobis(), 0.3, cv=0.5),
    DetectorEnsemble([("knn", KNN(3)), ("distance", Mahalanobis())]),
    DetectorEnsemble(
        [("knn", KNN(3)), ("distance", Mahalanobis())], combine="stouffer"
    ),
    LayerEnsemble(KNN(3), combine="fisher"),
    AutoOOD(),
]
"""They fit on bare arrays, without labels and on few rows."""

OOD_BATTERY = [
    entry.detector(**parameters)
    for entry in REGISTRY.values()
    for parameters in entry.on_features
] + [
    DetectorEnsemble(
        [("energy", Energy()), ("knn", KNN(5)), ("distance", Mahalanobis())]
    ),
    DetectorEnsemble([("energy", Energy()), ("knn", KNN(5))], combine="lda"),
    DetectorEnsemble([("energy", Energy()), ("knn", KNN(5))], combine="cauchy"),
    AutoOOD(),
    AutoOOD(combine="fisher", calibration=0.4),
    LayerEnsemble(Mahalanobis()),
    LayerEnsemble(KNN(5), combine="lda", calibration=0.4),
    LayerEnsemble(Mahalanobis(), layers=["layer1", "penultimate"], combine="simes"),
]
"""They fit on the layer features of an imagined network, with labels."""

PYOD_BATTERY = [
    PyODDetector(PyODKNN()),
    PyODDetector(LOF(n_neighbors=5)),
    PyODDetector(IForest(n_estimators=10, random_state=0)),
    PyODDetector(HBOS()),
    PyODDetector(PCA()),
    PyODDetector(CBLOF(n_clusters=6, alpha=0.6, random_state=1)),
    PyODDetector(GMM(reg_covar=1e-14, random_state=0)),
    PyODDetector(OCSVM(gamma="scale")),
    PyODDetector(INNE(n_estimators=5, random_state=0)),
    PyODDetector(ABOD()),
    PyODDetector(Sampling(subset_size=7, random_state=0)),
]
"""PyOD's detectors; scikit-learn's battery and ours run on each."""

PYOD_SKLEARN_ONLY = [
    PyODDetector(ECOD()),  # a call for each row takes our battery too long
    PyODDetector(MCD(random_state=0)),  # its determinant underflows in small units
    PyODDetector(KDE()),  # its bandwidth is a number, in the units of the features
]
"""Scikit-learn's battery alone runs on them."""
