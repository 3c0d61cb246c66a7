"""The norm of a feature map, and the layer whose norm tells images from jigsaws."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import assert_all_finite

from skood.features import LayerFeatures, Layers
from skood.features.chunks import merged_statistics
from skood.numerics.device import array_namespace

__all__ = ["NORM", "NORM_RATIO", "candidates", "chosen_layer", "feature_norm"]

NORM = "l2"
"""The statistic: each channel's L2 norm over positions of the positive part."""

NORM_RATIO = "norm_ratio"
JIGSAW = "jigsaw"


def feature_norm(x: Any) -> Any:
    """Return each row's mean over channels of the positive part, in float64.

    Parameters
    ----------
    x : array of shape (n, channels)
        The ``"l2"`` statistic of a layer, which is nowhere negative; of plain vectors
        (maps of one position) the positive part is that statistic.

    Returns
    -------
    array of float64, shape (n,)

    Examples
    --------
    >>> import numpy as np
    >>> from skood.detectors.norm_ratio import feature_norm
    >>> feature_norm(np.array([[3.0, 1.0], [-2.0, 1.0]]))
    array([2. , 0.5])
    """
    xp = array_namespace(x)
    positive = xp.clip(x, 0, None)
    return xp.sum(positive, axis=1, dtype=xp.float64) / x.shape[1]


def candidates(features: LayerFeatures, layers: Layers) -> LayerFeatures:
    """Return the blocks that a choice by NormRatio is among, or the one named.

    Parameters
    ----------
    features : LayerFeatures
    layers : str or sequence of str, optional
        Names; ``"norm_ratio"`` or None is every layer that has the statistic.

    Returns
    -------
    LayerFeatures
    """
    return features.select(None if layers == NORM_RATIO else layers, NORM)


def chosen_layer(features: LayerFeatures) -> tuple[str, dict[str, float]]:
    """Return the layer with the largest NormRatio, and the ratios.

    Parameters
    ----------
    features : LayerFeatures of n rows
        The candidates, in-distribution rows only, with their jigsaw views.

    Returns
    -------
    layer : str
        The first of those with the largest ratio.
    ratios : dict of str to float
        Of each layer; nan where no pair of rows has one, and empty for a single
        candidate, which is chosen without.

    Raises
    ------
    ValueError
        If there are no views to choose by, or no layer has a ratio.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import LayerFeatures
    >>> from skood.detectors.norm_ratio import chosen_layer
    >>> jigsaw = LayerFeatures(
    ...     {("a", "l2"): np.ones((2, 1)), ("b", "l2"): [[2.0], [4.0]]}
    ... )
    >>> chosen_layer(
    ...     LayerFeatures(
    ...         {("a", "l2"): np.ones((2, 1)), ("b", "l2"): 4 * np.ones((2, 1))},
    ...         views={"jigsaw": jigsaw},
    ...     )
    ... )
    ('b', {'a': 1.0, 'b': 1.5})
    """
    if len(features.layers) == 1:
        return features.layers[0], {}
    _check_views(features)
    sums = merged_statistics(_ratio_sums, features, features.views[JIGSAW])
    _warn_of_unpaired(features.layers, len(features) - sums.counts)
    if not sums.counts.any():
        raise ValueError(
            f"no jigsaw view has a norm above zero in any of the layers "
            f"{features.layers}: there is no NormRatio to choose by. Name the layer."
        )
    means = np.full(len(sums.counts), np.nan)
    np.divide(sums.totals, sums.counts, out=means, where=sums.counts > 0)
    ratios = dict(zip(features.layers, means.tolist(), strict=True))
    return features.layers[int(np.nanargmax(means))], ratios


@dataclass(frozen=True, eq=False)
class _RatioSums:
    """For each layer, the sum of the rows' ratios and the number of rows with one."""

    totals: NDArray[np.float64]
    counts: NDArray[np.intp]

    def merge(self, other: _RatioSums) -> _RatioSums:
        return _RatioSums(self.totals + other.totals, self.counts + other.counts)


def _ratio_sums(chunk: LayerFeatures, jigsaws: LayerFeatures) -> _RatioSums:
    totals, counts = [], []
    for layer in chunk.layers:
        norms = _norms(chunk, layer, f"layer {layer!r}")
        of_jigsaws = _norms(jigsaws, layer, f"jigsaw view of {layer!r}")
        paired = of_jigsaws > 0
        totals.append(np.sum(norms[paired] / of_jigsaws[paired]))
        counts.append(np.count_nonzero(paired))
    return _RatioSums(np.array(totals), np.array(counts))


def _norms(features: LayerFeatures, layer: str, name: str) -> NDArray[np.float64]:
    block = features.block(layer, NORM)
    assert_all_finite(block, input_name=f"{name} ({NORM})")
    return np.asarray(feature_norm(block))


def _check_views(features: LayerFeatures) -> None:
    if JIGSAW not in features.views:
        raise ValueError(
            f"NormRatio chooses among the layers {features.layers} by jigsaw views of "
            f"the training rows, and X carries {list(features.views) or 'none'}. Give "
            f"LayerFeatureTransformer views={{{JIGSAW!r}: Jigsaw()}} and take X from "
            "its fit_transform (a Pipeline does so), or name one layer."
        )
    view = features.views[JIGSAW]
    if view.widths != features.widths:
        raise ValueError(
            f"the jigsaw view has the blocks {view.widths}, X has {features.widths}: "
            "NormRatio compares the same blocks of both."
        )


def _warn_of_unpaired(layers: list[str], missing: NDArray[np.intp]) -> None:
    listed = {layer: int(n) for layer, n in zip(layers, missing, strict=True) if n}
    if listed:
        warnings.warn(
            f"jigsaw views with norm zero have no ratio and are left out of NormRatio; "
            f"rows by layer: {listed}.",
            UserWarning,
            stacklevel=2,
        )
