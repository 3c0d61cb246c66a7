"""The base of detectors that read one statistic of one or several layers."""

from __future__ import annotations

from typing import Any, ClassVar

from skood.detectors.base import ARRAY, BaseDetector
from skood.features import LayerFeatures, Layers

__all__ = ["LayerDetector"]


class LayerDetector(BaseDetector):
    """Base class of detectors of layers.

    Parameters
    ----------
    layers : str or sequence of str, optional
        The layers to use; None takes all that have the statistic.
    statistic : str, default="avg"
        The statistic to use.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.
    """

    layers: Layers = None
    statistic: str = "avg"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "layers": [str, list, tuple, None],
        "statistic": [str],
    }

    def _needed(self, features: LayerFeatures) -> LayerFeatures:
        return features.select(self.layers, self.statistic)

    def _array_key(self) -> tuple[str, str]:
        return (ARRAY, self.statistic)

    def _takes_arrays(self) -> bool:
        return self.layers is None
