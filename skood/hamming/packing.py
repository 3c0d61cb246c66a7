"""Bits of patterns, eight to a byte, in whole words of 64."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skood.numerics.device import to_numpy

Packed: TypeAlias = NDArray[np.uint8]
Distances: TypeAlias = NDArray[np.int32]

WORD_BYTES = 8
BIT_VALUES = (128, 64, 32, 16, 8, 4, 2, 1)


def packed_bits(bits: Any) -> Packed:
    """Return rows of bits packed into bytes, the first bit highest.

    The rows are filled up with zeros to whole words of 64 bits, which changes no
    distance and lets them be read as ``uint64``.

    Parameters
    ----------
    bits : array of bool, shape (n, d)
        NumPy, or torch of any device.

    Returns
    -------
    ndarray of uint8, shape (n, 8 * ceil(d / 64))

    Examples
    --------
    >>> import numpy as np
    >>> from skood.hamming import packed_bits
    >>> packed_bits(np.array([[True, False, True]]))
    array([[160,   0,   0,   0,   0,   0,   0,   0]], dtype=uint8)
    """
    n, d = bits.shape
    packed = np.zeros((n, WORD_BYTES * -(-d // (8 * WORD_BYTES))), dtype=np.uint8)
    if isinstance(bits, np.ndarray):
        packed[:, : -(-d // 8)] = np.packbits(bits, axis=1)
    else:
        packed[:, : -(-d // 8)] = to_numpy(_packed_by_torch(bits))
    return packed


def unpacked_bits(packed: ArrayLike, n_bits: int) -> NDArray[np.bool_]:
    """Return the bits of packed rows.

    Parameters
    ----------
    packed : array-like of uint8, shape (n, n_bytes)
        As from :func:`packed_bits`.
    n_bits : int
        d, the length of the patterns.

    Returns
    -------
    ndarray of bool, shape (n, n_bits)

    Examples
    --------
    >>> import numpy as np
    >>> from skood.hamming import packed_bits, unpacked_bits
    >>> unpacked_bits(packed_bits(np.array([[True, False, True]])), 3)
    array([[ True, False,  True]])
    """
    return np.unpackbits(np.asarray(packed), axis=1, count=n_bits).view(np.bool_)


def _packed_by_torch(bits: Any) -> Any:
    import torch

    n, d = bits.shape
    padded = torch.nn.functional.pad(bits.to(torch.uint8), (0, -d % 8))
    values = torch.tensor(BIT_VALUES, dtype=torch.uint8, device=bits.device)
    return (padded.reshape(n, -(-d // 8), 8) * values).sum(dim=2, dtype=torch.uint8)
