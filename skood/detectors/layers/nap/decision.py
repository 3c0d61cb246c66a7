"""From distances of several layers to one score: summed, or voted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.detectors.layers.nap.auto import LayerChoice, width_factor
from skood.numerics.device import array_namespace, like

__all__ = ["Decision"]

ORDER_SHARE = 0.999
"""Of one vote: what orders rows with equally many votes stays below it."""


@dataclass(frozen=True, eq=False)
class Decision:
    r"""How layers with their thresholds decide together.

    Parameters
    ----------
    thresholds : ndarray of shape (L,)
        In bits.
    weights : ndarray of shape (L,)
        :math:`\kappa(q_l) \max_k D_k / D_l`.
    widths : ndarray of shape (L,)
        :math:`D_l`.
    """

    thresholds: NDArray[np.float64]
    weights: NDArray[np.float64]
    widths: NDArray[np.float64]

    @classmethod
    def of(cls, choices: Sequence[LayerChoice], widths: Sequence[int]) -> Decision:
        """Return the decision of chosen layers of given widths."""
        wide = np.array(widths, dtype=np.float64)
        factors = np.array([width_factor(choice.percentile) for choice in choices])
        thresholds = np.array([choice.threshold for choice in choices])
        return cls(thresholds, factors * wide.max() / wide, wide)

    def numeric(self, distances: Any) -> Any:
        """Return the summed score; of a single layer, minus the distance.

        Parameters
        ----------
        distances : ndarray of shape (L, n)
            Of each layer, in bits.

        Returns
        -------
        ndarray of shape (n,)
        """
        if len(self.thresholds) == 1:
            return -distances[0]
        return -self._sum(distances - like(self.thresholds, distances)[:, None])

    def majority(self, distances: Any) -> Any:
        """Return the share of layers that vote for a row, the summed score within.

        Parameters
        ----------
        distances : ndarray of shape (L, n)
            Of each layer, in bits; votes look at the whole part.

        Returns
        -------
        ndarray of shape (n,)
            At least ``half`` where no more than half of the layers vote against it.
        """
        xp, n_layers = array_namespace(distances), len(self.thresholds)
        kept = xp.floor(distances) <= like(self.thresholds, distances)[:, None]
        votes = xp.sum(xp.astype(kept, distances.dtype), axis=0)
        most = self.weights @ (self.widths + 1)
        nearness = 1 - self._sum(distances) / most
        return (votes + ORDER_SHARE * nearness) / n_layers

    def _sum(self, values: Any) -> Any:
        """Return the weighted sum over layers, the same for a row in every batch."""
        weighted = like(self.weights, values)[:, None] * values
        return array_namespace(values).sum(weighted, axis=0)

    @property
    def half(self) -> float:
        """The smallest share of votes that is not less than half."""
        n_layers = len(self.thresholds)
        return -(-n_layers // 2) / n_layers
