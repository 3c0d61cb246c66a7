"""One table of every public detector, as the batteries run it."""

from __future__ import annotations

from skood import KNN, MSP, Energy, FeatureNorm, LayerEnergy, Mahalanobis, MaxLogit

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
]
"""They fit on the layer features of an imagined network, with labels."""
