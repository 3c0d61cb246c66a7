"""ActSub, row by row, with both parts taken apart axis by axis."""

from __future__ import annotations

import math

import numpy as np

from references.head_parts import (
    balanced_rows,
    energy,
    hidden,
    length,
    logits,
    mean,
    parameters_of,
)


def decisive_part(h, axes):
    return sum((h @ axis) * axis for axis in axes)


def best_number(rows, axes):
    leads = []
    for m in range(1, min(len(axes), len(axes[0]) - 1) + 1):
        parts = [decisive_part(h, axes[:m]) for h in rows]
        lead = [[length(p) - length(h - p)] for h, p in zip(rows, parts, strict=True)]
        leads.append(abs(mean(lead)[0]))
    return int(np.argmin(leads)) + 1


def decisive_energy(part, weight, bias, percentile):
    n_largest = max(len(part) - round(len(part) * percentile / 100), 1)
    largest = sum(sorted(part)[-n_largest:])
    factor = math.exp(sum(part) / largest) if largest > 0 else 1.0
    return energy(logits(factor * part, weight, bias))


def scores(
    known,
    y,
    new,
    n_neighbors=10,
    percentile=90.0,
    exponent=2.0,
    max_rows=10_000,
):
    weight, bias = parameters_of(new)
    _, values, axes = np.linalg.svd(weight, full_matrices=False)
    axes = axes[values > 1e-6 * values[0]]
    axes = axes[: best_number(hidden(known), axes)]
    kept = hidden(known)[balanced_rows(y, max_rows)]
    rests = [h - decisive_part(h, axes) for h in kept]
    found = []
    for h in hidden(new):
        part = decisive_part(h, axes)
        rest = h - part
        cosines = sorted(rest @ r / (length(rest) * length(r)) for r in rests)
        likeness = -math.log(min(1 - sum(cosines[-n_neighbors:]) / n_neighbors, 1))
        own = decisive_energy(part, weight, bias, percentile)
        found.append(own * likeness**exponent if own > 0 else own)
    return np.array(found)


REFERENCES = {"ActSub": scores}
