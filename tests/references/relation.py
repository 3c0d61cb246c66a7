"""The relation graph, edge by edge."""

from __future__ import annotations

import numpy as np

from references.head_parts import (
    balanced_rows,
    hidden,
    length,
    logits,
    parameters_of,
    softmax,
)


def scores(known, y, new, power=1.0, cut=0.03, max_rows=10_000):
    weight, bias = parameters_of(new)
    rows = hidden(known)[balanced_rows(y, max_rows)]
    bank = [(h / length(h), softmax(logits(h, weight, bias))) for h in rows]
    found = []
    for h in hidden(new):
        x, p = h / length(h), softmax(logits(h, weight, bias))
        edges = [max(x @ other, 0) * (p @ likely) for other, likely in bank]
        found.append(sum(edge**power for edge in edges if edge > cut) / len(bank))
    return np.array(found)


REFERENCES = {"RelationGraph": scores}
