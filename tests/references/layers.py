"""Detectors of layers, one row at a time."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import logsumexp
from sklearn.covariance import oas


def gaussian_mixture(known, y, new, layers=None, shrinkage="oas"):
    scores = np.zeros(len(new))
    for layer in layers or [n for n in known.layers if n != "logits"]:
        x, rows = known.block(layer, "avg"), new.block(layer, "avg")
        logs = []
        for k in np.unique(y):
            own = x[y == k]
            mean, s = own.mean(axis=0), np.cov(own.T, bias=True)
            if shrinkage == "oas":
                s, _ = oas(own)
            else:
                level = np.trace(s) / len(s)
                s = (1 - shrinkage) * s + shrinkage * level * np.eye(len(s))
            _, log_det = np.linalg.slogdet(2 * np.pi * s)
            distances = [(r - mean) @ np.linalg.solve(s, r - mean) for r in rows]
            logs.append(
                math.log(len(own) / len(x)) - 0.5 * (log_det + np.array(distances))
            )
        scores += logsumexp(logs, axis=0)
    return scores


def softmax(row):
    weights = [math.exp(z - max(row)) for z in row]
    return [w / math.fsum(weights) for w in weights]


def gram(known, y, new, layers=None):
    predicted = known.block("logits").argmax(axis=1)
    totals = np.zeros(len(new))

    def deviation(row, others, small):
        total = 0.0
        for value, column in zip(row, np.transpose(others), strict=True):
            low, high = min(column), max(column)
            total += max(low - value, 0) / abs(low + small)
            total += max(value - high, 0) / abs(high + small)
        return total

    for layer in layers or [n for n in known.layers if n != "logits"]:
        values, rows = known.block(layer, "gram"), new.block(layer, "gram")
        small = 1e-6 * max(abs(values.min()), abs(values.max()))
        own = []
        for i, k in enumerate(predicted):
            others = [v for j, v in enumerate(values) if predicted[j] == k and j != i]
            own.append(deviation(values[i], others, small))
        for i, logits in enumerate(new.block("logits")):
            others = values[predicted == np.argmax(logits)]
            totals[i] += deviation(rows[i], others, small) / np.mean(own)
    best = [max(softmax(row)) for row in new.block("logits")]
    return -totals / np.array(best)


def activation_prior(known, y, new, layers=None, energy_weight=0.0):
    names = layers or [n for n in new.layers if n != "logits"]
    scores = []
    for i, logits in enumerate(new.block("logits")):
        priors = []
        for name in names:
            peaks, means = new.block(name, "max")[i], new.block(name, "avg")[i]
            ratios = [
                m / a if a > 0 else 0.0 for m, a in zip(peaks, means, strict=True)
            ]
            priors.append(math.fsum(ratios) / len(ratios))
        prior = math.fsum(priors) / len(priors)
        energy = logsumexp(logits)
        scores.append(energy**energy_weight * prior ** (1 - energy_weight))
    return np.array(scores)


def concept_matching(known, y, new, layers, negatives=None, groups=1, temperature=1.0):
    texts = known.head.weight / np.linalg.norm(known.head.weight, axis=1)[:, None]
    scores = []
    for v in new.block(layers, "avg"):
        v = v / math.sqrt(math.fsum(v**2))
        if negatives is None:
            scores.append(max(softmax([v @ t / temperature for t in texts])))
            continue
        words = np.array(negatives)
        words = words / np.linalg.norm(words, axis=1)[:, None]
        size = len(words) // groups
        drawn = np.random.default_rng(0).permutation(len(words))
        parts = []
        for g in range(groups):
            group = words[drawn[g * size : (g + 1) * size]]
            p = softmax([v @ t / 0.01 for t in [*texts, *group]])
            parts.append(math.fsum(p[: len(texts)]))
        scores.append(math.fsum(parts) / groups)
    return np.array(scores)


REFERENCES = {
    "ActivationPrior": activation_prior,
    "ConceptMatching": concept_matching,
    "GaussianMixtureDetector": gaussian_mixture,
    "Gram": gram,
}
