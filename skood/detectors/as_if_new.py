"""The scores that rows a detector was fitted on would get if they were new."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skood.detectors.held_out import few_rows_a_column, held_out_scores
from skood.detectors.threshold import THRESHOLD_ROWS, threshold_rows
from skood.detectors.training import Training
from skood.detectors.twins import twin_rows
from skood.features import LayerFeatures
from skood.numerics.ranks import rows_for_rate
from skood.numerics.splits import HELD_OUT_SHARE, Rows, share

__all__ = ["ScoredAsIfNew"]

MOST_KEPT_OUT = 0.4
"""No larger a share of few rows is kept out of a detector for its threshold."""

FEWEST_KEPT_FROM = 10
"""Of fewer rows none is kept out: there would be hardly any to learn from."""

TOO_FEW = 50
"""Fits on fewer rows than this, and than columns, say little of one on all of them."""


class ScoredAsIfNew:
    """Mixin of detectors: what a threshold for new rows is set on.

    Exact leave-one-out scores where the detector has them, else those of rows held out
    of other fits; or, where neither is a guide, of rows kept out of the detector.
    """

    contamination: float

    _unbiased: ClassVar[str | None] = None
    """Why scores of training rows are those of new rows; None where they are not."""

    _kept_out_by_class: ClassVar[bool] = True
    """Whether each class gives its share of rows kept out, which small ones cannot."""

    @abstractmethod
    def _learn(self, training: Training) -> None:
        """Learn from in-distribution rows."""

    @abstractmethod
    def _scores(self, features: LayerFeatures) -> NDArray[np.float64]:
        """Return the scores of rows."""

    # For the subclasses ------------------------------------------------------------

    def _unseen_scores(
        self, training: Training, rows: NDArray[np.intp]
    ) -> NDArray[np.float64] | None:
        """Return the scores that training rows would get if they were new.

        ``training`` is a part of what was fitted on, ``rows`` its rows' numbers there.
        None if this cannot be had exactly: rows are then held out of other fits.
        """
        return self._scores(training.features) if self._unbiased else None

    def _differs_by_chance(self) -> bool:
        """Return whether fits on nearly the same rows differ, by their draws say."""
        return hasattr(self, "random_state")

    def _hangs_on_few(self, training: Training) -> bool:
        """Return whether single rows decide so much that no row can be left out.

        Scores by fits without some rows are then not those of new rows: the threshold
        comes from rows that are kept out of this detector itself.
        """
        return False

    # The scores --------------------------------------------------------------------

    def _scores_as_if_new(
        self, training: Training, unfitted: dict[str, Any]
    ) -> NDArray[np.float64]:
        """Return the scores that training rows, or some, would get if they were new."""
        if len(training) >= FEWEST_KEPT_FROM and self._hangs_on_few(training):
            return self._scores_of_kept_out(training, self._kept_out(training))
        rows = threshold_rows(len(training))
        scores = self._unseen_scores(training.part(rows), rows)
        if scores is not None:
            return self._with_twins(scores, training.features, rows)
        if self._differs_by_chance() and few_rows_a_column(*training.features.shape):
            kept_out = self._kept_out(training)
            if len(kept_out) >= rows_for_rate(self.contamination):
                return self._scores_of_kept_out(training, kept_out)
        self._warn_of_too_few(*training.features.shape)
        rows, scores = self._held_out_scores(training, unfitted)
        return self._with_twins(scores, training.features, rows)

    def _warn_of_too_few(self, n_rows: int, n_columns: int) -> None:
        if not FEWEST_KEPT_FROM <= n_rows < min(TOO_FEW, n_columns):
            return
        warnings.warn(
            f"contamination={self.contamination}: {n_rows} rows of {n_columns} columns "
            "are few. The threshold is inferred from fits on parts of them, and of new "
            "rows twice that share may be rejected. Set it on other rows "
            "(threshold_data), or give more.",
            UserWarning,
            stacklevel=2,
        )

    def _with_twins(
        self, scores: NDArray[np.float64], features: LayerFeatures, rows: Rows
    ) -> NDArray[np.float64]:
        """Give rows that are there several times the scores that they have.

        A new row of that kind gets the same, all of them lie on one side of the
        threshold, and what other fits say of them may lie on the other.
        """
        if self._unbiased or len(scores) != len(rows):
            return scores
        whole = len(rows) == len(features)
        twins = twin_rows(features if whole else features[rows])
        if twins.any():
            scores = scores.copy()
            scores[twins] = self._scores(features[rows[twins]])
        return scores

    def _kept_out(self, training: Training) -> Rows:
        """Return the rows to keep out of this detector itself, for its threshold.

        A fifth, or as many as the rate takes, but at most two fifths.
        """
        n_rows, classes = len(training), None
        least = float(rows_for_rate(self.contamination))
        if self._kept_out_by_class and training.classes is not None:
            classes = training.classes
            least += training.n_classes / 2  # what rounding may take off
        size = min(max(HELD_OUT_SHARE, least / n_rows), MOST_KEPT_OUT)
        most = max(THRESHOLD_ROWS, least) / n_rows
        return share(n_rows, min(size, most), classes)

    def _scores_of_kept_out(
        self, training: Training, kept_out: Rows
    ) -> NDArray[np.float64]:
        """Learn anew without some rows, and return their scores."""
        self._learn(training.alone(np.setdiff1d(np.arange(len(training)), kept_out)))
        return self._scores(training.features[kept_out])

    def _held_out_scores(
        self, training: Training, unfitted: dict[str, Any]
    ) -> tuple[Rows, NDArray[np.float64]]:
        """Return rows that were held out of a fit, and their scores."""
        n_rows, n_columns = training.features.shape

        def scores_of(kept: Rows, held_out: Rows) -> NDArray[np.float64]:
            other = object.__new__(type(self))
            other.__dict__.update(unfitted)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the fit on all rows has said it
                other._learn(training.alone(kept))
            return other._scores(training.features[held_out])

        return held_out_scores(scores_of, n_rows, n_columns, training.classes)
