"""NAP's distances under every configuration, and the search over them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from posthoc_quality import RATE, Sets

import skood
from skood import LayerFeatures
from skood.detectors.layers.nap.auto import (
    PERCENTILES,
    STATISTICS,
    LayerChoice,
    searched_layers,
    tail_cap,
)
from skood.detectors.layers.nap.decision import Decision
from skood.detectors.layers.nap.layer import activation_patterns
from skood.hamming import PatternBank

Distances = dict[str, NDArray[np.float64]]
Configuration = tuple[str, str, float]


class Patterns(NamedTuple):
    """Distances in bits of all rows to known patterns, by configuration and set.

    Training rows are searched as if each had been left out.
    """

    distances: dict[Configuration, Distances]
    widths: dict[str, int]

    @classmethod
    def of(cls, sets: Sets, layers: Sequence[str]) -> Patterns:
        """Return the distances under all configurations of some layers."""
        features, labels = sets.train
        widths = {layer: features.block(layer, "avg").shape[1] for layer in layers}
        distances = {
            (layer, statistic, percentile): _distances(
                sets, labels.astype(np.intp), layer, statistic, percentile
            )
            for layer in layers
            for statistic in STATISTICS
            for percentile in PERCENTILES
        }
        return cls(distances, widths)

    def blocks(self) -> list[tuple[str, str]]:
        """Return the layers with their statistics, a layer's next to each other."""
        return list(dict.fromkeys(c[:2] for c in self.distances))

    def of_pair(
        self, known: str, new: str, *configuration: Any
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the distances of known rows and of outliers."""
        found = self.distances[configuration]
        return found[known], found[new]

    def searched(
        self, known: str, validation: str, criterion: str, n_votes: int
    ) -> list[LayerChoice]:
        """Return the configuration that a set of outliers makes."""
        chosen, _ = searched_layers(
            self.blocks(),
            partial(self.of_pair, known, validation),
            contamination=RATE,
            criterion=criterion,
            n_votes=n_votes,
        )
        return chosen

    def fixed(self, statistic: str, percentile: float = 50.0) -> list[LayerChoice]:
        """Return all layers with one configuration, and thresholds without outliers."""
        names = [(layer, statistic, percentile) for layer in self.widths]
        caps = [tail_cap(self.distances[name]["held_out"], RATE) for name in names]
        return [LayerChoice(*name, cap) for name, cap in zip(names, caps, strict=True)]

    def tested(self, chosen: Sequence[LayerChoice], new: str) -> dict[str, float]:
        """Return AUROC and accuracies in per cent.

        Of the summed score against 0, of the votes, and of the summed score against
        its 5 % quantile over held-out rows.
        """
        decision = Decision.of(chosen, [self.widths[c.layer] for c in chosen])
        unlike = self._stacked(chosen, new)
        known = self._stacked(chosen, "known")[:, : unlike.shape[1]]
        held_out = decision.numeric(self._stacked(chosen, "held_out"))
        rows = np.concatenate([known, unlike], axis=1)
        right = np.repeat([True, False], [known.shape[1], unlike.shape[1]])
        summed, votes = decision.numeric(rows), decision.majority(rows)
        kept = {
            "summed": summed >= 0,
            "voting": votes >= decision.half,
            "at 5 %": summed >= np.quantile(held_out, RATE),
        }
        found = {name: np.mean(k == right) for name, k in kept.items()}
        found["auroc"] = skood.auroc(np.where(right, 0, -1), summed)
        found["false alarms, summed"] = np.mean(~kept["summed"][right])
        return {name: 100 * float(value) for name, value in found.items()}

    def _stacked(self, chosen: Sequence[LayerChoice], rows: str) -> NDArray[np.float64]:
        return np.stack([self.distances[choice[:3]][rows] for choice in chosen])


def _distances(
    sets: Sets,
    labels: NDArray[np.intp],
    layer: str,
    statistic: str,
    percentile: float,
) -> Distances:
    def patterns(features: LayerFeatures) -> NDArray[np.uint8]:
        return activation_patterns(features.block(layer, statistic), percentile)

    def predicted(features: LayerFeatures) -> NDArray[np.intp]:
        return features.block("logits").argmax(axis=1)

    train = sets.train[0]
    width = train.block(layer, statistic).shape[1]
    own = patterns(train)
    bank = PatternBank.of(own, labels, int(labels.max()) + 1, width)
    others = {"held_out": sets.held_out[0], "known": sets.known, **sets.outliers}
    found = {
        name: bank.nearest(patterns(rows), predicted(rows))
        for name, rows in others.items()
    }
    found["train"] = bank.nearest_unseen(own, predicted(train), labels)
    return {name: bits.astype(np.float64) for name, bits in found.items()}
