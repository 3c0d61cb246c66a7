"""Scores of logits, one row and one class at a time."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
from scipy.optimize import brentq


def msp(logits, temperature=1.0):
    return np.array([max(_softmax(row / temperature)) for row in logits])


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
    weights = [math.exp(z - max(row)) for z in row]
    return [w / math.fsum(weights) for w in weights]


def entropy(logits):
    return np.array([math.fsum(p * math.log(p) for p in _softmax(r)) for r in logits])


def doctor(logits, temperature=1.0):
    scores = []
    for row in logits:
        p = _softmax([z / temperature for z in row])
        pairs = permutations(p, 2)
        apart = math.fsum(a * b for a, b in pairs)
        scores.append(-apart / math.fsum(q * q for q in p))
    return np.array(scores)


def joint_energy(logits):
    return np.array([math.fsum(math.log1p(math.exp(z)) for z in row) for row in logits])


def kl_matching(known, new):
    def wide(row):  # probabilities near 1 need more digits than float64 has
        weights = np.exp(np.asarray(row, dtype=np.longdouble) - max(row))
        return weights / weights.sum()

    templates = {}
    for row in known:
        templates.setdefault(int(np.argmax(row)), []).append(wide(row))
    means = [np.mean(rows, axis=0) for rows in templates.values()]

    def divergence(p, q):
        return sum(a * np.log(a / b) for a, b in zip(p, q, strict=True))

    return np.array([float(-min(divergence(wide(z), q) for q in means)) for z in new])


def temperature(logits, y):
    """Return the temperature at which the slope of the cross-entropy is zero."""
    n, n_classes = logits.shape
    share = n_classes / (n + n_classes)

    def slope(sharpness):
        total = 0.0
        for row, label in zip(logits, y, strict=True):
            p = _softmax([z * sharpness for z in row])
            wanted = [
                share / n_classes + (1 - share) * (k == label) for k in range(n_classes)
            ]
            total += math.fsum(
                (a - b) * z for a, b, z in zip(p, wanted, row, strict=True)
            )
        return total

    return 1 / brentq(slope, 1e-6, 1e3, xtol=1e-15, rtol=1e-14)


def temperature_scaled_msp(known, y, new):
    return msp(new / temperature(known, y))


def open_max(known, y, new, n_revised=3, n_tail=20):
    n_classes = known.shape[1]
    means, fits = [], []
    for k in range(n_classes):
        rows = [
            z for z, c in zip(known, y, strict=True) if c == k and np.argmax(z) == k
        ]
        means.append(np.mean(rows, axis=0))
        tail = sorted(math.dist(z, means[k]) for z in rows)[-n_tail:]
        fits.append(_weibull(tail))
    scores = []
    for row in new:
        revised, unknown = list(row), 0.0
        count = min(n_revised, n_classes)
        for place, k in enumerate(
            sorted(range(n_classes), key=lambda k: -row[k])[:count]
        ):
            shape, scale = fits[k]
            beyond = 1 - math.exp(-((math.dist(row, means[k]) / scale) ** shape))
            lost = row[k] * beyond * (count - place) / count
            revised[k] -= lost
            unknown += lost
        scores.append(-_softmax([*revised, unknown])[-1])
    return np.array(scores)


def _weibull(tail):
    def equation(shape):
        powers = [(x / max(tail)) ** shape for x in tail]
        weighted = math.fsum(p * math.log(x) for p, x in zip(powers, tail, strict=True))
        mean = math.fsum(map(math.log, tail)) / len(tail)
        return weighted / math.fsum(powers) - 1 / shape - mean

    shape = brentq(equation, 1e-3, 1e4, xtol=1e-13, rtol=1e-14)
    return shape, (math.fsum(x**shape for x in tail) / len(tail)) ** (1 / shape)


def _of_logits(reference):
    return lambda known, y, new, **parameters: reference(
        new.block("logits"), **parameters
    )


def _learned(reference, labels=True):
    def scores(known, y, new, **parameters):
        given = (known.block("logits"), y) if labels else (known.block("logits"),)
        return reference(*given, new.block("logits"), **parameters)

    return scores


REFERENCES = {
    "DOCTOR": _of_logits(doctor),
    "Entropy": _of_logits(entropy),
    "JointEnergy": _of_logits(joint_energy),
    "KLMatching": _learned(kl_matching, labels=False),
    "OpenMax": _learned(open_max),
    "TemperatureScaledMSP": _learned(temperature_scaled_msp),
    "GEN": _of_logits(gen),
    "MSP": lambda known, y, new, **given: msp(new.block("logits"), **given),
    "MaxLogit": lambda known, y, new: max_logit(new.block("logits")),
    "Energy": lambda known, y, new, **parameters: energy(
        new.block("logits"), **parameters
    ),
}
