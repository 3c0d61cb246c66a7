"""Exact search for the nearest patterns in Hamming distance, on packed bits."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from skood.hamming.packing import WORD_BYTES, Distances, Packed
from skood.hamming.popcount import popcount_distances
from skood.hamming.product import multiplies_int8_fast, product_distances

__all__ = ["BACKENDS", "check_backend", "nearest_hamming"]

SMALL_WORK = 1 << 22
"""Pairs of words that NumPy compares in milliseconds: no library is worth loading."""

LARGE_WORK = 1 << 28
"""Pairs of words that take NumPy long enough to import torch for."""

PRODUCT_WORK = 1 << 18
"""Pairs of words from which on torch's calls cost less than NumPy's counting."""

UNPACKING = 24
"""Pairs a pattern from which on unpacking its bits pays: a product takes 0.35 ns a pair
of words where NumPy takes 0.70, and 8.6 ns to unpack a word (one core of an AMD EPYC
with VNNI, at 512 bits)."""


def nearest_hamming(
    queries: Packed,
    bank: Packed,
    n_bits: int,
    *,
    n_neighbors: int = 1,
    backend: str = "auto",
    device: str = "cpu",
) -> Distances:
    """Return the Hamming distances of each query to its nearest patterns.

    Every backend gives the same distances; they differ in speed only, and their memory
    is bounded however many queries and patterns there are.

    Parameters
    ----------
    queries : ndarray of uint8, shape (m, n_bytes)
        As from :func:`~skood.hamming.packed_bits`.
    bank : ndarray of uint8, shape (n, n_bytes)
        The patterns to search.
    n_bits : int
        Length of the patterns: the distance to neighbours that the bank does not have.
    n_neighbors : int, default=1
        How many distances a query gets.
    backend : {"auto", "faiss", "product", "popcount"}, default="auto"
        ``"faiss"`` is its flat binary index; ``"product"`` multiplies bits as signs
        with torch, in int8 on the CPU and in half precision on an accelerator;
        ``"popcount"`` is NumPy on packed words. ``"auto"`` takes the product on an
        accelerator. On the CPU it takes faiss if that is installed and loaded or worth
        loading, else the product if the processor multiplies int8 fast, torch is loaded
        or worth importing, and unpacking the bits pays, else NumPy.
    device : str, default="cpu"
        ``"cpu"`` or a torch device; only the product runs on the latter.

    Returns
    -------
    ndarray of int32, shape (m, n_neighbors)
        In ascending order.

    Raises
    ------
    ValueError
        If queries or bank are not such patterns, or there is no such backend.
    ImportError
        If ``backend="faiss"`` and faiss is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.hamming import nearest_hamming, packed_bits
    >>> bank = packed_bits(np.eye(3, dtype=bool))
    >>> query = packed_bits(np.array([[True, True, False]]))
    >>> nearest_hamming(query, bank, 3, n_neighbors=4)
    array([[1, 1, 3, 3]], dtype=int32)
    """
    width = WORD_BYTES * -(-n_bits // (8 * WORD_BYTES))
    for name, packed in (("queries", queries), ("bank", bank)):
        if packed.dtype != np.uint8 or packed.shape[1:] != (width,):
            raise ValueError(
                f"{name} is {packed.dtype} of shape {packed.shape}: patterns of "
                f"n_bits={n_bits}, packed by packed_bits, are uint8 of shape "
                f"(rows, {width})."
            )
    check_backend(backend)
    distances = np.full((len(queries), n_neighbors), n_bits, dtype=np.int32)
    k = min(n_neighbors, len(bank))
    if k and len(queries):
        sizes = len(queries), len(bank), queries.shape[1] // WORD_BYTES
        if backend == "auto":
            backend = fastest(usable_backends(np.prod(sizes), device), *sizes)
        distances[:, :k] = BACKENDS[backend](queries, bank, k, device)
    return distances


def check_backend(backend: str) -> None:
    """Raise an error if there is no such backend, or it is not installed.

    Parameters
    ----------
    backend : str
        As in :func:`nearest_hamming`.

    Raises
    ------
    ValueError, ImportError
    """
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"backend={backend!r}: choose from {['auto', *BACKENDS]}.")
    if backend == "faiss" and find_spec("faiss") is None:
        raise ImportError(
            "backend='faiss' needs faiss: pip install 'skood[faiss]', or use "
            "backend='auto'."
        )


def usable_backends(work: float, device: str) -> frozenset[str]:
    """Return the backends that are there, and loaded or worth loading.

    Parameters
    ----------
    work : float
        Pairs of words to compare, in all searches to come.
    device : str
        ``"cpu"`` or a torch device.

    Returns
    -------
    frozenset of str
    """
    if device != "cpu":
        return frozenset({"product"})
    usable = {"popcount"}
    if ("faiss" in sys.modules or work >= SMALL_WORK) and find_spec("faiss"):
        usable.add("faiss")
    elif ("torch" in sys.modules or work >= LARGE_WORK) and multiplies_int8_fast():
        usable.add("product")
    return frozenset(usable)


def fastest(usable: frozenset[str], n_queries: int, n_patterns: int, words: int) -> str:
    """Return the backend that takes least for one search, by measurement.

    Parameters
    ----------
    usable : frozenset of str
        As from :func:`usable_backends`.
    n_queries, n_patterns, words : int
        Sizes of the search.

    Returns
    -------
    str
    """
    if len(usable) == 1:
        return next(iter(usable))
    if "faiss" in usable:
        return "faiss"
    pairs = n_queries * n_patterns
    unpacked = pairs >= UNPACKING * (n_queries + n_patterns)
    return "product" if unpacked and pairs * words >= PRODUCT_WORK else "popcount"


def _faiss_distances(queries: Packed, bank: Packed, k: int, device: str) -> Distances:
    import faiss

    index = faiss.IndexBinaryFlat(8 * bank.shape[1])
    index.add(np.ascontiguousarray(bank))
    distances: Distances = index.search(np.ascontiguousarray(queries), k)[0]
    return distances


BACKENDS: dict[str, Callable[[Packed, Packed, int, str], Distances]] = {
    "faiss": _faiss_distances,
    "product": product_distances,
    "popcount": popcount_distances,
}
