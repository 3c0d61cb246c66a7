"""AMP as plain loops: Anirudh and Thiagarajan, ACML 2022, figure 3 and Eqs. 1 and 2."""

from __future__ import annotations

import math
import statistics

import torch


def logits_from_anchors(network, x, anchors):
    """The logits of one input from the side of each anchor, one forward at a time."""
    rows = []
    with torch.no_grad():
        for anchor in anchors:
            pair = torch.cat([anchor, x - anchor], dim=0)
            rows.append(network(pair[None])[0].tolist())
    return rows


def amp_score(logits, temperature="exp"):
    """The score of one input; ``logits`` has a list over classes for each anchor."""
    n_classes = len(logits[0])
    columns = [[row[c] for row in logits] for c in range(n_classes)]
    mean = [sum(column) / len(column) for column in columns]
    deviations = [
        statistics.stdev(1 / (1 + math.exp(-value)) for value in column)
        for column in columns
    ]
    if temperature == "exp":
        tau = 1 + math.exp(sum(deviations) / n_classes)
    else:
        tau = sum(deviations) + 1e-6
    z = [value / tau for value in mean]
    total = sum(math.exp(value - max(z)) for value in z)
    log_softmax = [value - max(z) - math.log(total) for value in z]
    return -sum(log_softmax) / n_classes
