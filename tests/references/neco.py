"""NECO, with a projection on each axis in turn."""

from __future__ import annotations

import numpy as np

from references.head_parts import hidden, holding, length, logits, parameters_of


def scores(known, y, new, n_components=0.9, max_logit=False):
    rows = hidden(known)
    centre, scale = rows.mean(axis=0), rows.std(axis=0)
    x = (rows - centre) / scale
    values, axes = np.linalg.eigh(sum(np.outer(row, row) for row in x) / len(x))
    order = np.argsort(-values)
    if isinstance(n_components, float):
        n_components = holding(n_components, values[order])
    found = []
    for h in hidden(new):
        row = (h - centre) / scale
        share = length([axes[:, i] @ row for i in order[:n_components]]) / length(row)
        best = max(logits(h, *parameters_of(new))) if max_logit else 1.0
        found.append(share * best if best > 0 else best)
    return np.array(found)


REFERENCES = {"NECO": scores}
