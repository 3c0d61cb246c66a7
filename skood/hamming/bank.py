"""Known patterns, each once, in groups that are searched apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skood.hamming.packing import WORD_BYTES
from skood.hamming.search import fastest, nearest_hamming, usable_backends


@dataclass(frozen=True, eq=False)
class PatternBank:
    """Distinct binary patterns of each group, with how often each was seen.

    Parameters
    ----------
    patterns : ndarray of uint8, shape (U, n_bytes)
        As from :func:`~skood.hamming.packed_bits`, sorted within each group.
    counts : ndarray of int, shape (U,)
        How many rows had the pattern.
    starts : ndarray of int, shape (G + 1,)
        Group g has the patterns ``starts[g]`` to ``starts[g + 1]``.
    n_bits : int
        Length of the patterns.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.hamming import PatternBank, packed_bits
    >>> rows = packed_bits(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]], dtype=bool))
    >>> bank = PatternBank.of(rows, np.array([0, 0, 1]), n_groups=2, n_bits=3)
    >>> bank.counts
    array([2, 1])
    >>> bank.nearest(rows[2:], np.array([0]))
    array([2], dtype=int32)
    """

    patterns: NDArray[np.uint8]
    counts: NDArray[np.intp]
    starts: NDArray[np.intp]
    n_bits: int

    @classmethod
    def of(
        cls,
        rows: NDArray[np.uint8],
        groups: NDArray[np.intp],
        n_groups: int,
        n_bits: int,
    ) -> PatternBank:
        """Return the bank of the patterns of some rows.

        Parameters
        ----------
        rows : ndarray of uint8, shape (n, n_bytes)
            Packed patterns.
        groups : ndarray of int, shape (n,)
            The group of each, from 0 to ``n_groups`` - 1.
        n_groups : int
            G; a group may have no rows.
        n_bits : int
            Length of the patterns.

        Returns
        -------
        PatternBank
        """
        keys, counts = np.unique(_keys(rows, groups), return_counts=True)
        parts = keys.view(np.uint8).reshape(len(keys), -1)
        owners = np.ascontiguousarray(parts[:, :8]).view(">u8")[:, 0].astype(np.intp)
        starts = np.searchsorted(owners, np.arange(n_groups + 1))
        return cls(np.ascontiguousarray(parts[:, 8:]), counts, starts, n_bits)

    def nearest(
        self,
        rows: NDArray[np.uint8],
        groups: NDArray[np.intp],
        *,
        backend: str = "auto",
        device: str = "cpu",
    ) -> NDArray[np.int32]:
        """Return each row's distance to the nearest pattern of the group given.

        Parameters
        ----------
        rows : ndarray of uint8, shape (m, n_bytes)
            Packed patterns.
        groups : ndarray of int, shape (m,)
            Where to look; -1 is a group without patterns.
        backend, device : str
            As in :func:`~skood.hamming.nearest_hamming`.

        Returns
        -------
        ndarray of int32, shape (m,)
            ``n_bits`` where the group has no pattern.
        """
        return self._search(rows, groups, 1, backend, device)[:, 0]

    def nearest_unseen(
        self,
        rows: NDArray[np.uint8],
        groups: NDArray[np.intp],
        own_groups: NDArray[np.intp],
        *,
        backend: str = "auto",
        device: str = "cpu",
    ) -> NDArray[np.int32]:
        """Return the distances of rows of the bank, each as if it had been left out.

        A pattern that only this row had is skipped; one that other rows of the group
        had too stays.

        Parameters
        ----------
        rows : ndarray of uint8, shape (m, n_bytes)
            Packed patterns that are in the bank.
        groups : ndarray of int, shape (m,)
            Where to look.
        own_groups : ndarray of int, shape (m,)
            Where each row was stored.
        backend, device : str
            As in :func:`~skood.hamming.nearest_hamming`.

        Returns
        -------
        ndarray of int32, shape (m,)
            ``n_bits`` where no pattern is left.
        """
        alone = self._counts_of(rows, own_groups) == 1
        first, second = self._search(rows, groups, 2, backend, device).T
        return np.where(alone & (groups == own_groups), second, first)

    def _search(
        self,
        rows: NDArray[np.uint8],
        groups: NDArray[np.intp],
        n_neighbors: int,
        backend: str,
        device: str,
    ) -> NDArray[np.int32]:
        distances = np.full((len(rows), n_neighbors), self.n_bits, dtype=np.int32)
        order = np.argsort(groups, kind="stable")
        asked, begins, counts = np.unique(
            groups[order], return_index=True, return_counts=True
        )
        words = rows.shape[1] // WORD_BYTES
        sizes = np.r_[np.diff(self.starts), 0][asked]  # the last is that of group -1
        # A library that no single group is worth loading for may be so for them all.
        usable = usable_backends(words * float(counts @ sizes), device)
        for group, members in zip(asked, np.split(order, begins[1:]), strict=True):
            if group >= 0:
                patterns = self.patterns[self.starts[group] : self.starts[group + 1]]
                chosen = backend
                if backend == "auto":
                    chosen = fastest(usable, len(members), len(patterns), words)
                distances[members] = nearest_hamming(
                    rows[members],
                    patterns,
                    self.n_bits,
                    n_neighbors=n_neighbors,
                    backend=chosen,
                    device=device,
                )
        return distances

    def _counts_of(
        self, rows: NDArray[np.uint8], groups: NDArray[np.intp]
    ) -> NDArray[np.intp]:
        """Return how often the bank has seen rows that are in it."""
        sizes = np.diff(self.starts)
        known = _keys(self.patterns, np.repeat(np.arange(len(sizes)), sizes))
        return self.counts[np.searchsorted(known, _keys(rows, groups))]


def _keys(rows: NDArray[np.uint8], groups: NDArray[np.intp]) -> NDArray[np.void]:
    """Return group and pattern as one value that sorts by group, then by pattern."""
    prefix = groups.astype(">u8").view(np.uint8).reshape(len(rows), 8)
    both = np.concatenate([prefix, rows], axis=1)
    return both.view(np.dtype((np.void, both.shape[1])))[:, 0]
