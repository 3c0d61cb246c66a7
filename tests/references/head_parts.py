"""What the references of the head's room have in common, in loops."""

from __future__ import annotations

import math

import numpy as np


def hidden(features):
    return np.asarray(features.block("penultimate", "avg"), dtype=np.float64)


def parameters_of(features):
    head = features.head
    return np.asarray(head.weight, float), np.asarray(head.bias, float)


def logits(h, weight, bias):
    return np.array(
        [
            math.fsum(w * x for w, x in zip(row, h, strict=True)) + b
            for row, b in zip(weight, bias, strict=True)
        ]
    )


def energy(z):
    top = max(z)
    return top + math.log(math.fsum(math.exp(v - top) for v in z))


def softmax(z):
    top = max(z)
    total = math.fsum(math.exp(v - top) for v in z)
    return np.array([math.exp(v - top) / total for v in z])


def mean(rows):
    return np.array([math.fsum(column) / len(rows) for column in np.transpose(rows)])


def length(x):
    return math.sqrt(math.fsum(v * v for v in x))


def rows_by(h, classes):
    return {
        k: [x for x, c in zip(h, classes, strict=True) if c == k]
        for k in sorted(set(classes))
    }


def holding(share, values):
    """How many of the values, the largest first, add up to the share of all."""
    number, held = 0, 0.0
    while held < share:
        held += values[number] / sum(values)
        number += 1
    return number


def balanced_rows(y, size, seed=0):
    """The rows drawn from the classes by turns, in their order."""
    if len(y) <= size:
        return list(range(len(y)))
    drawn = [int(i) for i in np.random.default_rng(seed).permutation(len(y))]
    of_class = {k: [i for i in drawn if y[i] == k] for k in set(y)}
    turns = sorted(drawn, key=lambda i: (of_class[y[i]].index(i), drawn.index(i)))
    return sorted(turns[:size])
