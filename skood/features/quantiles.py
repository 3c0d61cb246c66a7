"""Exact quantiles of all entries of a block, in memory that does not depend on rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.features import LayerFeatures
from skood.features.chunks import merged_statistics

__all__ = ["pooled_quantiles"]

DIGIT_BITS = 16
"""Bits of a number that one pass tells apart."""

BLOCK = 1 << 18
"""Entries that are looked at together: they and their counts stay in the cache."""

FEW = 1 << 12
"""Entries under which to go through all counts would cost more."""


@dataclass(frozen=True, eq=False)
class DigitCounts:
    """How many entries that begin alike go on with each digit.

    Parameters
    ----------
    counts : ndarray of shape (prefixes, 2 ** 16)
        One row a beginning.
    """

    counts: NDArray[np.int64]

    def merge(self, other: DigitCounts) -> DigitCounts:
        """Return the counts of both sets of entries."""
        return DigitCounts(self.counts + other.counts)


def pooled_quantiles(
    features: LayerFeatures, name: tuple[str, str], shares: list[float]
) -> NDArray[np.float64]:
    """Return quantiles of all entries of one block, those of ``numpy.quantile``.

    Numbers are told apart by 16 bits a pass, the highest first (a radix selection), so
    that the result is exact and the same for any chunks: 2 passes over float16 and
    float32, 4 over float64, of which nothing is kept but counts.

    Parameters
    ----------
    features : LayerFeatures of n rows
        Finite.
    name : (str, str)
        Layer and statistic of the block.
    shares : list of float
        In [0, 1].

    Returns
    -------
    ndarray of float64, shape (len(shares),)
        Between two entries, on the straight line.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import LayerFeatures
    >>> from skood.features.quantiles import pooled_quantiles
    >>> features = LayerFeatures({"a": np.arange(12.0).reshape(4, 3)})
    >>> pooled_quantiles(features, ("a", "avg"), [0.0, 0.5, 0.9])
    array([0. , 5.5, 9.9])
    """
    block = features.select_blocks([name])
    places = np.asarray(shares) * (len(block) * block.shape[1] - 1)
    below = np.floor(places).astype(np.int64)
    above = np.ceil(places).astype(np.int64)
    ranks = np.unique(np.concatenate([below, above]))
    values = _order_statistics(block, name, ranks)
    low, high = values[np.searchsorted(ranks, [below, above])]
    return np.asarray(low + (high - low) * (places - below))


def _order_statistics(
    block: LayerFeatures, name: tuple[str, str], ranks: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the entries with these ranks, from 0, in ascending order."""
    dtype = _comparable(block[:1].block(*name).dtype)
    width = 8 * dtype.itemsize
    found = np.zeros(len(ranks), dtype=np.uint64)
    left = ranks.copy()
    for shift in range(width - DIGIT_BITS, -1, -DIGIT_BITS):
        prefixes, which = np.unique(found, return_inverse=True)
        of_chunk = partial(
            _chunk_counts, name=name, dtype=dtype, prefixes=prefixes, shift=shift
        )
        counts = merged_statistics(of_chunk, block).counts
        sums = np.cumsum(counts, axis=1)
        for place, row in enumerate(which):
            digit = int(np.searchsorted(sums[row], left[place], side="right"))
            left[place] -= sums[row, digit] - counts[row, digit]
            found[place] = (found[place] << np.uint64(DIGIT_BITS)) | np.uint64(digit)
    return _values(found, dtype)


def _chunk_counts(
    chunk: LayerFeatures,
    *,
    name: tuple[str, str],
    dtype: np.dtype[Any],
    prefixes: NDArray[np.uint64],
    shift: int,
) -> DigitCounts:
    values = np.ascontiguousarray(chunk.block(*name), dtype=dtype).ravel()
    counts = np.zeros((len(prefixes), 1 << DIGIT_BITS), dtype=np.int64)
    upper = shift + DIGIT_BITS
    first = upper == 8 * dtype.itemsize
    last = (1 << DIGIT_BITS) - 1
    for start in range(0, len(values), BLOCK):
        keys = _keys(values[start : start + BLOCK])
        for row, prefix in enumerate(prefixes):
            alike = keys if first else keys[keys >> keys.dtype.type(upper) == prefix]
            digits = ((alike >> keys.dtype.type(shift)) & last).astype(np.intp)
            if len(digits) < FEW:
                np.add.at(counts[row], digits, 1)
            else:
                counts[row] += np.bincount(digits, minlength=1 << DIGIT_BITS)
    return DigitCounts(counts)


def _comparable(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return float32 where it holds the entries exactly, else float64.

    Detectors read integers, and longer floats, as float64.
    """
    single = dtype.itemsize < 4 or (dtype.kind == "f" and dtype.itemsize == 4)
    return np.dtype(np.float32 if single else np.float64)


def _keys(values: NDArray[Any]) -> NDArray[Any]:
    """Return unsigned integers in the order of the floats."""
    raw = (values + 0.0).view(np.int32 if values.dtype == np.float32 else np.int64)
    last = 8 * values.dtype.itemsize - 1  # minus zero has become zero
    flipped = raw >> raw.dtype.type(last)  # all bits of what is negative
    flipped |= np.iinfo(raw.dtype).min
    return np.asarray((raw ^ flipped).view(f"u{raw.dtype.itemsize}"))


def _values(keys: NDArray[np.uint64], dtype: np.dtype[Any]) -> NDArray[np.float64]:
    bits: Any = np.uint32 if dtype == np.float32 else np.uint64
    keys = keys.astype(bits)
    sign = bits(1) << bits(8 * dtype.itemsize - 1)
    raw = np.where(keys & sign, keys & ~sign, ~keys).astype(bits)
    return raw.view(dtype).astype(np.float64)
