"""fDBD, boundary by boundary."""

from __future__ import annotations

import numpy as np

from references.head_parts import hidden, length, logits, mean, parameters_of


def scores(known, y, new):
    weight, bias = parameters_of(new)
    centre = mean(hidden(known))
    return np.array([score(h, weight, bias, centre) for h in hidden(new)])


def score(h, weight, bias, centre):
    z = logits(h, weight, bias)
    best = int(np.argmax(z))
    distances = [
        (z[best] - z[k]) / length(weight[best] - weight[k])
        for k in range(len(z))
        if k != best
    ]
    return sum(distances) / len(distances) / length(h - centre)


REFERENCES = {"FDBD": scores}
