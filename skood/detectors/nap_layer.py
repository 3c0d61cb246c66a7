"""One layer of NAP: binary patterns of its activations, and distances to known ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood._chunks import merged_statistics
from skood._device import array_namespace, like, to_numpy, unit_rows
from skood._moments import class_sums
from skood.features import Key, LayerFeatures
from skood.hamming import PatternBank, packed_bits

__all__ = ["PatternLayer", "activation_patterns"]

TIE_RANGE = 0.999
"""What breaks ties stays below one bit, whatever is added to it."""


def activation_patterns(x: Any, percentile: float) -> NDArray[np.uint8]:
    """Return which activations of each row are above the row's own percentile.

    A bit is set where the activation is strictly above the percentile of its row and
    above zero. The percentile interpolates linearly between two neighbouring order
    statistics, so the activations above it are those above the lower one: only that is
    computed, and rounding cannot change a bit.

    Parameters
    ----------
    x : array of shape (n, d)
        Activations, NumPy or torch.
    percentile : float
        In (0, 100).

    Returns
    -------
    ndarray of uint8, shape (n, n_bytes)
        Packed as by :func:`skood.hamming.packed_bits`.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.detectors.nap_layer import activation_patterns
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
class _Rows:
    """Patterns and classes of some rows, and the sums of their directions by class."""

    patterns: tuple[NDArray[np.uint8], ...]
    classes: tuple[NDArray[np.intp], ...]
    directions: NDArray[np.float64]

    @classmethod
    def of(cls, x: Any, classes: NDArray[np.intp], n_classes: int, percentile: float):  # type: ignore[no-untyped-def]
        sums = class_sums(unit_rows(x), classes, n_classes)
        return cls((activation_patterns(x, percentile),), (classes,), sums)

    def merge(self, other: _Rows) -> _Rows:
        return _Rows(
            self.patterns + other.patterns,
            self.classes + other.classes,
            self.directions + other.directions,
        )
