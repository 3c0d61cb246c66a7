"""The k-th nearest neighbour as plain loops over pairs of rows."""

from __future__ import annotations

import numpy as np


def scores(X_train, X, k, normalize=True):
    if normalize:
        X_train = [x / np.linalg.norm(x) for x in X_train]
        X = [x / np.linalg.norm(x) for x in X]
    return np.array(
        [-sorted(np.linalg.norm(x - row) for row in X_train)[k - 1] for x in X]
    )


def is_table(rows):
    """The signs that are stated for normalize="auto", column by column."""
    varying = [c for c in np.asarray(rows, dtype=float).T if np.ptp(c) > 0]
    if not varying or any((c == np.round(c)).all() for c in varying):
        return True
    widest = np.quantile([np.std(c) for c in varying], 0.95)
    counting = [c for c in varying if np.std(c) >= widest / 1000]
    if len(counting) < 16:
        return True
    return np.median([abs(np.mean(c)) / np.std(c) for c in counting]) <= 0.1


def neighbors(y):
    """What is stated for n_neighbors="auto"."""
    size = int(np.median(np.unique(y[y != -1], return_counts=True)[1]))
    return max(1, min(max(size // 10, 5), 50, size // 2))


def of_layers(known, y, new, n_neighbors="auto", statistic="avg", normalize="auto"):
    k = neighbors(y) if n_neighbors == "auto" else n_neighbors
    blocks = [known.block(*n) for n in known.block_names if n[1] == statistic]
    others = [new.block(*n) for n in new.block_names if n[1] == statistic]
    return sum(
        scores(x, z, k, not is_table(x) if normalize == "auto" else normalize)
        for x, z in zip(blocks, others, strict=True)
    )


REFERENCES = {"KNN": of_layers}
