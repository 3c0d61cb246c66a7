"""Every public parameter of every detector does something."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone

import skood
from skood import (
    KNN,
    LSGM,
    MSP,
    NAP,
    Energy,
    FeatureNorm,
    LayerEnergy,
    LayerFeatures,
    Mahalanobis,
    MaxLogit,
)
from skood.detectors.base import BaseDetector
from skood.estimator_checks import synthetic_features

WHERE_IT_RUNS = {"device", "backend"}
"""They choose how a result is computed; other tests show that it stays the same."""

COMMON = {"layers": ["layer2"], "statistic": "l2", "contamination": 0.2}
FEW = LSGM(n_components=4, random_state=0, max_iter=200)
TWO = NAP(["layer1", "layer2"], "avg")

CHANGES = [
    (Mahalanobis(), COMMON),
    (Mahalanobis(), {"relative": True, "normalize": True, "ridge": 0.1}),
    (Mahalanobis(), {"layer_weights": "logistic"}),
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
    public = (getattr(skood, name) for name in skood._HOMES)
    return [c for c in public if isinstance(c, type) and issubclass(c, BaseDetector)]


@pytest.mark.parametrize("detector", detector_classes(), ids=lambda c: c.__name__)
def test_no_parameter_is_left_out(detector):
    if detector.__name__ == "AMP":
        pytest.skip("trains a network: its parameters are tested in test_neural_amp")
    changed = {
        name for d, changes in CHANGES if type(d) is detector for name in changes
    }
    assert set(detector().get_params()) - WHERE_IT_RUNS <= changed
