"""FeatureNorm: the norm of one layer's feature map."""

from __future__ import annotations

from typing import Any, ClassVar

from skood.detectors.base import ARRAY, BaseDetector
from skood.detectors.declared import field
from skood.detectors.norm_ratio import (
    NORM,
    NORM_RATIO,
    candidates,
    chosen_layer,
    feature_norm,
)
from skood.detectors.training import Training
from skood.features import LayerFeatures, Layers

__all__ = ["FeatureNorm"]


class FeatureNorm(BaseDetector):
    r"""Norm of one layer's feature map, the layer chosen without outliers.

    The score is :math:`\frac{1}{M} \sum_m \lVert \max(Z_m, 0) \rVert_2` over the M
    channels of the layer's map Z: the channel mean of the ``"l2"`` statistic. A
    network's filters answer to what it was trained on, so the norm is larger for
    in-distribution inputs.

    Which layer separates best is chosen by NormRatio: with each in-distribution
    training image goes a jigsaw puzzle of its own tiles, which stands for an outlier,
    and the layer with the largest mean ratio of the two norms is taken. Pairs whose
    puzzle has norm zero have no ratio and are left out, with a warning. Only one layer
    is used, since norms of maps of different sizes are on different scales.

    A plain array is one layer of maps with one position: its score is the mean positive
    entry.

    The threshold comes from the training rows' own scores. The choice of one layer
    among a few is all that they were fitted for, which biases them by next to nothing;
    that the network itself was trained on them may: give in-distribution rows that it
    was not trained on, as X or as ``threshold_data``.

    Parameters
    ----------
    layers : str or sequence of str, default="norm_ratio"
        The candidates: ``"norm_ratio"`` (or None) chooses among all layers that have
        the statistic, a sequence of names among these. A single candidate, such as one
        name, is taken as it is and needs no views. The paper's candidates are blocks
        of maps; a pooled layer, such as ``"penultimate"``, that has the statistic is a
        candidate, too, unless the others are named.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    selected_layer_ : str
        The layer that is used.
    norm_ratios_ : dict of str to float
        NormRatio of each candidate, nan where every puzzle had norm zero; empty when
        there was nothing to choose.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        In ``fit``: several candidates without jigsaw views; no layer with the ``"l2"``
        statistic.

    Warns
    -----
    UserWarning
        If puzzles have norm zero.

    See Also
    --------
    NormRescaledHead : The same norm as a temperature of the logits.
    skood.plotting.NormRatioDisplay : Which layer was chosen, and why.

    References
    ----------
    Yu, Shin, Lee, Jun and Lee, "Block selection method for using feature norm in
    out-of-distribution detection", CVPR 2023, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import FeatureNorm, LayerFeatures
    >>> rng = np.random.default_rng(0)
    >>> early, late = rng.uniform(1, 2, size=(2, 100, 8))
    >>> jigsaw = LayerFeatures({("early", "l2"): early, ("late", "l2"): late / 2})
    >>> features = LayerFeatures(
    ...     {("early", "l2"): early, ("late", "l2"): late}, views={"jigsaw": jigsaw}
    ... )
    >>> detector = FeatureNorm().fit(features)
    >>> detector.selected_layer_, detector.norm_ratios_
    ('late', {'early': 1.0, 'late': 2.0})
    >>> detector.predict(jigsaw[:3])
    array([-1, -1, -1])
    """

    layers: Layers = field(default=NORM_RATIO, kw_only=False)

    _unbiased = "one layer is chosen among a few, by ratios of two norms"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "layers": [str, list, tuple, None],
    }

    def _needed(self, features: LayerFeatures) -> LayerFeatures:
        return candidates(features, self.layers)

    def _array_key(self) -> tuple[str, str]:
        return (ARRAY, NORM)

    def _takes_arrays(self) -> bool:
        return self.layers in (None, NORM_RATIO)

    def _fit(self, training: Training) -> None:
        self.selected_layer_, self.norm_ratios_ = chosen_layer(training.features)

    def _score(self, chunk: LayerFeatures) -> Any:
        return feature_norm(self._array(chunk, self.selected_layer_, NORM))
