"""Detectors of layers, one row at a time."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import logsumexp
from sklearn.covariance import oas

from skood._splits import share


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
    held_out = set(share(len(known), 0.1).tolist())
    predicted = known.block("logits").argmax(axis=1)
    totals = np.zeros(len(new))
    for layer in layers or [n for n in known.layers if n != "logits"]:
        values, rows = known.block(layer, "gram"), new.block(layer, "gram")
        ranges = {}
        for k in np.unique(predicted):
            own = [
                values[i]
                for i in range(len(values))
                if predicted[i] == k and i not in held_out
            ]
            ranges[k] = np.min(own, axis=0), np.max(own, axis=0)
        small = 1e-6 * max(abs(end).max() for both in ranges.values() for end in both)

        def deviation(row, k, ranges=ranges, small=small):
            total = 0.0
            for value, low, high in zip(row, *ranges[k], strict=True):
                total += max(low - value, 0) / abs(low + small)
                total += max(value - high, 0) / abs(high + small)
            return total

        mean = np.mean([deviation(values[i], predicted[i]) for i in held_out])
        for i, row in enumerate(rows):
            totals[i] += deviation(row, int(np.argmax(new.block("logits")[i]))) / mean
    best = [max(softmax(row)) for row in new.block("logits")]
    return -totals / np.array(best)


def activation_prior(known, y, new, layers=None, energy_weight=0.0):
    names = [layers] if layers else [n for n in new.layers if n != "logits"]
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


def concept_matching(known, y, new, layers, negatives=None, groups=1):
    texts = known.head.weight / np.linalg.norm(known.head.weight, axis=1)[:, None]
    scores = []
    for v in new.block(layers, "avg"):
        v = v / math.sqrt(math.fsum(v**2))
        if negatives is None:
            scores.append(max(softmax([v @ t for t in texts])))
            continue
        words = np.array(negatives)
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
