"""Histograms of the scores of both kinds of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from skood.model_selection._estimators import last_step
from skood.plotting._axes import (
    INLIERS,
    NEUTRAL,
    OUTLIERS,
    Display,
    Floats,
    by_kind,
    scores_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ScoreHistogramDisplay(Display):
    """Scores of in-distribution rows and of outliers, with the threshold.

    Each histogram sums to one. Rows beyond the ends of the axis are counted in the
    outermost bins, so that a few far outliers do not squeeze all others.

    Parameters
    ----------
    inlier_scores : ndarray of shape (n,)
        Higher = more in-distribution.
    outlier_scores : ndarray of shape (m,)
        May be empty.
    threshold : float, optional
        Rows below are flagged.
    name : str, optional
        Of the detector.

    Attributes
    ----------
    ax_, figure_ : matplotlib axes and figure
        Set by ``plot``.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.plotting import ScoreHistogramDisplay
    >>> rng = np.random.default_rng(0)
    >>> y, scores = np.repeat([0, -1], 100), np.repeat([2.0, 0.0], 100)
    >>> display = ScoreHistogramDisplay.from_predictions(
    ...     y, scores + rng.normal(size=200), threshold=0.5
    ... )
    >>> display.ax_.get_xlabel()
    'score (higher = more in-distribution)'
    """

    def __init__(
        self,
        inlier_scores: Floats,
        outlier_scores: Floats,
        *,
        threshold: float | None = None,
        name: str | None = None,
    ) -> None:
        self.inlier_scores = inlier_scores
        self.outlier_scores = outlier_scores
        self.threshold = threshold
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> ScoreHistogramDisplay:
        """Plot a fitted detector's scores, and its ``offset_`` if it has one.

        Parameters
        ----------
        estimator : object
            Fitted, with ``score_samples`` or ``decision_function``.
        X : array-like of length n
            Rows that it was not fitted on.
        y : array-like of shape (n,)
            Class labels; -1 marks an outlier.
        name : str, optional
            Of the detector.
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For ``plot``.

        Returns
        -------
        ScoreHistogramDisplay
        """
        scores, name = scores_of(estimator, X, name)
        offset = getattr(last_step(estimator), "offset_", None)
        if not hasattr(estimator, "score_samples"):
            offset = 0.0
        threshold = None if offset is None else float(np.ravel(offset)[0])
        return cls.from_predictions(
            y, scores, threshold=threshold, name=name, ax=ax, **kwargs
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_score: ArrayLike,
        *,
        threshold: float | None = None,
        name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> ScoreHistogramDisplay:
        """Plot given scores.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            Class labels; -1 marks an outlier.
        y_score : array-like of shape (n,)
            Higher = more in-distribution.
        threshold : float, optional
            Rows below are flagged.
        name : str, optional
            Of the detector.
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For ``plot``.

        Returns
        -------
        ScoreHistogramDisplay

        Raises
        ------
        ValueError
            If the lengths differ or no row is in-distribution.
        """
        known, unlike = by_kind(y_true, y_score, "y_score")
        return cls(known, unlike, threshold=threshold, name=name).plot(ax, **kwargs)

    def plot(
        self, ax: Axes | None = None, *, bins: int = 50, **kwargs: Any
    ) -> ScoreHistogramDisplay:
        """Draw the histograms.

        Parameters
        ----------
        ax : matplotlib axes, optional
            A new figure's without it.
        bins : int, default=50
            Number of bins, the same for both kinds.
        **kwargs : dict
            For matplotlib's ``hist``.

        Returns
        -------
        ScoreHistogramDisplay
            Itself.
        """
        ax = self._take_axes(ax)
        edges = self._edges(bins)
        kinds = [
            ("in-distribution", "flagged", self.inlier_scores, INLIERS),
            ("outliers", "accepted", self.outlier_scores, OUTLIERS),
        ]
        for kind, mistake, scores, colour in kinds:
            if len(scores):
                style = {"color": colour, "alpha": 0.55, **kwargs}
                ax.hist(
                    np.clip(scores, edges[0], edges[-1]),
                    bins=edges.tolist(),
                    weights=np.full(len(scores), 1 / len(scores)),
                    label=self._label(kind, mistake, scores),
                    **style,
                )
        if self.threshold is not None:
            ax.axvline(self.threshold, color=NEUTRAL, linestyle="--", label="threshold")
        ax.set(
            xlabel="score (higher = more in-distribution)",
            ylabel="share of the rows of each kind",
            title=self.name or "",
        )
        ax.legend()
        return self

    def _label(self, kind: str, mistake: str, scores: Floats) -> str:
        if self.threshold is None:
            return kind
        below = np.mean(scores < self.threshold)
        share = below if mistake == "flagged" else 1 - below
        return f"{kind} ({share:.1%} {mistake})"

    def _edges(self, bins: int) -> Floats:
        """Return bins from the lowest to the highest 1 % of either kind."""
        ends = [
            np.quantile(scores[np.isfinite(scores)], [0.01, 0.99])
            for scores in (self.inlier_scores, self.outlier_scores)
            if np.isfinite(scores).any()
        ]
        if self.threshold is not None:
            ends.append(np.repeat(self.threshold, 2))
        low, high = np.min(ends), np.max(ends)
        return np.linspace(low, high if high > low else low + 1, bins + 1)
