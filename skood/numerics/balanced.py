"""A sample of rows in which classes have equal shares, as far as they have the rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skood.numerics.seeds import uniform_draws

__all__ = ["KeptRows", "balanced_sample"]

Numbers = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class KeptRows:
    """What is known of the rows of a balanced sample, to draw on when more come.

    Parameters
    ----------
    rows : ndarray of int
        Their numbers among all rows so far, ascending.
    classes : ndarray of int
        Their classes.
    draws : ndarray of float64
        What they drew.
    seen : int
        Rows so far.
    """

    rows: Numbers
    classes: Numbers
    draws: NDArray[np.float64]
    seen: int

    @classmethod
    def of(
        cls, earlier: KeptRows | None, classes: Numbers, size: int
    ) -> tuple[KeptRows, Numbers, Numbers]:
        """Return a sample of rows so far and some more.

        Parameters
        ----------
        earlier : KeptRows or None
            The sample of the rows so far.
        classes : ndarray of int
            Those of the rows that come.
        size : int
            Rows that are kept, at most.

        Returns
        -------
        KeptRows
        old, new : ndarray of int
            The places of its rows, in the earlier sample and among those that come.
        """
        seen, n = 0 if earlier is None else earlier.seen, len(classes)
        rows, draws = seen + np.arange(n), uniform_draws(0, seen, n)
        if earlier is not None:
            rows = np.concatenate([earlier.rows, rows])
            classes = np.concatenate([earlier.classes, classes])
            draws = np.concatenate([earlier.draws, draws])
        kept = balanced_sample(draws, classes, size)
        n_old = len(rows) - n
        sample = cls(rows[kept], classes[kept], draws[kept], seen + n)
        return sample, kept[kept < n_old], kept[kept >= n_old] - n_old

    def of_classes(self, numbers: Numbers) -> KeptRows:
        """Return the same rows when their classes have got other numbers."""
        return replace(self, classes=numbers[self.classes])


def balanced_sample(draws: NDArray[np.float64], classes: Numbers, size: int) -> Numbers:
    """Return the places of at most ``size`` rows, in ascending order.

    Classes take turns: first the row of each with the lowest draw, then the second. A
    row that is left out of a sample is also left out when more rows come, so that a
    sample of samples is that of all rows.

    Parameters
    ----------
    draws : ndarray of shape (n,)
        A number that each row has drawn, no two the same.
    classes : ndarray of int, shape (n,)
        From 0 on.
    size : int
        How many rows are wanted.

    Returns
    -------
    ndarray of int

    Examples
    --------
    >>> import numpy as np
    >>> from skood.numerics.balanced import balanced_sample
    >>> draws = np.array([0.5, 0.1, 0.2, 0.3, 0.9])
    >>> balanced_sample(draws, np.array([0, 0, 0, 0, 1]), 3)
    array([1, 2, 4])
    """
    by_class = np.lexsort((draws, classes))
    counts = np.bincount(classes)
    turn = np.empty(len(draws), dtype=np.intp)
    turn[by_class] = np.arange(len(draws)) - np.repeat(
        np.cumsum(counts) - counts, counts
    )
    return np.sort(np.lexsort((draws, turn))[:size])
