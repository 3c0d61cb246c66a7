"""One table of every public detector, as the batteries run it."""

from __future__ import annotations

from skood import (
    AMP,
    KNN,
    LSGM,
    MSP,
    NAP,
    ConformalDetector,
    Energy,
    FeatureNorm,
    LayerEnergy,
    Mahalanobis,
    MaxLogit,
    TargetRateThreshold,
)

SKLEARN_BATTERY = [
    Mahalanobis(),
    Mahalanobis(normalize=True),
    KNN(n_neighbors=3),
    KNN(n_neighbors=3, normalize=False),
    MSP(),
    MaxLogit(),
    Energy(),
    FeatureNorm(),
    LayerEnergy(),
    LayerEnergy(aggregation="mahalanobis"),
    LSGM(n_components=2, random_state=0),
    LSGM(n_components=2, covariance_type="full", random_state=0),
    LSGM(n_components=2, covariance_type="tied", random_state=0),
    NAP(),
    NAP(percentile=30, statistic="avg"),
    AMP(n_pseudo_classes=3, random_state=0),
    TargetRateThreshold(Mahalanobis(), 0.3, cv=0.5),
    ConformalDetector(Mahalanobis(), 0.3, cv=0.5),
]
"""They fit on bare arrays, without labels and on few rows."""

OOD_BATTERY = [
    Mahalanobis(),
    Mahalanobis(relative=True),
    Mahalanobis(normalize=True),
    Mahalanobis(layers=["layer1", "penultimate"], statistic="l2"),
    KNN(n_neighbors=5),
    KNN(n_neighbors=5, normalize=False, statistic="max"),
    MSP(),
    MaxLogit(),
    Energy(temperature=2.0),
    FeatureNorm(),
    FeatureNorm("layer2"),
    LayerEnergy(),
    LayerEnergy(["layer1", "logits"], aggregation="mahalanobis"),
    LSGM(n_components=3, random_state=0),
    LSGM(
        n_components=3,
        layers=["layer1", "layer2"],
        covariance_type="tied",
        prior="dirichlet_process",
        weighting="first_layer",
        random_state=0,
    ),
    NAP(),
    NAP(statistic="avg", percentile=70, per_class=False),
    NAP([("layer1", "max", 50), ("layer2", "avg", 70)], voting="majority"),
    NAP(tie_break=None),
    AMP(held_out=0.3, random_state=0),
]
"""They fit on the layer features of an imagined network, with labels."""
