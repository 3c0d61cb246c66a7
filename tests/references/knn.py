"""The k-th nearest neighbour as plain loops over pairs of rows."""

from __future__ import annotations

import numpy as np


def scores(X_train, X, k, normalize=True):
    if normalize:
        X_train = [x / np.linalg.norm(x) for x in X_train]
        X = [x / np.linalg.norm(x) for x in X]
    return np.array(
        [-sorted(np.linalg.norm(x - row) for row in X_train)[k - 1] for x in X]
    )
