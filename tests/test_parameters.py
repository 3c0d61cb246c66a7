"""Every public parameter of every detector does something."""

from __future__ import annotations

from inspect import Parameter, signature

import numpy as np
import pytest
from changes_head import HEAD_CHANGES
from changes_rooms import ROOM_CHANGES
from pyod.models.copod import COPOD
from pyod.models.lof import LOF
from pyod.models.pca import PCA
from sklearn.base import clone

from skood import (
    AMP,
    KNN,
    LSGM,
    MSP,
    NAP,
    AnchoredClassifier,
    Energy,
    FeatureNorm,
    LayerEnergy,
    LayerFeatures,
    Mahalanobis,
    MaxLogit,
    PyODDetector,
)
from skood.detectors.registry import REGISTRY
from skood.estimator_checks import synthetic_features
from skood.neural import MLP

WHERE_IT_RUNS = {"device", "backend"}
"""They choose how a result is computed; other tests show that it stays the same."""

WITHOUT_LABELS = {"n_pseudo_classes"}
"""They have a test of their own: with labels they do nothing."""

COMMON = {"layers": ["layer2"], "statistic": "l2", "contamination": 0.2}
FEW = LSGM(n_components=4, random_state=0, max_iter=200)
TWO = NAP(["layer1", "layer2"], "avg")

ANCHORED = AMP(layers=["layer1"], random_state=0)
FROM_PYOD = PyODDetector(PCA())

CHANGES = [
    (Mahalanobis(), COMMON),
    (Mahalanobis(), {"relative": True, "normalize": True, "ridge": 0.1}),
    (Mahalanobis(), {"layer_weights": "logistic"}),
    (Mahalanobis(), {"covariance": "oas", "joint": True}),
    (KNN(5), {**COMMON, "n_neighbors": 20, "normalize": False}),
    (MSP(), {"contamination": 0.2}),
    (MaxLogit(), {"contamination": 0.2}),
    (Energy(), {"contamination": 0.2, "temperature": 50.0}),
    (FeatureNorm(), {"contamination": 0.2, "layers": "layer1"}),
    (LayerEnergy(), {"contamination": 0.2, "layers": ["layer2"]}),
    (LayerEnergy(), {"aggregation": "mahalanobis"}),
    (FEW, {**COMMON, "n_components": 2, "covariance_type": "full"}),
    (FEW, {"prior": "dirichlet_process", "weighting": "first_layer"}),
    (FEW, {"scale_layers": True, "temper": True, "reg_covar": 0.1, "max_iter": 1}),
    (FEW, {"assignments": "soft", "random_state": 3, "tol": 1.0}),
    (
        clone(FEW).set_params(n_components=9, random_state=1, tol=1e-8),
        {"n_init": 5},
    ),
    (
        clone(FEW).set_params(prior="dirichlet_process", n_components=8),
        {"weight_concentration_prior": 1e6},
    ),
    (NAP(), {**COMMON, "statistic": "avg", "percentile": 90}),
    (TWO, {"per_class": False, "voting": "majority", "tie_break": None, "auto": True}),
    (clone(TWO).set_params(layers=None, auto=True), {"n_votes": 1}),
    (clone(TWO).set_params(layers=None, auto=True), {"criterion": "threshold"}),
    (ANCHORED, {**COMMON, "classifier": AnchoredClassifier(MLP(12, 3), max_epochs=1)}),
    (ANCHORED, {"n_anchors": 2, "temperature": "ratio", "score_type": "msp"}),
    (ANCHORED, {"spread": "sum", "held_out": 0.5, "random_state": 1}),
    (FROM_PYOD, {**COMMON, "pyod_model": LOF(), "held_out": 0.5}),
    (PyODDetector(COPOD()), {"row_by_row": False}),
    *HEAD_CHANGES,
    *ROOM_CHANGES,
]
CASES = [
    pytest.param(detector, {name: value}, id=f"{type(detector).__name__}-{name}")
    for detector, changes in CHANGES
    for name, value in changes.items()
]


def noisy_features():
    """Features in which classes overlap, so that small differences show."""
    features, y = synthetic_features()
    rng = np.random.default_rng(0)
    blocks = {
        name: features.block(*name) * rng.gamma(4, 0.25, features.block(*name).shape)
        + 0.3 * rng.normal(size=features.block(*name).shape)
        for name in features.block_names
    }
    return LayerFeatures(blocks, features.head, features.views), y


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("detector", "change"), CASES)
def test_a_change_of_the_parameter_is_seen(detector, change):
    features, y = noisy_features()
    before = clone(detector).fit(features, y)
    after = clone(detector).set_params(**change).fit(features, y)
    same_scores = np.array_equal(
        before.score_samples(features), after.score_samples(features)
    )
    same_flags = np.array_equal(before.predict(features), after.predict(features))
    assert not (same_scores and same_flags)


def detector_classes():
    return [entry.detector for entry in REGISTRY.values()]


@pytest.mark.parametrize("detector", detector_classes(), ids=lambda c: c.__name__)
def test_no_parameter_is_left_out(detector):
    changed = {
        name for d, changes in CHANGES if type(d) is detector for name in changes
    }
    parameters = signature(detector).parameters.values()
    required = {p.name: None for p in parameters if p.default is Parameter.empty}
    names = set(detector(**required).get_params())
    assert names - WHERE_IT_RUNS - WITHOUT_LABELS <= changed


def test_pseudo_classes_count_where_there_are_no_labels():
    features, _ = noisy_features()
    detectors = [
        clone(ANCHORED).set_params(n_pseudo_classes=k).fit(features) for k in (2, 4)
    ]
    scores = [detector.score_samples(features) for detector in detectors]
    assert not np.array_equal(*scores)
