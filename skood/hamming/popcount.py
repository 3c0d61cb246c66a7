"""Hamming distances in NumPy: exclusive or of packed words, then a count of bits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood._sklearn_compat import openmp_threads
from skood.hamming.packing import Distances, Packed

__all__ = ["popcount_distances"]

THREADED_WORK = 1 << 22
"""Pairs of words that are compared in milliseconds: threads would not help."""

TILE = 1 << 15
"""Pairs of words compared at once: a quarter of a MB, to stay in cache."""


def popcount_distances(queries: Packed, bank: Packed, k: int, device: str) -> Distances:
    """Return the k smallest distances of each query, on as many threads as OpenMP has.

    Parameters
    ----------
    queries, bank : ndarray of uint8, shape (m, n_bytes), (n, n_bytes)
        Packed patterns, of whole words.
    k : int
        From 1 to n.
    device : str
        Ignored: NumPy is on the CPU.

    Returns
    -------
    ndarray of int32, shape (m, k)
    """
    query_words = np.ascontiguousarray(queries).view(np.uint64)
    bank_words = np.ascontiguousarray(bank).view(np.uint64)
    bank_words = np.ascontiguousarray(bank_words.T)
    threads = openmp_threads()
    if threads == 1 or query_words.size * len(bank) < THREADED_WORK:
        return _counted(query_words, bank_words, k)
    parts = np.array_split(query_words, threads)
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda part: _counted(part, bank_words, k), parts)
        return np.concatenate(list(found))


def _counted(
    queries: NDArray[np.uint64], bank: NDArray[np.uint64], k: int
) -> Distances:
    """Return the k smallest distances of queries (m, W) to patterns (W, n)."""
    columns = min(bank.shape[1], TILE // 4)
    rows = TILE // columns
    best = np.full((len(queries), k), 64 * len(bank), dtype=np.int32)
    for start in range(0, bank.shape[1], columns):
        block = bank[:, start : start + columns]
        for top in range(0, len(queries), rows):
            part = slice(top, top + rows)
            best[part] = _merged(best[part], _tile(queries[part], block), k)
    return best


def _tile(queries: NDArray[np.uint64], bank: NDArray[np.uint64]) -> NDArray[Any]:
    """Return all distances of queries (m, W) to patterns (W, n)."""
    shape = (len(queries), bank.shape[1])
    unlike = np.empty(shape, dtype=np.uint64)
    counts = np.empty(shape, dtype=np.uint8)
    sums = np.empty(shape, dtype=np.uint8)
    total = np.zeros(shape, dtype=np.uint16 if len(bank) < 1024 else np.uint32)
    for first in range(0, len(bank), 3):
        # Three words have up to 192 bits: their sum still fits a byte.
        for word in range(first, min(first + 3, len(bank))):
            np.bitwise_xor(queries[:, word, None], bank[word], out=unlike)
            if word == first:
                np.bitwise_count(unlike, out=sums)
            else:
                np.bitwise_count(unlike, out=counts)
                sums += counts
        total += sums
    return total


def _merged(best: Distances, found: NDArray[Any], k: int) -> Distances:
    """Return the k smallest of both, in ascending order."""
    if k == 1:
        return np.minimum(best, found.min(axis=1, keepdims=True))
    if found.shape[1] > k:
        found = np.partition(found, k - 1, axis=1)[:, :k]
    both = np.concatenate([best, found.astype(np.int32)], axis=1)
    return np.sort(both, axis=1)[:, :k]
