"""The distances of a few rows to the patterns of all training rows, of one layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.detectors.layers.nap.angles import class_angles
from skood.detectors.layers.nap.layer import (
    TIE_RANGE,
    LayerRows,
    PatternLayer,
    activation_patterns,
)
from skood.hamming import nearest_hamming

__all__ = ["AllRows", "AskedRows"]

Classes = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class AllRows:
    """What many rows are for a few that are among them; merges by the least.

    Parameters
    ----------
    bits : ndarray of int, shape (m, 2)
        The distances to the nearest pattern and the one after it. A row's own is one
        of them, where its own class is looked up.
    directions : ndarray of shape (C, d), or None
        Sums over each class of the rows scaled to length one.
    """

    bits: NDArray[np.int32]
    directions: NDArray[np.float64] | None

    def merge(self, other: AllRows) -> AllRows:
        """Return what both sets of rows are."""
        both = np.sort(np.concatenate([self.bits, other.bits], axis=1), axis=1)
        directions = None
        if self.directions is not None and other.directions is not None:
            directions = self.directions + other.directions
        return AllRows(both[:, :2], directions)


@dataclass(frozen=True, eq=False)
class AskedRows:
    """A few training rows, whose distances are asked for as if each were left out.

    Parameters
    ----------
    x : array of shape (m, d)
        Their activations.
    lookup : ndarray of int, shape (m,), or None
        The class that is looked up for each; None is all classes together.
    own : ndarray of int, shape (m,)
        Their classes.
    layer : PatternLayer
        Of which the percentile, the search, and whether ties are broken.
    """

    x: Any
    lookup: Classes | None
    own: Classes
    layer: PatternLayer

    def among(self, rows: LayerRows, classes: Classes) -> AllRows:
        """Return what some training rows are for these."""
        patterns = activation_patterns(self.x, self.layer.percentile)
        stored = np.concatenate(rows.patterns)
        n_bits = self.layer.bank.n_bits
        bits = np.full((len(patterns), 2), n_bits, dtype=np.int32)
        groups = np.zeros(len(patterns), int) if self.lookup is None else self.lookup
        for group in np.unique(groups[groups >= 0]):
            asked = groups == group
            bank = stored if self.lookup is None else stored[classes == group]
            bits[asked] = nearest_hamming(
                patterns[asked],
                bank,
                n_bits,
                n_neighbors=2,
                backend=self.layer.backend,
            )
        return AllRows(bits, rows.directions)

    def distances(self, found: AllRows) -> NDArray[np.float64]:
        """Return the distances to all rows but the row itself."""
        itself = True if self.lookup is None else self.lookup == self.own
        bits = np.where(itself, found.bits[:, 1], found.bits[:, 0]).astype(np.float64)
        if found.directions is None:
            return bits
        angles = class_angles(self.x, found.directions, self.lookup, self.own)
        return bits + TIE_RANGE * angles
