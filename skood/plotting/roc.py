"""The ROC curve with in-distribution as the positive class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike
from sklearn.metrics import roc_curve

from skood.metrics import auroc, fpr_at_tpr
from skood.numerics.arrays import as_array
from skood.numerics.labels import inlier_mask
from skood.plotting._axes import NEUTRAL, Floats, draw_curve
from skood.plotting._scores import ScoreDisplay

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class RocDisplay(ScoreDisplay):
    """Share of in-distribution rows accepted against share of outliers accepted.

    FPR95, the share of outliers accepted when 95 % of the in-distribution rows are, is
    marked on the curve.

    Parameters
    ----------
    fpr, tpr : ndarray of shape (n_thresholds,)
        Shares of outliers and of in-distribution rows accepted.
    auroc : float
        The area under the curve.
    fpr95 : float
        The share of outliers accepted at 95 %.
    name : str, optional
        Of the detector.

    Attributes
    ----------
    ax_, figure_ : matplotlib axes and figure
        Set by ``plot``.
    line_ : matplotlib line
        The curve.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.plotting import RocDisplay
    >>> scores = np.random.default_rng(0).normal(size=400) + np.repeat([2, 0], 200)
    >>> display = RocDisplay.from_predictions(np.repeat([0, -1], 200), scores)
    >>> round(display.auroc, 2), round(display.fpr95, 2)
    (0.93, 0.28)
    """

    def __init__(
        self,
        fpr: Floats,
        tpr: Floats,
        *,
        auroc: float,
        fpr95: float,
        name: str | None = None,
    ) -> None:
        self.fpr = fpr
        self.tpr = tpr
        self.auroc = auroc
        self.fpr95 = fpr95
        self.name = name

    @classmethod
    def _of_scores(
        cls, y_true: ArrayLike, y_score: ArrayLike, name: str | None
    ) -> RocDisplay:
        area, fpr95 = auroc(y_true, y_score), fpr_at_tpr(y_true, y_score)
        fpr, tpr, _ = roc_curve(inlier_mask(y_true), as_array(y_score, "y_score"))
        return cls(fpr, tpr, auroc=area, fpr95=fpr95, name=name)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> RocDisplay:
        """Draw the curve; several detectors may share one axes.

        Parameters
        ----------
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For matplotlib's ``plot``.

        Returns
        -------
        RocDisplay
            Itself.
        """
        first = ax is None or not ax.has_data()
        ax = self._take_axes(ax)
        figures = f"AUROC {self.auroc:.3f}, FPR95 {self.fpr95:.1%}"
        label = f"{self.name} ({figures})" if self.name else figures
        style = {"label": label, **kwargs}
        self.line_ = draw_curve(ax, self.fpr, self.tpr, **style)
        ax.plot(self.fpr95, 0.95, "o", color=self.line_.get_color(), clip_on=False)
        if first:
            ax.axhline(0.95, color=NEUTRAL, linestyle=":", linewidth=1)
            ax.annotate(
                "95 %",
                (1.01, 0.95),
                (3, 0),
                textcoords="offset points",
                color=NEUTRAL,
                va="center",
                annotation_clip=False,
            )
            ax.plot([0, 1], [0, 1], color=NEUTRAL, linestyle="--", linewidth=1)
        ax.set(
            xlabel="outliers accepted (false-positive rate)",
            ylabel="in-distribution accepted (true-positive rate)",
            xlim=(-0.01, 1.01),
            ylim=(-0.01, 1.01),
            aspect="equal",
        )
        ax.legend(loc="lower right")
        return self
