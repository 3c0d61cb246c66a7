"""Small made-up layer features in which every method's assumption holds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from skood.features import LOGITS, LayerFeatures, LinearHead

N_CLASSES = 3
WIDTHS = {"layer1": 12, "layer2": 16, "penultimate": 10}


def synthetic_features(
    n_inliers: int = 240, n_outliers: int = 60, *, random_state: int = 0
) -> tuple[LayerFeatures, NDArray[np.intp]]:
    """Return layer features of an imagined network, and their labels.

    In-distribution rows have their class's pattern of active units, a large norm and a
    clear winner among the logits; outliers have a pattern of no class, a smaller norm,
    flatter maps and flat logits. The jigsaw views of in-distribution rows look like
    outliers in the deepest layer.

    Parameters
    ----------
    n_inliers, n_outliers : int
        Rows of each kind; the outliers come last.
    random_state : int, default=0
        Seed of the rows; the imagined network is always the same.

    Returns
    -------
    features : LayerFeatures
        Three layers with the statistics avg, max, l2, lse and gram (of two powers),
        logits, a head, and a paired view named ``"jigsaw"``; float64.
    y : ndarray of shape (n_inliers + n_outliers,)
        Classes 0 to 2, and -1.

    Examples
    --------
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features(4, 2)
    >>> features.layers
    ['layer1', 'layer2', 'penultimate', 'logits']
    >>> (y == -1).tolist()
    [False, False, False, False, True, True]
    """
    rng = np.random.default_rng([random_state, 1])
    n = n_inliers + n_outliers
    y = np.concatenate(
        [rng.permutation(np.arange(n_inliers) % N_CLASSES), np.full(n_outliers, -1)]
    )
    noise = {layer: rng.normal(size=(n, width)) for layer, width in WIDTHS.items()}
    head = LinearHead(2.0 * _patterns("penultimate")[:-1], np.zeros(N_CLASSES))
    jigsaw = _blocks(np.full(n, -1), noise, head, strength=0.8)
    features = LayerFeatures(
        _blocks(y, noise, head), head=head, views={"jigsaw": LayerFeatures(jigsaw)}
    )
    return features, y


def gram_of_one_position(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the row sums of the Gram matrices of powers 1 and 2 of (d, 1) maps."""
    sums = [np.abs(x).sum(axis=1), np.sqrt((x**2).sum(axis=1))]
    return np.hstack([x * total[:, None] for total in sums])


def _patterns(layer: str) -> NDArray[np.float64]:
    """Return the active units of each class and, last, of what is no class."""
    rng = np.random.default_rng(list(WIDTHS).index(layer))
    width = WIDTHS[layer]
    order = rng.permutation(width)
    patterns = np.zeros((N_CLASSES + 1, width))
    for row, units in enumerate(np.array_split(order, N_CLASSES + 1)):
        patterns[row, units] = 1.0
    return patterns


def _blocks(
    y: NDArray[np.intp],
    noise: dict[str, NDArray[np.float64]],
    head: LinearHead,
    strength: float = 0.6,
) -> dict[str | tuple[str, str], Any]:
    blocks: dict[str | tuple[str, str], Any] = {}
    for layer in WIDTHS:
        level = np.where(y >= 0, 2.0, strength)[:, None]
        raw = level * _patterns(layer)[y] + 0.15 * noise[layer]
        active = np.maximum(raw, 0)
        blocks[layer, "avg"] = active
        peak = np.where(y >= 0, 1.5, 1.2)[:, None] + 0.1 * np.tanh(noise[layer])
        blocks[layer, "max"] = peak * active
        blocks[layer, "l2"] = 4.0 * active
        blocks[layer, "lse"] = logsumexp(4.0 * raw, axis=1, keepdims=True)
        blocks[layer, "gram"] = gram_of_one_position(active)
    blocks[LOGITS, LOGITS] = head.logits(blocks["penultimate", "avg"])
    return blocks
