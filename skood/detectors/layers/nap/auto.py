"""NAP's own choice of layers, statistics and percentiles, by outliers given to fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skood.features import Key

__all__ = [
    "PERCENTILES",
    "STATISTICS",
    "LayerChoice",
    "best_threshold",
    "searched_layers",
    "tail_cap",
    "width_factor",
]

STATISTICS = ("max", "avg")
PERCENTILES = (10.0, 30.0, 50.0, 70.0, 90.0)

Bits = NDArray[np.float64]
DistancesOf = Callable[[str, str, float], tuple[Bits, Bits]]


class LayerChoice(NamedTuple):
    """One layer as NAP uses it.

    Parameters
    ----------
    layer, statistic : str
        The block of features.
    percentile : float
        Above which an activation sets its bit.
    threshold : float
        The largest distance, in bits, that is still in-distribution in a vote.
    accuracy : float
        Balanced accuracy of the threshold on the outliers given to ``fit``; nan when
        there were none.
    """

    layer: str
    statistic: str
    percentile: float
    threshold: float = np.nan
    accuracy: float = np.nan


def width_factor(percentile: float) -> float:
    r"""Return kappa, which makes distances at different percentiles comparable.

    It is :math:`\sqrt{1 / \min(q, 1 - q)}` for the quantile q: patterns with few bits
    set, or few not set, are near to each other.

    Parameters
    ----------
    percentile : float
        In (0, 100).

    Returns
    -------
    float

    Examples
    --------
    >>> from skood.detectors.layers.nap.auto import width_factor
    >>> [round(width_factor(percentile), 3) for percentile in (10, 30, 50, 70, 90)]
    [3.162, 1.826, 1.414, 1.826, 3.162]
    """
    share = percentile / 100
    return float(np.sqrt(1 / min(share, 1 - share)))


def tail_cap(known: Bits, contamination: float) -> float:
    """Return the threshold that at most ``contamination`` of known distances exceed.

    Parameters
    ----------
    known : ndarray of shape (n,)
        Distances of in-distribution rows; what breaks ties in them is dropped.
    contamination : float
        Share of them that may be above, about.

    Returns
    -------
    float
        The quantile, rounded down to whole bits.
    """
    return float(np.floor(np.quantile(np.floor(known), 1 - contamination)))


def best_threshold(known: Bits, unlike: Bits) -> tuple[float, float]:
    """Return the whole threshold with the best balanced accuracy, and that accuracy.

    Parameters
    ----------
    known, unlike : ndarray of shape (n,), (m,)
        Distances of in-distribution rows and of outliers; those above the threshold
        count as outliers.

    Returns
    -------
    threshold, accuracy : float
        The smallest of equally good thresholds.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.detectors.layers.nap.auto import best_threshold
    >>> best_threshold(np.array([1.0, 2.0, 2.0]), np.array([2.0, 5.0, 7.0, 8.0]))
    (2.0, 0.875)
    """
    both = np.concatenate([known, unlike])
    candidates = np.arange(both.min() - 1, both.max() + 1)
    accuracies = _balanced_accuracies(known, unlike, candidates)
    best = int(np.argmax(accuracies))
    return float(candidates[best]), float(accuracies[best])


def _balanced_accuracies(known: Bits, unlike: Bits, thresholds: Any) -> Any:
    kept = np.searchsorted(np.sort(known), thresholds, side="right")
    missed = np.searchsorted(np.sort(unlike), thresholds, side="right")
    # In whole numbers, so that equally good thresholds come out equal.
    lead = kept * len(unlike) - missed * len(known)
    return 0.5 + lead / (2 * len(known) * len(unlike))


def searched_layers(
    blocks: Sequence[Key],
    distances_of: DistancesOf,
    *,
    contamination: float,
    criterion: str,
    n_votes: int,
) -> tuple[list[LayerChoice], list[dict[str, Any]]]:
    """Return the layers that separate best, and how every configuration did.

    For each block, a percentile is chosen that has both a high accuracy and a small
    threshold; for each layer a statistic; then the most accurate layers are kept.

    Parameters
    ----------
    blocks : sequence of (layer, statistic)
        The candidates, the blocks of a layer next to each other.
    distances_of : callable
        From layer, statistic and percentile to the distances of in-distribution rows
        and of outliers.
    contamination : float
        The threshold is lowered to the distance that this share of in-distribution rows
        exceeds, if that is smaller.
    criterion : {"accuracy", "threshold"}
        Whether the more accurate statistic is taken, or that of the smaller threshold.
    n_votes : int
        Layers to keep, at most.

    Returns
    -------
    layers : list of LayerChoice
        In the order of the blocks.
    report : list of dict
        One of each configuration: its names, threshold, accuracy, scaled threshold,
        score, and whether it is kept.
    """
    report: list[dict[str, Any]] = []
    best: list[dict[str, Any]] = []
    for layer, statistic in blocks:
        rows = [
            _tried(
                (layer, statistic, p), distances_of(layer, statistic, p), contamination
            )
            for p in PERCENTILES
        ]
        _add_scores(rows)
        report += rows
        best.append(max(rows, key=lambda row: row["score"]))
    pooled = [
        _best_statistic(list(rows), criterion)
        for _, rows in groupby(best, key=lambda row: row["layer"])
    ]
    kept = sorted(pooled, key=lambda row: -row["accuracy"])[:n_votes]
    for row in report:
        row["kept"] = any(row is one for one in kept)
    fields = LayerChoice._fields
    chosen = [LayerChoice(*(row[f] for f in fields)) for row in pooled if row["kept"]]
    return chosen, report


def _tried(
    configuration: tuple[str, str, float],
    distances: tuple[Bits, Bits],
    contamination: float,
) -> dict[str, Any]:
    layer, statistic, percentile = configuration
    known, unlike = distances
    threshold, accuracy = best_threshold(known, unlike)
    cap = tail_cap(known, contamination)
    if cap < threshold:
        threshold = cap
        accuracy = float(_balanced_accuracies(known, unlike, cap))
    factor = width_factor(percentile)
    return {
        "layer": layer,
        "statistic": statistic,
        "percentile": percentile,
        "threshold": threshold,
        "accuracy": accuracy,
        "scaled_threshold": (threshold + factor) * factor,
    }


def _add_scores(rows: list[dict[str, Any]]) -> None:
    """Rate the percentiles of one block: accurate ones of small scaled threshold."""
    largest = max(row["scaled_threshold"] for row in rows)
    for row in rows:
        below = abs(row["scaled_threshold"] - largest) / largest
        row["score"] = (row["accuracy"] - 0.5) * (0.1 + below)


def _best_statistic(rows: list[dict[str, Any]], criterion: str) -> dict[str, Any]:
    """Return the better of a layer's statistics; ``"avg"`` if they are equal."""
    ordered = sorted(rows, key=lambda row: row["statistic"] != "avg")
    if criterion == "accuracy":
        return max(ordered, key=lambda row: row["accuracy"])
    return min(ordered, key=lambda row: row["threshold"])
