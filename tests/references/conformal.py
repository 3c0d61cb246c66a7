"""Conformal p-values, selections and test martingales as plain loops."""

from __future__ import annotations

from math import comb, log

import numpy as np


def p_value(calibration_scores, score):
    below = sum(1 for s in calibration_scores if s <= score)
    return (1 + below) / (len(calibration_scores) + 1)


def cross_p_value(held_out_scores, scores):
    """Each held-out row against the new row, under the detector that saw neither.

    ``held_out_scores`` is a list (detectors) of lists (rows); ``scores`` has the new
    row's score by each detector.
    """
    below = n = 0
    for known, score in zip(held_out_scores, scores, strict=True):
        for s in known:
            n += 1
            below += s <= score
    return (1 + below) / (n + 1)


def benjamini_hochberg(p_values, fdr):
    """The rows with a p-value up to that of the last rank r with p <= fdr r / m."""
    m, cut = len(p_values), -1.0
    for rank, p in enumerate(sorted(p_values), start=1):
        if p <= fdr * rank / m * (1 + 1e-12):
            cut = p
    return [bool(p <= cut) for p in p_values]


def benjamini_yekutieli(p_values, fdr):
    m = len(p_values)
    return benjamini_hochberg(p_values, fdr / sum(1 / i for i in range(1, m + 1)))


def probability_below(bounds):
    """P(U_(1) <= b_1, ..., U_(n) <= b_n) for sorted uniforms, exactly.

    From bound to bound, the distribution of how many of n points lie below.
    """
    n = len(bounds)
    chance = np.zeros(n + 1)
    chance[0], last = 1.0, 0.0
    for needed, bound in enumerate(bounds, start=1):
        step = 1.0 if last >= 1 else (bound - last) / (1 - last)
        after = np.zeros(n + 1)
        for count in range(n + 1):
            for more in range(n - count + 1):
                if count + more >= needed:
                    rest = n - count
                    jump = comb(rest, more) * step**more * (1 - step) ** (rest - more)
                    after[count + more] += chance[count] * jump
        chance, last = after, bound
    return chance.sum()


def online_p_values(calibration_scores, stream, draws):
    """The randomised rank of each score among all up to it."""
    seen, p_values = list(calibration_scores), []
    for score, draw in zip(stream, draws, strict=True):
        seen.append(score)
        below = sum(1 for s in seen if s < score)
        equal = sum(1 for s in seen if s == score)
        p_values.append((below + draw * equal) / len(seen))
    return p_values


def log_mixture(p_values, powers):
    """Log capital after each p-value: all starting times, all bets, one by one."""
    path = []
    for t in range(1, len(p_values) + 1):
        capital = 1 / (t + 1)
        for start in range(1, t + 1):
            for power in powers:
                for small in (True, False):
                    gain = 1.0
                    for p in p_values[start - 1 : t]:
                        gain *= power * (p if small else 1 - p) ** (power - 1)
                    capital += gain / (start * (start + 1)) / (2 * len(powers))
        path.append(log(capital))
    return path


def weighted_p_value(calibration_scores, weights, score, weight):
    """Each calibration row counts by its weight, the new row by its own."""
    below = sum(
        w for s, w in zip(calibration_scores, weights, strict=True) if s <= score
    )
    return (weight + below) / (weight + sum(weights))


def conformal_e_values(calibration_scores, scores, fdr):
    """From the threshold on the scores, not from p-values."""
    n = len(calibration_scores)
    p_values = [p_value(calibration_scores, score) for score in scores]
    chosen = benjamini_hochberg(p_values, fdr)
    if not any(chosen):
        return [0.0] * len(scores)
    threshold = max(s for s, is_chosen in zip(scores, chosen, strict=True) if is_chosen)
    below = sum(1 for s in calibration_scores if s <= threshold)
    return [(n + 1) / (1 + below) if s <= threshold else 0.0 for s in scores]


def e_benjamini_hochberg(e_values, fdr):
    """The largest set whose members all have at least m / (fdr * its size)."""
    m, best = len(e_values), 0
    for size in range(1, m + 1):
        smallest = sorted(e_values, reverse=True)[size - 1]
        if smallest >= m / (fdr * size) * (1 - 1e-12):
            best = size
    if best == 0:
        return [False] * m
    smallest = sorted(e_values, reverse=True)[best - 1]
    return [bool(e >= smallest) for e in e_values]


def rate_capital(flagged, low, high, odds):
    """Capital after each row: all starting times, all bets, one by one."""
    bets = [(high, f) for f in odds] if high < 1 else []
    bets += [(low, 1 / f) for f in odds] if low > 0 else []
    path = []
    for t in range(1, len(flagged) + 1):
        capital = 1 / (t + 1)
        for start in range(1, t + 1):
            for rate, factor in bets:
                q = factor * rate / (1 - rate)
                q /= 1 + q
                gain = 1.0
                for flag in flagged[start - 1 : t]:
                    gain *= q / rate if flag else (1 - q) / (1 - rate)
                capital += gain / (start * (start + 1)) / len(bets)
        path.append(capital)
    return path
