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
    Floats,
    by_kind,
)
from skood.plotting._limits import readable_limits
from skood.plotting._scores import ScoreDisplay

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ScoreHistogramDisplay(ScoreDisplay):
    """Scores of in-distribution rows and of outliers, with the threshold.

    Each histogram sums to one. The axis shows all rows, but for those that lie so far
    out that the in-distribution rows could not be told apart any more: these stand in
    the outermost bins, and below the axis is written how many there are.

    Parameters
    ----------
    inlier_scores : ndarray of shape (n_samples,)
        Higher = more in-distribution.
    outlier_scores : ndarray of shape (n_outliers,)
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
        """Plot given scores, and a threshold.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Class labels; -1 marks an outlier.
        y_score : array-like of shape (n_samples,)
            Higher = more in-distribution.
        threshold : float, optional
            Rows below are flagged. ``from_estimator`` gives the detector's ``offset_``,
            if it has one.
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
        display = cls._of_scores(y_true, y_score, name)
        display.threshold = threshold
        return display.plot(ax, **kwargs)

    @classmethod
    def _of_detector(cls, estimator: Any) -> dict[str, Any]:
        offset = getattr(last_step(estimator), "offset_", None)
        if not hasattr(estimator, "score_samples"):
            offset = 0.0
        return {"threshold": None if offset is None else float(np.ravel(offset)[0])}

    @classmethod
    def _of_scores(
        cls, y_true: ArrayLike, y_score: ArrayLike, name: str | None
    ) -> ScoreHistogramDisplay:
        known, unlike = by_kind(y_true, y_score, "y_score")
        return cls(known, unlike, name=name)

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
        if self.threshold is not None and self._threshold_within(edges):
            ax.axvline(self.threshold, color=NEUTRAL, linestyle="--", label="threshold")
        ax.set(
            xlabel="score (higher = more in-distribution)" + self._beyond(edges),
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
        """Return the ends of bins, in which the in-distribution rows have room."""
        known = self.inlier_scores
        line = [] if self.threshold is None else [self.threshold]
        shown = np.concatenate([known, self.outlier_scores, line])
        low, high = readable_limits(shown, known)
        return np.linspace(low, high, bins + 1)

    def _beyond(self, edges: Floats) -> str:
        """Return a line on what lies outside the axis, if something does."""
        kinds = {"in-distribution": self.inlier_scores, "outliers": self.outlier_scores}
        counts = [
            (np.count_nonzero(outside), f"{kind} {side}")
            for kind, scores in kinds.items()
            for side, outside in (
                ("below", scores < edges[0]),
                ("above", scores > edges[-1]),
            )
        ]
        said = [f"{count} {what}" for count, what in counts if count]
        if self.threshold is not None and not self._threshold_within(edges):
            said.append(f"the threshold, {self.threshold:.3g}")
        return f"\nbeyond the axis: {', '.join(said)}" if said else ""

    def _threshold_within(self, edges: Floats) -> bool:
        return self.threshold is not None and edges[0] <= self.threshold <= edges[-1]
