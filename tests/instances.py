"""One table of every public detector, as the batteries run it."""

from __future__ import annotations

from skood import KNN, Mahalanobis

SKLEARN_BATTERY = [
    Mahalanobis(),
    Mahalanobis(normalize=True),
    KNN(n_neighbors=3),
    KNN(n_neighbors=3, normalize=False),
]
"""They fit on bare arrays, without labels and on few rows."""

OOD_BATTERY = [
    Mahalanobis(),
    Mahalanobis(relative=True),
    Mahalanobis(normalize=True),
    Mahalanobis(layers=["layer1", "penultimate"], statistic="l2"),
    KNN(n_neighbors=5),
    KNN(n_neighbors=5, normalize=False, statistic="max"),
]
"""They fit on the layer features of an imagined network, with labels."""
