"""Mixtures over consecutive layers, tied by transition probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.mixtures.mixture import Mixture
from skood.mixtures.paths import (
    TransitionCounts,
    assigned,
    likeliest_path,
    log_likelihood,
)
from skood.numerics.device import like, to_numpy


@dataclass(frozen=True, eq=False)
class MixtureSequence:
    """A mixture a layer, and how a score is put together from them.

    Every method takes the rows' arrays, one a layer, of shape (n, d of the layer).

    Parameters
    ----------
    mixtures : list of Mixture
        One a layer.
    every_layer : bool
        Whether the mixture weights count in every layer, or in the first only.
    hard : bool
        Whether a row counts for its likeliest component alone.
    temper : bool
        Whether a layer's log densities are divided by its number of features.
    """

    mixtures: list[Mixture]
    every_layer: bool
    hard: bool
    temper: bool

    def transition_counts(self, arrays: Sequence[Any]) -> TransitionCounts:
        """Return how often the rows go from component to component."""
        layers = zip(self.mixtures, arrays, strict=True)
        return TransitionCounts.of(
            [self._counted(mixture.responsibilities(x)) for mixture, x in layers]
        )

    def scores(
        self, arrays: Sequence[Any], transitions: Sequence[NDArray[np.float64]]
    ) -> Any:
        """Return the log likelihood of each row, summed over all paths, shape (n,)."""
        return log_likelihood(self._emissions(arrays), transitions)

    def paths(
        self, arrays: Sequence[Any], transitions: Sequence[NDArray[np.float64]]
    ) -> NDArray[np.intp]:
        """Return the likeliest path of each row, shape (n, L)."""
        emissions = [to_numpy(emission) for emission in self._emissions(arrays)]
        return likeliest_path(emissions, transitions)

    def _emissions(self, arrays: Sequence[Any]) -> list[Any]:
        return [
            self._emission(number, self.mixtures[number].log_densities(x))
            for number, x in enumerate(arrays)
        ]

    def _emission(self, number: int, logs: Any) -> Any:
        """Return what a layer adds to a path's log likelihood; overwrites the logs."""
        parameters = self.mixtures[number].parameters
        if self.temper:
            logs /= parameters.points.shape[1]
        if number == 0 or self.every_layer:
            logs += like(parameters.log_weights, logs)
        return logs

    def _counted(self, shares: Any) -> Any:
        return assigned(shares) if self.hard else shares
