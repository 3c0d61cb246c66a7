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
    ConceptMatching,
    Energy,
    FeatureNorm,
    Gram,
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

OWN_TEST = {"ConceptMatching": {"layers"}, "Gram": {"contamination"}}
"""No other layer of the features here has as many columns as the texts; and rows that
were fitted on lie within Gram's ranges, whatever the rate."""

COMMON = {"layers": ["layer2"], "statistic": "l2", "contamination": 0.2}
FEW = LSGM(n_components=4, random_state=0, max_iter=200)
TWO = NAP(["layer1", "layer2"], "avg")

ANCHORED = AMP(layers=["layer1"], random_state=0)
FROM_PYOD = PyODDetector(PCA())

CHANGES = [
    (Mahalanobis(), COMMON),
    (Mahalanobis(), {"relative": True, "normalize": True, "reg_covar": 0.1}),
    (Mahalanobis(), {"layer_weights": "logistic"}),
    (Mahalanobis(), {"covariance": "oas", "joint": True}),
    (KNN(5), {**COMMON, "n_neighbors": 20, "normalize": False, "max_rows": 50}),
    (MSP(), {"contamination": 0.2, "temperature": 50.0}),
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
    (NAP(), {**COMMON, "statistic": "avg", "percentile": 90, "max_rows": 50}),
    (TWO, {"per_class": False, "voting": "majority", "tie_break": None, "auto": True}),
    (clone(TWO).set_params(layers=None, auto=True), {"n_votes": 1}),
    (clone(TWO).set_params(layers=None, auto=True), {"criterion": "threshold"}),
    (ANCHORED, {**COMMON, "classifier": AnchoredClassifier(MLP(12, 3), max_epochs=1)}),
    (ANCHORED, {"n_anchors": 2, "temperature": "ratio", "score_type": "msp"}),
    (ANCHORED, {"spread": "sum", "held_out": 0.5, "random_state": 1}),
    (FROM_PYOD, {**COMMON, "pyod_model": LOF(), "held_out": 0.5}),
    (PyODDetector(COPOD()), {"row_by_row": False}),
    (FROM_PYOD, {"max_rows": 50}),
    *HEAD_CHANGES,
    *ROOM_CHANGES,
]
CASES = [
    pytest.param(detector, {name: value}, id=f"{type(detector).__name__}-{name}")
    for detector, changes in CHANGES
    for name, value in changes.items()
]


def noisy_features(detector=None):
    """Features in which classes overlap, so that small differences show.

    None is negative where the detector's entry says that it refuses such.
    """
    entry = REGISTRY.get(type(detector).__name__)
    features, y = synthetic_features()
    rng = np.random.default_rng(0)
    blocks = {
        name: features.block(*name) * rng.gamma(4, 0.25, features.block(*name).shape)
        + 0.3 * rng.normal(size=features.block(*name).shape)
        for name in features.block_names
    }
    if entry is not None and not entry.negative_features:
        blocks = {
            name: np.maximum(block, 0) if name[1] != "logits" else block
            for name, block in blocks.items()
        }
    return LayerFeatures(blocks, features.head, features.views), y


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("detector", "change"), CASES)
def test_a_change_of_the_parameter_is_seen(detector, change):
    features, y = noisy_features(detector)
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
    own_test = OWN_TEST.get(detector.__name__, set())
    assert names - WHERE_IT_RUNS - WITHOUT_LABELS - own_test <= changed


def test_rate_of_gram():
    features, y = noisy_features()
    offsets = [
        Gram(contamination=rate).fit(features, y).offset_ for rate in (0.05, 0.3)
    ]
    assert offsets[0] < offsets[1]


def test_layers_of_concept_matching():
    texts = np.random.default_rng(0).normal(size=(3, 5))
    rows = np.random.default_rng(1).normal(size=(2, 60, 5))
    images = LayerFeatures({"early": rows[0], "late": rows[1]})
    early, late = (
        ConceptMatching(texts, layers=layer).fit(images).score_samples(images)
        for layer in ("early", "late")
    )
    assert not np.array_equal(early, late)


def test_pseudo_classes_count_where_there_are_no_labels():
    features, _ = noisy_features()
    detectors = [
        clone(ANCHORED).set_params(n_pseudo_classes=k).fit(features) for k in (2, 4)
    ]
    scores = [detector.score_samples(features) for detector in detectors]
    assert not np.array_equal(*scores)
