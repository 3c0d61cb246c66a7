"""Features reshaped, then the energy of their logits, one row at a time."""

from __future__ import annotations

import math

import numpy as np


def energies(features, shape):
    """Return the energy of every row after ``shape`` has changed its features."""
    head = features.head
    scores = []
    for row in features.block("penultimate"):
        new = shape(np.array(row))
        logits = [
            float(w @ new + b) for w, b in zip(head.weight, head.bias, strict=True)
        ]
        scores.append(log_sum_exp(logits))
    return np.array(scores)


def log_sum_exp(row):
    return max(row) + math.log(math.fsum(math.exp(z - max(row)) for z in row))


def most_active(row, percentile):
    """Return the largest of the activations that are not negative."""
    count = max(1, len(row) - round(len(row) * percentile / 100))
    return sorted((max(h, 0.0) for h in row), reverse=True)[:count]


def react(known, y, new, percentile=90):
    limit = np.percentile(known.block("penultimate"), percentile)
    return energies(new, lambda row: [min(h, limit) for h in row])


def scale(known, y, new, percentile=None, transform="exp"):
    if percentile is None:
        percentile = {"exp": 85, "square": 95}[transform]
    head = new.head
    scores = []
    for row in new.block("penultimate"):
        ratio = math.fsum(max(h, 0) for h in row)
        ratio /= math.fsum(most_active(row, percentile))
        logits = []
        for w, b in zip(head.weight, head.bias, strict=True):
            z = math.fsum(w * row)
            logits.append(
                z * math.exp(ratio) + b if transform == "exp" else (z + b) * ratio**2
            )
        scores.append(log_sum_exp(logits))
    return np.array(scores)


def ash(known, y, new, percentile=90, variant="S"):
    def shape(row):
        kept = most_active(row, percentile)
        least, before, after = min(kept), math.fsum(row), math.fsum(kept)
        active = [h >= least and h > 0 for h in row]
        if variant == "B":
            return [a * before / sum(active) for a in active]
        factor = math.exp(before / after) if variant == "S" else 1.0
        return [a * h * factor for a, h in zip(active, row, strict=True)]

    return energies(new, lambda row: np.array(shape(row)))


def vra(known, y, new, low_percentile=60, high_percentile=90, low="zero"):
    h = known.block("penultimate")
    lower, upper = np.percentile(h, low_percentile), np.percentile(h, high_percentile)
    under = 0.0 if low == "zero" else lower

    def shape(row):
        return [under if h < lower else min(h, upper) for h in row]

    return energies(new, shape)


def ras(known, y, new):
    ordered = [sorted(row) for row in known.block("penultimate")]
    profile = np.mean(ordered, axis=0)

    def shape(row):
        shaped = np.empty(len(row))
        by_size = sorted(range(len(row)), key=lambda j: row[j])
        for rank, unit in enumerate(by_size):
            shaped[unit] = profile[rank]
        return shaped

    return energies(new, shape)


def dice(known, y, new, percentile=90):
    mean = np.mean(known.block("penultimate"), axis=0)
    contributions = new.head.weight * mean
    limit = np.percentile(contributions, percentile)
    scores = []
    for row in new.block("penultimate"):
        logits = [
            math.fsum(w * h for w, h, c in zip(*parts, strict=True) if c > limit) + b
            for *parts, b in zip_with(row, new.head, contributions)
        ]
        scores.append(log_sum_exp(logits))
    return np.array(scores)


def zip_with(row, head, contributions):
    for weight, bias, shares in zip(head.weight, head.bias, contributions, strict=True):
        yield weight, row, shares, bias


def bats(known, y, new, n_std=2.0):
    h = known.block("penultimate")
    mean, std = np.mean(h, axis=0), np.std(h, axis=0)
    return energies(
        new, lambda row: np.clip(row, mean - n_std * std, mean + n_std * std)
    )


def line(known, y, new, percentile=90, unit_percentile=10, weight_percentile=10):
    head = new.head
    limit = np.percentile(known.block("penultimate"), percentile)

    def cut_off(row):
        h = np.array([min(entry, limit) for entry in row])
        return h, int(np.argmax(head.weight @ h + head.bias))

    members = [[] for _ in head.bias]
    for row in known.block("penultimate"):
        members[int(np.argmax(head.weight @ row + head.bias))].append(row)
    importance = [
        w * np.mean(rows, axis=0) for w, rows in zip(head.weight, members, strict=True)
    ]
    scores = []
    for row in new.block("penultimate"):
        h, c = cut_off(row)
        s = importance[c]
        h = h * (s > np.percentile(s, unit_percentile))
        shares = np.abs(s) * head.weight
        least = np.percentile(shares, weight_percentile)
        logits = [
            math.fsum(w[m > least] * h[m > least]) + b
            for w, m, b in zip(head.weight, shares, head.bias, strict=True)
        ]
        scores.append(log_sum_exp(logits))
    return np.array(scores)


def optfs(known, y, new, n_bins=100):
    h, head = known.block("penultimate"), new.head
    first, last = np.quantile(h, 0.001), np.quantile(h, 0.999)
    width = (last - first) / n_bins
    factors = np.zeros(n_bins)

    def place(entry):
        return math.floor((entry - first) / width)

    for row in h:
        own = head.weight[int(np.argmax(head.weight @ row + head.bias))]
        for w, entry in zip(own, row, strict=True):
            if 0 <= place(entry) < n_bins:
                factors[place(entry)] += w * entry
    factors *= 1000 / math.sqrt(math.fsum(factors**2))

    def shape(row):
        inside = [0 <= place(entry) < n_bins for entry in row]
        return [
            factors[place(entry)] * entry if known_size else 0.0
            for entry, known_size in zip(row, inside, strict=True)
        ]

    return energies(new, shape)


REFERENCES = {
    "ASH": ash,
    "BATS": bats,
    "DICE": dice,
    "LINe": line,
    "OptFS": optfs,
    "RAS": ras,
    "ReAct": react,
    "SCALE": scale,
    "VRA": vra,
}
