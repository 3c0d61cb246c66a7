"""Where expectation maximisation starts: k-means on a sample of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.cluster import kmeans_plusplus

from skood.mixtures.products import nearest_points
from skood.mixtures.rows import LayerRows
from skood.numerics.device import to_numpy

ROWS_PER_COMPONENT = 100
LEAST_ROWS = 10_000
SEED_SHARE = 5
"""One in so many of the sample's rows may become a first centre."""
MAX_ITER = 100
TOL = 1e-4


def start_points(
    rows: LayerRows, n_components: int, random_state: np.random.RandomState
) -> NDArray[np.float64]:
    """Return the centres that k-means finds on a seeded sample.

    A hundred rows a component, and ten thousand at least, say where the centres are;
    more rows only sharpen what the first EM passes do anyway.

    Parameters
    ----------
    rows : LayerRows
        All rows of a layer.
    n_components : int
        K, at most the number of rows.
    random_state : RandomState
        Draws the sample and the first centres.

    Returns
    -------
    ndarray of shape (K, d)
        Relative to the rows' frame.
    """
    size = max(LEAST_ROWS, ROWS_PER_COMPONENT * n_components)
    sample = to_numpy(rows.sample(size, random_state))
    few = max(n_components, len(sample) // SEED_SHARE)
    candidates = sample[random_state.choice(len(sample), few, replace=False)]
    centres, _ = kmeans_plusplus(
        candidates.astype(np.float64), n_components, random_state=random_state
    )
    return lloyd(sample, centres.astype(sample.dtype))


def lloyd(x: NDArray[Any], centres: NDArray[Any]) -> NDArray[np.float64]:
    """Return the centres after Lloyd's algorithm.

    Parameters
    ----------
    x : ndarray of shape (n, d)
        float32 or float64.
    centres : ndarray of shape (K, d)
        The first centres. One that loses all its rows stays where it is.

    Returns
    -------
    ndarray of float64, shape (K, d)
    """
    rows = np.arange(len(x))
    ones = np.ones(len(x), dtype=x.dtype)
    enough = TOL * x.var(axis=0).sum()
    for _ in range(MAX_ITER):
        nearest = nearest_points(x, centres)
        members = csr_array((ones, (nearest, rows)), (len(centres), len(x)))
        counts = np.bincount(nearest, minlength=len(centres))[:, None]
        means = (members @ x) / np.maximum(counts, 1)
        moved = np.where(counts > 0, means, centres).astype(x.dtype)
        shift = ((moved - centres) ** 2).sum()
        centres = moved
        if shift <= enough:
            break
    return centres.astype(np.float64)
