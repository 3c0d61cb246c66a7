"""Features reshaped, then the energy of their logits, one row at a time."""

from __future__ import annotations

import math

import numpy as np


def energies(features, shape):
    """Return the energy of every row after ``shape`` has changed its features."""
    head = features.head
    scores = []
    for row in features.block("penultimate"):
        new = shape(np.array(row))
        logits = [
            float(w @ new + b) for w, b in zip(head.weight, head.bias, strict=True)
        ]
        scores.append(log_sum_exp(logits))
    return np.array(scores)


def log_sum_exp(row):
    return max(row) + math.log(math.fsum(math.exp(z - max(row)) for z in row))


def most_active(row, percentile):
    """Return the largest of the activations that are not negative."""
    count = max(1, len(row) - round(len(row) * percentile / 100))
    return sorted((max(h, 0.0) for h in row), reverse=True)[:count]


def react(known, y, new, percentile=90):
    limit = np.percentile(known.block("penultimate"), percentile)
    return energies(new, lambda row: [min(h, limit) for h in row])


def scale(known, y, new, percentile=None, transform="exp"):
    if percentile is None:
        percentile = {"exp": 85, "square": 95}[transform]
    head = new.head
    scores = []
    for row in new.block("penultimate"):
        ratio = math.fsum(max(h, 0) for h in row)
        ratio /= math.fsum(most_active(row, percentile))
        logits = []
        for w, b in zip(head.weight, head.bias, strict=True):
            z = math.fsum(w * row)
            logits.append(
                z * math.exp(ratio) + b if transform == "exp" else (z + b) * ratio**2
            )
        scores.append(log_sum_exp(logits))
    return np.array(scores)


REFERENCES = {"ReAct": react, "SCALE": scale}
