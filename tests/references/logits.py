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


def _softmax(row):
    total = math.fsum(math.exp(z) for z in row)
    return [math.exp(z) / total for z in row]


REFERENCES = {
    "MSP": lambda known, y, new: msp(new.block("logits")),
    "MaxLogit": lambda known, y, new: max_logit(new.block("logits")),
    "Energy": lambda known, y, new, **parameters: energy(
        new.block("logits"), **parameters
    ),
}
