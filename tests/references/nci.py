"""NCI, row by row."""

from __future__ import annotations

import numpy as np

from references.head_parts import hidden, length, logits, mean, parameters_of


def terms(h, weight, bias, centre):
    best = int(np.argmax(logits(h, weight, bias)))
    centred = h - centre
    angle = sum(w * v for w, v in zip(weight[best], centred, strict=True))
    return angle / length(centred), sum(abs(v) for v in h)


def scores(known, y, new, alpha=None):
    weight, bias = parameters_of(new)
    centre = mean(hidden(known))
    shift = 0.0
    if alpha is None:
        pairs = [terms(h, weight, bias, centre) for h in hidden(known)]
        angles, sizes = zip(*pairs, strict=True)
        alpha, shift = np.std(angles) / np.std(sizes), np.mean(sizes)
    pairs = [terms(h, weight, bias, centre) for h in hidden(new)]
    return np.array([angle + alpha * (size - shift) for angle, size in pairs])


REFERENCES = {"NCI": scores}
