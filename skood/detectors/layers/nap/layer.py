"""One layer of NAP: binary patterns of its activations, and distances to known ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.detectors.layers.nap.angles import class_angles
from skood.detectors.layers.nap.in_graph import (
    activation_signs,
    angles_in_graph,
    level_place,
    nearest_in_graph,
)
from skood.features import Key
from skood.hamming import PatternBank, packed_bits
from skood.numerics.graph import in_graph
from skood.numerics.moments import class_sums
from skood.numerics.rows import unit_rows

__all__ = ["LayerRows", "PatternLayer", "activation_patterns"]

TIE_RANGE = 0.999
"""What breaks ties stays below one bit, whatever it is added to."""


def activation_patterns(x: Any, percentile: float) -> NDArray[np.uint8]:
    """Return which activations of each row are above the row's own percentile.

    A bit is set where the activation is strictly above the percentile of its row, and
    above zero. The percentile lies between two neighbouring order statistics, so what
    is above it is what is above the lower one: only that is computed, and rounding
    cannot change a bit.

    Parameters
    ----------
    x : array of shape (n, d)
        Activations, NumPy or torch.
    percentile : float
        In (0, 100), with linear interpolation.

    Returns
    -------
    ndarray of uint8, shape (n, n_bytes)
        Packed as by :func:`skood.hamming.packed_bits`.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.detectors.layers.nap.layer import activation_patterns
    >>> from skood.hamming import unpacked_bits
    >>> x = np.array([[3.0, 1.0, 2.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    >>> unpacked_bits(activation_patterns(x, 50), 4).astype(int)
    array([[1, 0, 1, 0],
           [0, 0, 0, 1]])
    """
    place = level_place(percentile, x.shape[1])
    if isinstance(x, np.ndarray):
        level = np.partition(x, place, axis=1)[:, place, None]
        return packed_bits(x > np.maximum(level, 0))
    level = x.kthvalue(place + 1, dim=1, keepdim=True).values
    return packed_bits(x > level.clamp(min=0))


@dataclass(frozen=True, eq=False)
class LayerRows:
    """What is kept of some training rows, to be merged with that of others.

    Parameters
    ----------
    patterns : tuple of ndarray of uint8, shape (rows, n_bytes)
        Packed patterns, one array a chunk.
    directions : ndarray of shape (C, d), or None
        Sums over each class of the rows scaled to length one.
    """

    patterns: tuple[NDArray[np.uint8], ...]
    directions: NDArray[np.float64] | None

    @classmethod
    def of(
        cls,
        x: Any,
        classes: NDArray[np.intp],
        percentile: float,
        n_classes: int | None,
    ) -> LayerRows:
        """Return what is kept of one chunk.

        Parameters
        ----------
        x : array of shape (n, d)
            Activations, NumPy or torch.
        classes : ndarray of int, shape (n,)
            Their classes.
        percentile : float
            Of :func:`activation_patterns`.
        n_classes : int or None
            C; None keeps no directions.

        Returns
        -------
        LayerRows
        """
        sums = (
            None if n_classes is None else class_sums(unit_rows(x), classes, n_classes)
        )
        return cls((activation_patterns(x, percentile),), sums)

    def merge(self, other: LayerRows) -> LayerRows:
        """Return what is kept of both sets of rows."""
        directions = None
        if self.directions is not None and other.directions is not None:
            directions = self.directions + other.directions
        return LayerRows(self.patterns + other.patterns, directions)


@dataclass(frozen=True, eq=False)
class PatternLayer:
    """The known patterns of one layer.

    Parameters
    ----------
    name : (str, str)
        The layer and its statistic.
    percentile : float
        Of :func:`activation_patterns`.
    bank : PatternBank
        The patterns of each class apart, or all in one group.
    directions : ndarray of shape (C, d), or None
        Sums over each class of the rows scaled to length one; they break ties.
    backend : str
        As in :func:`skood.hamming.nearest_hamming`; the search is where the
        activations are.
    """

    name: Key
    percentile: float
    bank: PatternBank
    directions: NDArray[np.float64] | None
    backend: str

    def distances(
        self, x: Any, lookup: Any, own: NDArray[np.intp] | None = None
    ) -> Any:
        """Return the distances of rows, in bits; what breaks ties is added.

        Parameters
        ----------
        x : array of shape (n, d)
            Activations, NumPy or torch.
        lookup : ndarray of int, shape (n,), or None
            The class whose patterns are searched, -1 for one without patterns; None
            when all are in one group.
        own : ndarray of int, shape (n,), optional
            The classes of training rows, each of which is then scored as if it had
            been left out; -1 for those that were.

        Returns
        -------
        ndarray of float64, shape (n,)
            The whole part is the Hamming distance.
        """
        if in_graph():
            return self._graph_distances(x, lookup)
        if own is not None and (own < 0).any():
            return self._distances_of_both(x, lookup, own)
        patterns = activation_patterns(x, self.percentile)
        one_group = np.zeros(len(patterns), dtype=np.intp)
        groups = one_group if lookup is None else lookup
        where = {
            "backend": self.backend,
            "device": "cpu" if isinstance(x, np.ndarray) else str(x.device),
        }
        if own is None:
            bits = self.bank.nearest(patterns, groups, **where)
        else:
            stored = one_group if lookup is None else own
            bits = self.bank.nearest_unseen(patterns, groups, stored, **where)
        if self.directions is None:
            return bits.astype(np.float64)
        return bits + TIE_RANGE * class_angles(x, self.directions, lookup, own)

    def _distances_of_both(self, x: Any, lookup: Any, own: NDArray[np.intp]) -> Any:
        """Return the distances of rows of which some are known and others new."""
        found = self.distances(x, lookup)
        rows = np.flatnonzero(own >= 0)
        if len(rows):
            asked = None if lookup is None else lookup[rows]
            found[rows] = self.distances(x[rows], asked, own[rows])
        return found

    def _graph_distances(self, x: Any, lookup: Any) -> Any:
        """Return the same of tensors that become a graph."""
        signs = activation_signs(x, self.percentile)
        bits = nearest_in_graph(signs, self.bank, lookup)
        if self.directions is None:
            return bits
        return bits + TIE_RANGE * angles_in_graph(x, self.directions, lookup)
