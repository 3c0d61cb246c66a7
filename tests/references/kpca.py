"""CoP and CoRP, with a projection on each axis in turn."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from references.head_parts import hidden, holding, length


def random_features(rows, gamma, n_features, seed):
    rng = np.random.default_rng(seed)
    w = np.sqrt(2 * gamma) * rng.normal(size=(len(rows[0]), n_features))
    u = 2 * np.pi * rng.uniform(size=n_features)
    return lambda x: np.array(
        [
            np.sqrt(2 / n_features) * np.cos(x @ w[:, j] + u[j])
            for j in range(n_features)
        ]
    )


def median_distance(rows):
    return np.median([sum((a - b) ** 2) for a, b in combinations(rows, 2)])


def scores(
    known,
    y,
    new,
    kernel="cosine",
    n_components=0.9,
    gamma=None,
    n_random_features=2048,
    random_state=0,
):
    rows = [h / length(h) for h in hidden(known)]
    mapped = np.array
    if kernel == "cosine_rbf":
        gamma = 1 / median_distance(rows) if gamma is None else gamma
        mapped = random_features(rows, gamma, n_random_features, random_state)
    x = np.array([mapped(row) for row in rows])
    centre = x.mean(axis=0)
    values, axes = np.linalg.eigh(sum(np.outer(v, v) for v in x - centre) / len(x))
    order = np.argsort(-values)
    if isinstance(n_components, float):
        n_components = holding(n_components, values[order])
    found = []
    for h in hidden(new):
        rest = mapped(h / length(h)) - centre
        for i in order[:n_components]:
            rest = rest - (axes[:, i] @ rest) * axes[:, i]
        found.append(-length(rest))
    return np.array(found)


REFERENCES = {"KPCA": scores}
