"""Detectors that keep training rows: all of them, or at most so many."""

from __future__ import annotations

from abc import abstractmethod
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skood._sklearn_compat import Interval
from skood.detectors.layers.base import LayerDetector
from skood.detectors.training import Training
from skood.numerics.balanced import KeptRows
from skood.numerics.drift import drift, drift_rows

__all__ = ["BoundedBank", "BoundedDetector"]


class BoundedDetector(LayerDetector):
    """Base class of detectors of layers that learn from at most so many rows.

    Parameters
    ----------
    max_rows : int, optional
        At most so many training rows, drawn with a seed so that classes (of ``y``, if
        given) have equal shares as far as they have the rows; None is all.

    Attributes
    ----------
    bank_rows_ : ndarray of int
        Under ``max_rows``, the numbers of these rows among the in-distribution rows.
    """

    max_rows: int | None = None

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "max_rows": [Interval(Integral, 2, None, closed="left"), None],
    }

    def _drawn(self, training: Training) -> Training:
        """Return the rows to learn from, and set ``bank_rows_`` if there is a limit."""
        if self.max_rows is None:
            return training
        kept, _, _ = KeptRows.of(None, training.class_numbers, self.max_rows)
        self.bank_rows_ = kept.rows
        return training.part(kept.rows)

    def _is_kept(self, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return which training rows were learned from."""
        kept = vars(self).get("bank_rows_")
        return np.ones(len(rows), bool) if kept is None else np.isin(rows, kept)


class BoundedBank(BoundedDetector):
    """Base class of those that compare rows with training rows, one by one.

    Attributes
    ----------
    drift_ : dict of str to float
        After ``fit``, if ``max_rows`` left rows out: how the scores of 256 training
        rows differ from those by all rows. ``"rank_correlation"`` is Spearman's,
        ``"shift"`` the mean difference in standard deviations.
    """

    @abstractmethod
    def _scores_left_out(
        self, some: Training, kept: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Return the scores of training rows, those in the bank as if left out."""

    @abstractmethod
    def _scores_by_all(self, training: Training, some: Training) -> NDArray[np.float64]:
        """Return what they would be if the bank had all training rows."""

    def _fit_all(self, training: Training, threshold_data: Any) -> None:
        super()._fit_all(training, threshold_data)
        kept = vars(self).get("bank_rows_")
        if kept is None or len(kept) == len(training):
            return
        rows = drift_rows(len(training))
        some = training.part(rows)
        self.drift_ = drift(
            self._scores_left_out(some, self._is_kept(rows)),
            self._scores_by_all(training, some),
        )
