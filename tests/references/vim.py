"""ViM and its residual, with a projection on each axis in turn."""

from __future__ import annotations

import numpy as np

from references.head_parts import energy, hidden, holding, length, logits, parameters_of


def origin(weight, bias):
    return -np.linalg.pinv(weight) @ bias


def residual_axes(rows, n_components):
    moment = sum(np.outer(x, x) for x in rows) / len(rows)
    values, axes = np.linalg.eigh(moment)
    order = np.argsort(-values)
    if isinstance(n_components, float):
        n_components = holding(n_components, values[order])
    return [axes[:, i] for i in order[n_components:]]


def residual(x, axes):
    return length([axis @ x for axis in axes])


def residual_scores(known, y, new, n_components=0.99):
    u = origin(*parameters_of(new))
    axes = residual_axes(hidden(known) - u, n_components)
    return np.array([-residual(h - u, axes) for h in hidden(new)])


def vim_scores(known, y, new, n_components=0.99):
    weight, bias = parameters_of(new)
    u = origin(weight, bias)
    axes = residual_axes(hidden(known) - u, n_components)
    residuals = [residual(h - u, axes) for h in hidden(known)]
    best = [max(logits(h, weight, bias)) for h in hidden(known)]
    alpha = np.mean(best) / np.mean(residuals)
    return np.array(
        [
            energy(logits(h, weight, bias)) - alpha * residual(h - u, axes)
            for h in hidden(new)
        ]
    )


REFERENCES = {"ViM": vim_scores, "Residual": residual_scores}
