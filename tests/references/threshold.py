"""The threshold of a rate, from the definition."""

from __future__ import annotations

from fractions import Fraction


def kth_smallest(scores, rate):
    """The k-th smallest score, k the largest number with k / (n + 1) <= rate."""
    ordered = sorted(scores)
    rate = Fraction(str(rate))
    k = max(k for k in range(len(ordered) + 1) if Fraction(k, len(ordered) + 1) <= rate)
    return ordered[max(k, 1) - 1]
