"""The detection error trade-off of a detector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm
from sklearn.metrics import det_curve

from skood.metrics import fpr_at_tpr
from skood.numerics.arrays import as_array
from skood.numerics.labels import inlier_mask
from skood.plotting._axes import NEUTRAL, Floats, draw_curve
from skood.plotting._scores import ScoreDisplay

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TICKS = np.array([0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 0.999])


class DetDisplay(ScoreDisplay):
    """Share of in-distribution rows rejected against share of outliers accepted.

    Both axes are in normal deviates, which spread the corner where good detectors lie
    and turn normally distributed scores into a straight line. FPR95 is marked.

    Parameters
    ----------
    fpr, fnr : ndarray of shape (n_thresholds,)
        Shares of outliers accepted and of in-distribution rows rejected.
    fpr95 : float
        The share of outliers accepted when 5 % of the in-distribution is rejected.
    name : str, optional
        Of the detector.

    Attributes
    ----------
    ax_, figure_ : matplotlib axes and figure
        Set by ``plot``.
    line_ : matplotlib line
        The curve.

    References
    ----------
    Martin et al., "The DET curve in assessment of detection task performance",
    Eurospeech 1997.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.plotting import DetDisplay
    >>> scores = np.random.default_rng(0).normal(size=400) + np.repeat([2, 0], 200)
    >>> display = DetDisplay.from_predictions(np.repeat([0, -1], 200), scores)
    >>> round(display.fpr95, 2)
    0.28
    """

    def __init__(
        self, fpr: Floats, fnr: Floats, *, fpr95: float, name: str | None = None
    ) -> None:
        self.fpr = fpr
        self.fnr = fnr
        self.fpr95 = fpr95
        self.name = name

    @classmethod
    def _of_scores(
        cls, y_true: ArrayLike, y_score: ArrayLike, name: str | None
    ) -> DetDisplay:
        fpr95 = fpr_at_tpr(y_true, y_score)
        fpr, fnr, _ = det_curve(inlier_mask(y_true), as_array(y_score, "y_score"))
        return cls(fpr, fnr, fpr95=fpr95, name=name)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> DetDisplay:
        """Draw the curve; several detectors may share one axes.

        Parameters
        ----------
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For matplotlib's ``plot``.

        Returns
        -------
        DetDisplay
            Itself.
        """
        first = ax is None or not ax.has_data()
        ax = self._take_axes(ax)
        figure = f"FPR95 {self.fpr95:.1%}"
        style = {"label": f"{self.name} ({figure})" if self.name else figure, **kwargs}
        self.line_ = draw_curve(ax, _deviates(self.fpr), _deviates(self.fnr), **style)
        mark = _deviates(np.array([self.fpr95, 0.05]))
        ax.plot(mark[:1], mark[1:], "o", color=self.line_.get_color(), clip_on=False)
        if first:
            ax.axhline(norm.ppf(0.05), color=NEUTRAL, linestyle=":", linewidth=1)
        ticks, labels = norm.ppf(TICKS), [f"{tick:g}" for tick in TICKS * 100]
        ends = norm.ppf([0.0008, 0.9992])
        ax.set_xticks(ticks, labels)
        ax.set_yticks(ticks, labels)
        ax.set(
            xlabel="outliers accepted (%)",
            ylabel="in-distribution rejected (%)",
            xlim=ends,
            ylim=ends,
            aspect="equal",
        )
        ax.legend(loc="upper right")
        return self


def _deviates(shares: Floats) -> Floats:
    """Return normal deviates, those of 0 and 1 just outside the axes."""
    return norm.ppf(np.clip(shares, 0.0005, 0.9995))
