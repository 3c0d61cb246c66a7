"""WeiPer, copy by copy and bin by bin."""

from __future__ import annotations

import math

import numpy as np

from references.head_parts import hidden, length, logits, parameters_of, softmax


def copies(weight, n_copies, perturbation, seed):
    rng = np.random.default_rng(seed)
    for _ in range(n_copies):
        noise = rng.normal(size=weight.shape)
        yield np.array(
            [
                w + perturbation * length(w) * n / length(n)
                for w, n in zip(weight, noise, strict=True)
            ]
        )


def histogram(values, low, high, n_bins):
    shares = np.zeros(n_bins)
    for v in values:
        if low <= v <= high:
            shares[min(int((v - low) * n_bins / (high - low)), n_bins - 1)] += 1
    return shares / len(values)


def smoothed(shares, width):
    before, last = (width - 1) // 2, len(shares) - 1
    return np.array(
        [
            sum(shares[min(max(i - before + j, 0), last)] for j in range(width)) / width
            for i in range(len(shares))
        ]
    )


def divergence(p, q, floor):
    p, q = (p + floor) / sum(p + floor), (q + floor) / sum(q + floor)
    return sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True))


def scores(
    known,
    y,
    new,
    perturbation=2.1,
    n_copies=100,
    copies_weight=1.0,
    msp_weight=1.0,
    n_bins=100,
    smoothing=20,
    copies_smoothing=20,
    random_state=0,
):
    weight, bias = parameters_of(new)
    heads = list(copies(weight, n_copies, perturbation, random_state))

    def spaces(h):
        return h, np.concatenate([logits(h, w, bias) for w in heads])

    train = [spaces(h) for h in hidden(known)]
    limits = [
        (min(map(min, values)), max(map(max, values)))
        for values in zip(*train, strict=True)
    ]

    def histograms(h):
        pairs = zip(spaces(h), limits, strict=True)
        return [histogram(values, *limit, n_bins) for values, limit in pairs]

    of_train = [
        np.mean(found, axis=0)
        for found in zip(*map(histograms, hidden(known)), strict=True)
    ]
    found = []
    for h in hidden(new):
        own, of_copies = histograms(h)
        msp = np.mean([max(softmax(logits(h, w, bias))) for w in heads])
        found.append(
            -divergence(of_train[0], smoothed(own, smoothing), 0.01)
            - copies_weight
            * divergence(of_train[1], smoothed(of_copies, copies_smoothing), 0.025)
            + msp_weight * msp
        )
    return np.array(found)


REFERENCES = {"WeiPer": scores}
