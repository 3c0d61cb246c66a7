"""Pseudo outliers of held-out rows: changed inputs, or changed features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.features import LOGITS, LayerFeatures
from skood.features.names import Key
from skood.numerics.seeds import RandomStateLike, stream_seed

__all__ = ["FEATURE_KINDS", "NOISE", "check_views", "pseudo_outliers"]

NOISE = ("bernoulli", "blob", "gaussian", "rademacher", "uniform")
"""Kinds that are far from all data: what tells them from it does not tell near ones."""

FEATURE_KINDS = ("blended features", "permuted columns")
"""Those that are made of features where there are no views."""


def check_views(features: LayerFeatures, blocks: Sequence[Key]) -> None:
    """Raise for a view without some of the blocks that members read.

    Raises
    ------
    ValueError
        If one lacks some; the message names them.
    """
    for name, view in features.views.items():
        missing = [key for key in blocks if key not in view.block_names]
        if missing:
            some = ", ".join("/".join(key) for key in missing[:3])
            raise ValueError(
                f"views[{name!r}] lacks {len(missing)} of the blocks, {some} among "
                "them: extract the changed inputs as the inputs themselves."
            )


def pseudo_outliers(
    features: LayerFeatures,
    classes: NDArray[np.intp] | None,
    random_state: RandomStateLike,
) -> Mapping[str, LayerFeatures]:
    """Return pseudo outliers by their kind.

    The views of the features are taken, but for noise; where there are none, the
    features are changed themselves: blends of two rows of different classes, and
    columns each drawn on their own. The logits are then those of the changed
    penultimate features where the head is known.

    Parameters
    ----------
    features : LayerFeatures of n rows
        In-distribution rows that no member was fitted on.
    classes : ndarray of int, shape (n,), optional
        Their classes.
    random_state : int, RandomState instance or None
        Seeds the changes.

    Returns
    -------
    dict of str to LayerFeatures
        Empty where there are too few rows for any.
    """
    views = {name: view for name, view in features.views.items() if name not in NOISE}
    if views:
        return views
    if len(features) < 2:
        return {}
    seed = stream_seed(random_state)
    blended, permuted = FEATURE_KINDS
    made = {blended: _blended(features, classes, seed)}
    made[permuted] = _permuted(features, seed)
    return made


def _blended(
    features: LayerFeatures, classes: NDArray[np.intp] | None, seed: int
) -> LayerFeatures:
    """Return the mean of each row and one of another class, in all blocks at once.

    Logits are linear in the features before them, so theirs are those of the blend.
    """
    rng = np.random.default_rng([seed, 1])
    partners = _partners(len(features), classes, rng)
    blocks = {
        name: (features.block(*name) + features.block(*name)[partners]) / 2
        for name in features.block_names
    }
    return LayerFeatures(blocks, features.head)


def _partners(
    n_rows: int, classes: NDArray[np.intp] | None, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Return another row for each, of another class where there is one."""
    steps = rng.integers(1, n_rows, size=n_rows)
    partners = (np.arange(n_rows) + steps) % n_rows
    if classes is None or len(np.unique(classes)) < 2:
        return partners
    for row in np.flatnonzero(classes[partners] == classes):
        others = np.flatnonzero(classes != classes[row])
        partners[row] = rng.choice(others)
    return partners


def _permuted(features: LayerFeatures, seed: int) -> LayerFeatures:
    """Return rows whose columns come from different rows, block by block."""
    rng = np.random.default_rng([seed, 2])
    blocks: dict[Any, Any] = {
        name: rng.permuted(features.block(*name), axis=0)
        for name in features.block_names
    }
    head = features.head
    if (
        head is not None
        and (head.layer, "avg") in blocks
        and (LOGITS, LOGITS) in blocks
    ):
        blocks[LOGITS, LOGITS] = head.logits(blocks[head.layer, "avg"])
    return LayerFeatures(blocks, head)
