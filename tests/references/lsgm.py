"""LSGM as plain loops over rows, components and paths, in float64."""

from __future__ import annotations

from itertools import product

import numpy as np


def log_density(x, mean, covariance):
    """Return the log density; ``covariance`` is a matrix or a diagonal."""
    covariance = np.diag(covariance) if np.ndim(covariance) == 1 else covariance
    u = np.asarray(x, float) - mean
    _, log_det = np.linalg.slogdet(covariance)
    distance = u @ np.linalg.inv(covariance) @ u
    return -0.5 * (distance + log_det + len(u) * np.log(2 * np.pi))


def log_densities(x, mixture):
    """Return one number a component, from the public parameters."""
    covariances = mixture.covariances
    if mixture.gaussians.tied:
        covariances = [covariances] * len(mixture.means)
    pairs = zip(mixture.means, covariances, strict=True)
    return np.array([log_density(x, mean, covariance) for mean, covariance in pairs])


def paths(sizes):
    return list(product(*(range(size) for size in sizes)))


def path_log_likelihood(path, emissions, transitions):
    """Return the log likelihood of one row along one path."""
    total = sum(emission[z] for emission, z in zip(emissions, path, strict=True))
    steps = zip(path[:-1], path[1:], transitions, strict=True)
    return total + sum(np.log(matrix[u, v]) for u, v, matrix in steps)


def score(emissions, transitions):
    """Return the log of the summed likelihood of every path of one row."""
    along = [
        path_log_likelihood(path, emissions, transitions)
        for path in paths([len(emission) for emission in emissions])
    ]
    largest = max(along)
    return largest + np.log(sum(np.exp(value - largest) for value in along))


def likeliest_path(emissions, transitions):
    every = paths([len(emission) for emission in emissions])
    return max(every, key=lambda p: path_log_likelihood(p, emissions, transitions))


def transition_matrix(here, there, size_here, size_there):
    """Return the smoothed frequencies from the rows' components in two layers."""
    counts = np.full((size_here, size_there), 1e-8)
    for u, v in zip(here, there, strict=True):
        counts[u, v] += 1
    return np.array([row / row.sum() for row in counts])


def emissions(arrays, mixtures, weighting, temper=False):
    """Return what each layer adds for one row; ``arrays`` has its features by layer."""
    result = []
    for number, (x, mixture) in enumerate(zip(arrays, mixtures, strict=True)):
        logs = log_densities(x, mixture) / (len(x) if temper else 1)
        if number == 0 or weighting == "every_layer":
            logs = logs + np.log(mixture.weights)
        result.append(logs)
    return result
