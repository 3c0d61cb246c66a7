"""Made-up layer features as real ones often are: ill-conditioned, shifted, tied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.special import logsumexp

from skood.estimator_checks.synthetic import gram_of_one_position
from skood.features import LOGITS, LayerFeatures, LinearHead

__all__ = ["HARD", "hard_features"]

N_CLASSES = 4
Rows = NDArray[np.float64]


def _many_columns(rng: np.random.Generator, y: NDArray[np.intp]) -> Rows:
    """Twice as many columns as rows in 200."""
    return rng.normal(size=(len(y), 400)) + _means(y, 400)


def _half_as_many_columns(rng: np.random.Generator, y: NDArray[np.intp]) -> Rows:
    """Half as many columns as rows in 200."""
    return rng.normal(size=(len(y), 100)) + _means(y, 100)


def _decaying_spectrum(rng: np.random.Generator, y: NDArray[np.intp]) -> Rows:
    """Eigenvalues of the covariance from 1 down to 1e-12, in no column's direction."""
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(24, 24)))[0]
    return (
        (rng.normal(size=(len(y), 24)) + _means(y, 24)) * np.logspace(0, -6, 24) @ turn
    )


def _large_common_part(rng: np.random.Generator, y: NDArray[np.intp]) -> Rows:
    """A value of 1000 that all entries share, of which float32 keeps the variation."""
    return 1000 + rng.normal(size=(len(y), 12)) + _means(y, 12)


def _units_apart(rng: np.random.Generator, y: NDArray[np.intp]) -> Rows:
    """Columns whose units differ by 1e8."""
    return (rng.normal(size=(len(y), 12)) + _means(y, 12)) * np.logspace(-4, 4, 12)


def _constant_within_classes(rng: np.random.Generator, y: NDArray[np.intp]) -> Rows:
    """A column that tells the classes and does not vary within them."""
    rows = rng.normal(size=(len(y), 12)) + _means(y, 12)
    rows[:, 3] = y
    return rows


def _dead_columns(rng: np.random.Generator, y: NDArray[np.intp]) -> Rows:
    """Columns of zeros, as units that never fire leave."""
    rows = rng.normal(size=(len(y), 12)) + _means(y, 12)
    rows[:, 8:] = 0
    return rows


def _heavy_tails(rng: np.random.Generator, y: NDArray[np.intp]) -> Rows:
    """Student's t with 3 degrees of freedom, and classes of 1 to 60 per cent."""
    return rng.standard_t(3, size=(len(y), 12)) + _means(y, 12)


Make = Callable[[np.random.Generator, NDArray[np.intp]], Rows]

HARD: dict[str, Make] = {
    make.__name__.strip("_"): make
    for make in (
        _many_columns,
        _half_as_many_columns,
        _decaying_spectrum,
        _large_common_part,
        _units_apart,
        _constant_within_classes,
        _dead_columns,
        _heavy_tails,
    )
}
"""The cases; each is what its docstring says."""


def hard_features(
    case: str,
    n_rows: int = 200,
    *,
    positive: bool = False,
    dtype: DTypeLike = np.float64,
    random_state: int = 0,
) -> tuple[LayerFeatures, NDArray[np.intp]]:
    """Return in-distribution rows of one kind of data, exchangeable with any others.

    Parameters
    ----------
    case : str
        A key of ``HARD``.
    n_rows : int, default=200
        Rows.
    positive : bool, default=False
        Whether features are cut off below zero.
    dtype : dtype, default=float64
        Of the blocks.
    random_state : int, default=0
        Seed of the rows; what is common to all rows is always the same.

    Returns
    -------
    features : LayerFeatures
        The layers ``"layer1"`` and ``"penultimate"`` with avg, max, l2, lse and
        gram, the logits of a head with a bias, and jigsaw views.
    y : ndarray of int, shape (n_rows,)
        Four classes, which are imbalanced for ``"heavy_tails"``.

    Examples
    --------
    >>> from skood.estimator_checks.hard import hard_features
    >>> features, y = hard_features("units_apart", 50)
    >>> features.block("penultimate").shape
    (50, 12)
    """
    rng = np.random.default_rng([random_state, list(HARD).index(case)])
    shares = [0.6, 0.3, 0.09, 0.01] if case == "heavy_tails" else [0.25] * N_CLASSES
    y = rng.choice(N_CLASSES, size=n_rows, p=shares)
    rows, other = HARD[case](rng, y), HARD[case](rng, y)
    if positive:
        rows, other = np.maximum(rows, 0), np.maximum(other, 0)
    head = _head(HARD[case])
    size = np.abs(_known_rows(HARD[case])).max()
    jigsaw = LayerFeatures(_blocks(0.5 * rows, 0.5 * other, head, size, dtype))
    blocks = _blocks(rows, other, head, size, dtype)
    return LayerFeatures(blocks, head=head, views={"jigsaw": jigsaw}), y


def _means(y: NDArray[np.intp], width: int) -> Rows:
    return 2 * np.random.default_rng(7).normal(size=(N_CLASSES, width))[y]


def _known_rows(make: Make) -> Rows:
    """Return the same 400 rows each time, the classes by turns."""
    return make(np.random.default_rng(3), np.arange(400) % N_CLASSES)


def _head(make: Make) -> LinearHead:
    """Return a head that reads the classes, with a bias."""
    rows, y = _known_rows(make), np.arange(400) % N_CLASSES
    means = np.array([rows[y == c].mean(axis=0) for c in range(N_CLASSES)])
    weight = (means - means.mean(axis=0)) / (rows.var(axis=0) + 1e-12)
    weight /= np.abs(rows @ weight.T).std() / 3
    bias = -0.5 * np.einsum("cd,cd->c", weight, means + means.mean(axis=0))
    return LinearHead(weight, bias)


def _blocks(
    rows: Rows, other: Rows, head: LinearHead, size: float, dtype: DTypeLike
) -> dict[str | tuple[str, str], Any]:
    blocks: dict[str | tuple[str, str], Any] = {}
    for layer, x in (("layer1", other), ("penultimate", rows)):
        blocks[layer, "avg"] = x
        blocks[layer, "max"] = 1.5 * x
        blocks[layer, "l2"] = np.abs(x)
        blocks[layer, "lse"] = logsumexp(x / size, axis=1, keepdims=True)
        blocks[layer, "gram"] = gram_of_one_position(x / size)
    blocks[LOGITS, LOGITS] = head.logits(rows)
    return {name: block.astype(dtype) for name, block in blocks.items()}
