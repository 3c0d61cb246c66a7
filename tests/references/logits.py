"""Scores of logits, one row and one class at a time."""

from __future__ import annotations

import math

import numpy as np


def msp(logits):
    return np.array([max(_softmax(row)) for row in logits])


def max_logit(logits):
    return np.array([max(row) for row in logits])


def energy(logits, temperature=1.0):
    return np.array(
        [
            temperature * math.log(math.fsum(math.exp(z / temperature) for z in row))
            for row in logits
        ]
    )


def gen(logits, gamma=0.1, n_largest=100):
    scores = []
    for row in logits:
        weights = sorted((math.exp(z - max(row)) for z in row), reverse=True)
        total = math.fsum(weights)
        terms = []
        for place, weight in enumerate(weights[:n_largest]):
            others = math.fsum(weights[:place] + weights[place + 1 :])
            terms.append((weight / total * others / total) ** gamma)
        scores.append(-math.fsum(terms))
    return np.array(scores)


def _softmax(row):
    total = math.fsum(math.exp(z) for z in row)
    return [math.exp(z) / total for z in row]


REFERENCES = {
    "GEN": lambda known, y, new, **parameters: gen(new.block("logits"), **parameters),
    "MSP": lambda known, y, new: msp(new.block("logits")),
    "MaxLogit": lambda known, y, new: max_logit(new.block("logits")),
    "Energy": lambda known, y, new, **parameters: energy(
        new.block("logits"), **parameters
    ),
}
