"""Layer energies put together, column by column."""

from __future__ import annotations

import math

import numpy as np


def energies(layers):
    """Return minus the log-sum-exp of all units, (n, layers)."""
    return np.array(
        [
            [-math.log(math.fsum(math.exp(a) for a in np.ravel(row))) for row in units]
            for units in layers
        ]
    ).T


def scores(train, new, aggregation, outliers=None):
    """Return the scores of energies of shape (n, layers)."""
    z = np.array([[_z(train[:, i], e) for i, e in enumerate(row)] for row in new])
    if aggregation == "zscore":
        return -np.abs(z).sum(axis=1)
    if aggregation == "signed":
        return z @ [
            1 if i.mean() > o.mean() else -1
            for i, o in zip(train.T, outliers.T, strict=True)
        ]
    centred = train - train.mean(axis=0)
    inverse = np.linalg.inv(centred.T @ centred / len(train))
    return np.array([-(e @ inverse @ e) for e in new - train.mean(axis=0)])


def _z(column, value):
    return (value - np.mean(column)) / np.std(column)
