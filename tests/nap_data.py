"""Features of an imagined network for the tests of NAP."""

from __future__ import annotations

import numpy as np

from skood import LayerFeatures

N_CLASSES = 3
MIXED = [("layer0", "max", 30), ("layer1", "avg", 90), "layer1"]


def network(n=70, seed=0, widths=(9, 20)):
    """Two layers that mark the class, and logits that are sometimes wrong."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, N_CLASSES, n)
    blocks = {}
    for number, width in enumerate(widths):
        centre = np.random.default_rng(number).random((N_CLASSES, width)) < 0.4
        for statistic in ("max", "avg"):
            noise = rng.normal(0, 0.5, (n, width))
            blocks[f"layer{number}", statistic] = np.maximum(centre[y] + noise, 0)
    blocks["logits"] = 2 * np.eye(N_CLASSES)[y] + rng.normal(size=(n, N_CLASSES))
    return LayerFeatures(blocks), y


def predicted(features):
    return features.block("logits").argmax(axis=1)


def with_outliers(data, n=25, seed=5):
    known, y, _ = data
    odd, _ = network(n, seed)
    changed = {
        name: np.random.default_rng(seed).permuted(odd.block(*name), axis=1)
        for name in odd.block_names
    }
    changed["layer1", "avg"] = 2 * changed["layer1", "avg"]
    outliers = LayerFeatures(changed)
    features = LayerFeatures.concatenate([known, outliers])
    return features, np.concatenate([y, np.full(n, -1)]), outliers
