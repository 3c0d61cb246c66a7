"""The Mahalanobis family as plain loops over rows and classes, in float64."""

from __future__ import annotations

import mpmath
import numpy as np


def within_class_covariance(X, y):
    """Return the covariance of the rows less their class means, divided by n."""
    X = np.asarray(X, dtype=np.float64)
    covariance = np.zeros((X.shape[1], X.shape[1]))
    for x, label in zip(X, y, strict=True):
        u = x - X[y == label].mean(axis=0)
        covariance += np.outer(u, u) / len(X)
    return covariance


def ridge_of(covariance, reg_covar):
    """Return what is added to the diagonal, relative to each variance."""
    variances = np.diag(covariance).copy()
    variances[variances == 0] = np.median(variances[variances > 0])
    return reg_covar * np.diag(variances)


def nearest_class_distances(X_train, y, X, reg_covar=1e-12, added=None):
    """Return the distances; ``added`` stands for the ridge where it is given."""
    X_train, X = np.asarray(X_train, float), np.asarray(X, float)
    covariance = within_class_covariance(X_train, y)
    covariance += ridge_of(covariance, reg_covar) if added is None else added
    precision = np.linalg.inv(covariance)
    means = [X_train[y == label].mean(axis=0) for label in np.unique(y)]
    return np.array([min((x - m) @ precision @ (x - m) for m in means) for x in X])


def exact_distances(X_train, y, X):
    """Return the distances without a ridge, in fifty digits."""
    with mpmath.workdps(50):
        return _exact_distances(X_train, y, X)


def _exact_distances(X_train, y, X):
    classes = [_exact(X_train[y == label]) for label in np.unique(y)]
    means = [rows.sum(axis=0) / len(rows) for rows in classes]
    centred = np.concatenate([r - m for r, m in zip(classes, means, strict=True)])
    covariance = mpmath.matrix((centred.T @ centred / mpmath.mpf(len(y))).tolist())
    precision = np.array(mpmath.inverse(covariance).tolist())
    return np.array(
        [float(min((x - m) @ precision @ (x - m) for m in means)) for x in _exact(X)]
    )


def _exact(values):
    return np.vectorize(mpmath.mpf, otypes=[object])(np.asarray(values, float))


def unseen_distances(X, y, reg_covar, added):
    """Return the distances of rows by a refit without each, the addend held."""
    return np.array(
        [
            nearest_class_distances(
                np.delete(X, i, 0), np.delete(y, i), X[i : i + 1], reg_covar, added
            )[0]
            for i in range(len(X))
        ]
    )


def scores(X_train, y, X, *, relative=False, normalize=False, reg_covar=1e-12):
    if normalize:
        X_train = np.array([x / np.linalg.norm(x) for x in X_train])
        X = np.array([x / np.linalg.norm(x) for x in X])
    result = -nearest_class_distances(X_train, y, X, reg_covar)
    if relative:
        result += nearest_class_distances(X_train, np.zeros(len(y)), X, reg_covar)
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
