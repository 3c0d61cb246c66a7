"""The Mahalanobis family as plain loops over rows and classes, in float64."""

from __future__ import annotations

import numpy as np


def tied_covariance(X, y, ridge):
    X = np.asarray(X, dtype=np.float64)
    covariance = np.zeros((X.shape[1], X.shape[1]))
    for x, label in zip(X, y, strict=True):
        u = x - X[y == label].mean(axis=0)
        covariance += np.outer(u, u) / len(X)
    return covariance + ridge * np.trace(covariance) / len(covariance) * np.eye(
        len(covariance)
    )


def nearest_class_distances(X_train, y, X, ridge=1e-10):
    X_train, X = np.asarray(X_train, float), np.asarray(X, float)
    precision = np.linalg.inv(tied_covariance(X_train, y, ridge))
    means = [X_train[y == label].mean(axis=0) for label in np.unique(y)]
    return np.array([min((x - m) @ precision @ (x - m) for m in means) for x in X])


def scores(X_train, y, X, *, relative=False, normalize=False, ridge=1e-10):
    if normalize:
        X_train = np.array([x / np.linalg.norm(x) for x in X_train])
        X = np.array([x / np.linalg.norm(x) for x in X])
    result = -nearest_class_distances(X_train, y, X, ridge)
    if relative:
        result += nearest_class_distances(X_train, np.zeros(len(y)), X, ridge)
    return result


def of_layers(known, y, new, layers=None, statistic="avg", **parameters):
    names = [
        name
        for name in known.block_names
        if name[1] == statistic and (layers is None or name[0] in layers)
    ]
    return sum(
        scores(known.block(*name), y, new.block(*name), **parameters) for name in names
    )


REFERENCES = {"Mahalanobis": of_layers}
