"""NAP as plain loops over rows, patterns and thresholds."""

from __future__ import annotations

from fractions import Fraction

import numpy as np


def percentile_of(values, percentile):
    """Linear interpolation between order statistics, in exact arithmetic."""
    ordered = sorted(Fraction(float(value)) for value in values)
    place = Fraction(percentile) * (len(ordered) - 1) / 100
    lower = int(place)
    upper = min(lower + 1, len(ordered) - 1)
    return ordered[lower] + (place - lower) * (ordered[upper] - ordered[lower])


def pattern(row, percentile):
    level = percentile_of(row, percentile)
    return tuple(Fraction(float(value)) > level and value > 0 for value in row)


def hamming(one, other):
    return sum(a != b for a, b in zip(one, other, strict=True))


def nearest(one, patterns, n_bits):
    return min((hamming(one, other) for other in patterns), default=n_bits)


def patterns(X, percentile):
    return [pattern(row, percentile) for row in X]


def distances(X_train, stored, X, looked_up, percentile):
    """Distances to the patterns stored under the label that is looked up."""
    known = list(zip(patterns(X_train, percentile), stored, strict=True))
    return np.array(
        [
            nearest(own, {p for p, label in known if label == wanted}, len(own))
            for own, wanted in zip(patterns(X, percentile), looked_up, strict=True)
        ]
    )


def left_out_distances(X_train, stored, looked_up, percentile):
    """Distances of training rows to the patterns of all others."""
    known = patterns(X_train, percentile)
    found = []
    for i, own in enumerate(known):
        others = {
            known[j] for j in range(len(known)) if j != i and stored[j] == looked_up[i]
        }
        found.append(nearest(own, others, len(own)))
    return np.array(found)


def cosine(one, other):
    length = np.linalg.norm(one) * np.linalg.norm(other)
    return one @ other / length if length > 1e-6 else 0.0


def angles(X_train, labels, X, looked_up):
    """(1 - cosine) / 2 with the mean direction of the class, or the nearest one."""
    directions = {
        label: sum(
            x / np.linalg.norm(x)
            for x, own in zip(X_train, labels, strict=True)
            if own == label
        )
        for label in set(labels)
    }
    found = []
    for row, wanted in zip(X, looked_up, strict=True):
        if wanted is None:
            best = max(cosine(row, direction) for direction in directions.values())
        elif wanted in directions:
            best = cosine(row, directions[wanted])
        else:
            best = 0.0
        found.append((1 - best) / 2)
    return np.array(found)


def kappa(percentile):
    share = percentile / 100
    return np.sqrt(1 / abs(share - np.rint(share)))


def summed(layer_distances, thresholds, percentiles, widths, constant=0.0):
    """S: positive for outliers. The constant cancels."""
    total = 0.0
    for d, tau, p, width in zip(
        layer_distances, thresholds, percentiles, widths, strict=True
    ):
        factor = kappa(p) * max(widths) / width
        total = total + (d + constant) * factor - (tau + constant) * factor
    return total


def outvoted(layer_distances, thresholds):
    """Whether more than half of the layers vote that a row is an outlier."""
    votes = [
        [d > tau for d in of_layer]
        for of_layer, tau in zip(layer_distances, thresholds, strict=True)
    ]
    return np.array([2 * sum(row) > len(row) for row in zip(*votes, strict=True)])


def accuracy(known, unlike, tau):
    kept = Fraction(sum(int(d <= tau) for d in known), len(known))
    caught = Fraction(sum(int(d > tau) for d in unlike), len(unlike))
    return (kept + caught) / 2


def configuration(distances_of, blocks, contamination, criterion, n_votes):
    """The automatic configuration: blocks are {layer: [statistics]}."""
    chosen = []
    for layer, statistics in blocks.items():
        by_statistic = {}
        for statistic in statistics:
            tried = []
            for p in (10, 30, 50, 70, 90):
                known, unlike = distances_of(layer, statistic, p)
                lowest = int(min(*known, *unlike)) - 1
                scan = range(lowest, int(max(*known, *unlike)) + 1)
                tau = max(scan, key=lambda t, k=known, u=unlike: accuracy(k, u, t))
                tau = min(tau, int(np.floor(np.quantile(known, 1 - contamination))))
                tried.append((p, tau, accuracy(known, unlike, tau)))
            scaled = [(tau + kappa(p)) * kappa(p) for p, tau, _ in tried]
            scores = [
                (float(acc) - 0.5) * (0.1 + abs(s - max(scaled)) / max(scaled))
                for (_, _, acc), s in zip(tried, scaled, strict=True)
            ]
            by_statistic[statistic] = tried[int(np.argmax(scores))]
        best = "avg" if "avg" in by_statistic else "max"
        for statistic, (_, tau, acc) in by_statistic.items():
            _, best_tau, best_acc = by_statistic[best]
            better = acc > best_acc if criterion == "accuracy" else tau < best_tau
            best = statistic if better else best
        chosen.append((layer, best, *by_statistic[best]))
    kept = sorted(chosen, key=lambda c: c[-1], reverse=True)[:n_votes]
    return [c for c in chosen if c in kept]
