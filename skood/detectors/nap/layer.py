"""One layer of NAP: binary patterns of its activations, and distances to known ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood._device import like, to_numpy, unit_rows
from skood._moments import class_sums
from skood.features import Key
from skood.hamming import PatternBank, packed_bits

__all__ = ["LayerRows", "PatternLayer", "activation_patterns"]

TIE_RANGE = 0.999
"""What breaks ties stays below one bit, whatever it is added to."""

SMALLEST_SQUARE = 1e-9
"""Squared length of a sum of directions below which it points nowhere."""


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
    >>> from skood.detectors.nap.layer import activation_patterns
    >>> from skood.hamming import unpacked_bits
    >>> x = np.array([[3.0, 1.0, 2.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    >>> unpacked_bits(activation_patterns(x, 50), 4).astype(int)
    array([[1, 0, 1, 0],
           [0, 0, 0, 1]])
    """
    place = int(percentile * (x.shape[1] - 1) / 100)
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
        self,
        x: Any,
        lookup: NDArray[np.intp] | None,
        own: NDArray[np.intp] | None = None,
    ) -> NDArray[np.float64]:
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
            been left out.

        Returns
        -------
        ndarray of float64, shape (n,)
            The whole part is the Hamming distance.
        """
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
        return bits + TIE_RANGE * self._angles(x, lookup, own)

    def _angles(
        self, x: Any, lookup: NDArray[np.intp] | None, own: NDArray[np.intp] | None
    ) -> NDArray[np.float64]:
        """Return (1 - cosine) / 2 of rows and their class's, or the nearest, mean."""
        assert self.directions is not None
        if own is not None:
            x = to_numpy(x).astype(np.float64)
        unit = unit_rows(x)
        products = to_numpy(unit @ like(self.directions.T, x)).astype(np.float64)
        squares = np.broadcast_to((self.directions**2).sum(axis=1), products.shape)
        if own is not None:
            products, squares = _without_own(unit, products, squares, own)
        known = squares > SMALLEST_SQUARE
        cosines = np.divide(
            products, np.sqrt(squares), out=np.zeros_like(products), where=known
        )
        if lookup is None:
            cosine = cosines.max(axis=1)
        else:
            chosen = np.take_along_axis(cosines, lookup[:, None], axis=1)[:, 0]
            cosine = np.where(lookup >= 0, chosen, 0.0)
        return (1 - np.clip(cosine, -1, 1)) / 2


def _without_own(
    unit: NDArray[np.float64],
    products: NDArray[np.float64],
    squares: NDArray[np.float64],
    own: NDArray[np.intp],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return products and squared lengths with each row taken off its class's sum."""
    products, squares = products.copy(), squares.copy()
    rows = np.arange(len(own))
    length = (unit * unit).sum(axis=1)
    squares[rows, own] += length - 2 * products[rows, own]
    products[rows, own] -= length
    return products, squares
