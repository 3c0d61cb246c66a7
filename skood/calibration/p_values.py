"""Conformal p-values: the place of a score among scores of in-distribution rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skood.calibration.e_values import conformal_e_values
from skood.numerics.checked import checked_scores
from skood.numerics.device import array_namespace
from skood.numerics.graph import places
from skood.numerics.ranks import rank_for_rate

Floats = NDArray[np.float64]

TIE = 1e-6
"""Scores that differ by less of their size are equal: by as much may a row's score
depend on the rows scored beside it, as the products of float32 do."""

LARGEST = float(np.finfo(np.float64).max)


def conformal_p_values(calibration_scores: ArrayLike, scores: ArrayLike) -> Floats:
    r"""Return :math:`(1 + \#\{i : S_i \le s\}) / (n + 1)` for each score s.

    For a row that is exchangeable with the calibration rows, none of which the detector
    was fitted on, :math:`P(p \le \alpha) \le \alpha` for every :math:`\alpha`, and
    without ties it is :math:`\lfloor \alpha (n + 1) \rfloor / (n + 1)`. A score that is
    higher by less than a millionth of its size counts as equal, since rounding makes
    such differences between the scores of one row in two batches; p is the larger for
    it, and no less valid.

    Parameters
    ----------
    calibration_scores : array-like of shape (n_held_out,)
        Scores of in-distribution rows, higher = more in-distribution.
    scores : array-like of shape (n_samples,)
        Scores of the rows to test.

    Returns
    -------
    ndarray of shape (n_samples,)
        In (0, 1]; small for outliers.

    Raises
    ------
    ValueError
        If there are no calibration scores, or a score is NaN.

    References
    ----------
    Vovk, Gammerman and Shafer, "Algorithmic learning in a random world", 2nd ed.,
    Springer 2022, chapter 4. Bates et al., "Testing for outliers with conformal
    p-values", Annals of Statistics 51, 2023, Eq. (1).

    Examples
    --------
    >>> from skood.calibration import conformal_p_values
    >>> conformal_p_values([3.0, 1.0, 2.0, 4.0], [0.0, 1.0, 9.0])
    array([0.2, 0.4, 1. ])
    """
    known = checked_scores(calibration_scores, "calibration_scores")
    if len(known) == 0:
        raise ValueError("calibration_scores is empty: nothing to compare scores with.")
    below = no_higher(np.sort(known), checked_scores(scores, "scores"))
    return (1 + below) / (len(known) + 1)


def no_higher(reference: Floats, scores: Floats) -> NDArray[np.intp]:
    """Return how many of the reference scores are no higher than each score.

    Parameters
    ----------
    reference : ndarray of shape (n_held_out,)
        In ascending order.
    scores : ndarray of shape (n_samples,)

    Returns
    -------
    ndarray of int, shape (n_samples,)
        With those that are higher by less than a millionth.
    """
    finite = np.where(np.isfinite(scores), scores, 0.0)
    return np.searchsorted(reference, scores + TIE * np.abs(finite), side="right")


def p_values_in_graph(calibration_scores: Floats, scores: Any) -> Any:
    """Return the same of tensors that become a graph, of sorted scores."""
    below = no_higher_in_graph(calibration_scores, scores)
    return (1 + below) / (len(calibration_scores) + 1)


def no_higher_in_graph(reference: Floats, scores: Any) -> Any:
    """Return how many of the sorted scores are no higher, of tensors."""
    xp = array_namespace(scores)
    # Of an infinite score nothing is added, as in no_higher; NaN is below none.
    slack = xp.clip(TIE * xp.abs(scores), None, LARGEST)
    below = places(reference, scores + slack)
    return xp.astype(below, xp.float64)


@dataclass(frozen=True)
class Reference:
    """Held-out scores, by class and by the detector that gave them.

    Every class makes a test of its own, "the row is a sample of this class", with the
    rows of that class; without classes there is one.

    Parameters
    ----------
    scores : sequence over classes of sequence over detectors of ndarray
        Each in ascending order.
    """

    scores: Sequence[Sequence[Floats]]

    @classmethod
    def of(
        cls, scores: Sequence[Floats], classes: Sequence[NDArray[np.intp]]
    ) -> Reference:
        """Sort the held-out scores of each detector by the class of their rows."""
        n_classes = 1 + max(int(c.max(initial=0)) for c in classes)
        return cls(
            [
                [np.sort(s[c == number]) for s, c in zip(scores, classes, strict=True)]
                for number in range(n_classes)
            ]
        )

    @property
    def sizes(self) -> NDArray[np.intp]:
        """The number of rows of each class, over all detectors."""
        return np.array([sum(map(len, own)) for own in self.scores], dtype=np.intp)

    def of_detector(self, number: int) -> Reference:
        """Return what was held out from one detector alone."""
        return Reference([[own[number]] for own in self.scores])

    def counts_below(self, scores: Sequence[Floats]) -> NDArray[np.intp]:
        """Return how many held-out rows score no higher, by class.

        Each held-out row is compared with the new row under the one detector that has
        seen neither of them.

        Parameters
        ----------
        scores : sequence of ndarray of shape (n_samples,)
            The new rows' scores by each detector.

        Returns
        -------
        ndarray of shape (n_classes, n_samples)
        """
        return np.array(
            [
                np.sum(
                    [
                        no_higher(known, new)
                        for known, new in zip(own, scores, strict=True)
                    ],
                    axis=0,
                )
                for own in self.scores
            ]
        )

    def p_values(self, counts: NDArray[np.intp]) -> Floats:
        """Return (1 + count) / (n + 1) by class, of shape (n_classes, n_samples)."""
        return (1 + counts) / (self.sizes[:, None] + 1)

    def e_values(self, scores: Sequence[Floats], fdr: float) -> Floats:
        """Return e-values by one detector, of shape (n_classes, n_samples)."""
        by_class = self.p_values(self.counts_below(scores))
        return np.array([conformal_e_values(p, fdr) for p in by_class])

    def p_values_in_graph(self, scores: Sequence[Any]) -> Any:
        """Return the largest p-value of any class, of tensors that become a graph."""
        found = []
        for own, size in zip(self.scores, self.sizes, strict=True):
            pairs = zip(own, scores, strict=True)
            count = sum(no_higher_in_graph(known, new) for known, new in pairs)
            found.append((1 + count) / int(size + 1))
        return reduce(array_namespace(scores[0]).maximum, found)

    def valid_p_values(self, counts: NDArray[np.intp]) -> Floats:
        r"""Return p-values with P(p <= a) <= a, by class, of shape (n_classes, m).

        One detector: (1 + R) / (n + 1), where R is the count. Each detector with one
        held-out row: (2 R + 1) / (n + 1), from :math:`P((1 + R)/(n + 1) \le a) \le
        2 a - 1/(n + 1)`. Else 2 (K + R) / (n + K) for K detectors, twice the mean of
        the detectors' own p-values, each weighted by its number of rows and one more.
        """
        n, k = self.sizes[:, None], len(self.scores[0])
        if k == 1:
            return self.p_values(counts)
        if self.one_row_each:
            return np.minimum((2 * counts + 1) / (n + 1), 1.0)
        return np.minimum(2 * (k + counts) / (n + k), 1.0)

    @property
    def one_row_each(self) -> bool:
        """Whether every detector was fitted on all rows but one."""
        return bool(self.sizes.sum() == len(self.scores[0]))

    def false_alarm_bound(self, alpha: float) -> float:
        """Return the proved bound on P(p <= alpha), of the class where it is worst."""
        counts = np.array([rank_for_rate(int(n), alpha) - 1 for n in self.sizes])
        return float(self.valid_p_values(counts[:, None]).max())

    def smallest_above(self, alpha: float) -> float:
        """Return the smallest p-value above alpha that any class can give."""
        return min(
            (rank_for_rate(int(n), alpha) + 1) / (int(n) + 1) for n in self.sizes
        )

    @property
    def resolution(self) -> float:
        """Less than any two different p-values differ by."""
        return 0.5 / (int(self.sizes.max()) + 1) ** 2
