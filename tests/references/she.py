"""SHE, class by class."""

from __future__ import annotations

import numpy as np

from references.head_parts import hidden, logits, mean, parameters_of


def scores(known, y, new):
    weight, bias = parameters_of(new)
    right = {k: [] for k in range(len(bias))}
    for h, label in zip(hidden(known), y, strict=True):
        if np.argmax(logits(h, weight, bias)) == label:
            right[label].append(h)
    patterns = {k: mean(rows) for k, rows in right.items()}
    return np.array(
        [h @ patterns[np.argmax(logits(h, weight, bias))] for h in hidden(new)]
    )


REFERENCES = {"SHE": scores}
