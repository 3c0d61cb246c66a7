"""Whether the p-values of in-distribution rows are uniform."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import betabinom, binom

from skood.numerics.checked import checked_p_values
from skood.plotting._axes import (
    INLIERS,
    NEUTRAL,
    OUTLIERS,
    Display,
    Floats,
    by_kind,
    draw_curve,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class PValueCalibrationDisplay(Display):
    """Share of rows with a p-value up to each level.

    For in-distribution rows the curve should follow the diagonal; the band holds it at
    any one level with 95 % probability, if the p-values are valid. The higher the
    outliers' curve, the more of them are found at that level.

    Parameters
    ----------
    inlier_p_values : ndarray of shape (n_samples,)
        Of rows that took no part in fitting or calibration.
    outlier_p_values : ndarray of shape (n_outliers,)
        May be empty.
    n_calibration : int, optional
        The number of calibration rows that all p-values share: the band then allows for
        their luck too. Without it the p-values are taken for independent.
    name : str, optional
        Of the detector.

    Attributes
    ----------
    ax_, figure_ : matplotlib axes and figure
        Set by ``plot``.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.plotting import PValueCalibrationDisplay
    >>> rng = np.random.default_rng(0)
    >>> y, p = np.repeat([0, -1], 100), rng.random(200) ** np.repeat([1, 4], 100)
    >>> display = PValueCalibrationDisplay.from_predictions(y, p)
    >>> display.ax_.get_xlabel()
    'level'
    """

    def __init__(
        self,
        inlier_p_values: Floats,
        outlier_p_values: Floats,
        *,
        n_calibration: int | None = None,
        name: str | None = None,
    ) -> None:
        self.inlier_p_values = inlier_p_values
        self.outlier_p_values = outlier_p_values
        self.n_calibration = n_calibration
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
    ) -> PValueCalibrationDisplay:
        """Plot the p-values of a fitted conformal detector.

        The band is exact for ``method="split"`` without classes, and a guide otherwise.

        Parameters
        ----------
        estimator : ConformalDetector
            Fitted.
        X : array-like of length n
            Rows that were not in its ``fit``.
        y : array-like of shape (n_samples,)
            Class labels; -1 marks an outlier.
        name : str, optional
            Of the detector.
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For ``plot``.

        Returns
        -------
        PValueCalibrationDisplay
        """
        return cls.from_predictions(
            y,
            estimator.p_values(X),
            n_calibration=int(estimator.n_calibration_.min()),
            name=f"{estimator.method} conformal" if name is None else name,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        p_values: ArrayLike,
        *,
        n_calibration: int | None = None,
        name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> PValueCalibrationDisplay:
        """Plot given p-values.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Class labels; -1 marks an outlier.
        p_values : array-like of shape (n_samples,)
            Small for outliers.
        n_calibration : int, optional
            The number of calibration rows that all p-values share.
        name : str, optional
            Of the detector.
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For ``plot``.

        Returns
        -------
        PValueCalibrationDisplay

        Raises
        ------
        ValueError
            If the lengths differ or no row is in-distribution.
        """
        known, unlike = by_kind(y_true, checked_p_values(p_values), "p_values")
        display = cls(known, unlike, n_calibration=n_calibration, name=name)
        return display.plot(ax, **kwargs)

    def plot(
        self, ax: Axes | None = None, *, log: bool = False, **kwargs: Any
    ) -> PValueCalibrationDisplay:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib axes, optional
            A new figure's without it.
        log : bool, default=False
            Logarithmic axes, for the small levels that alarms use.
        **kwargs : dict
            For matplotlib's ``plot``.

        Returns
        -------
        PValueCalibrationDisplay
            Itself.
        """
        ax = self._take_axes(ax)
        levels = np.geomspace(1e-3, 1, 300) if log else np.linspace(0, 1, 301)
        low, high = self._band(levels)
        ax.fill_between(
            levels, low, high, color=NEUTRAL, alpha=0.2, linewidth=0, label="95 % band"
        )
        ax.plot(levels, levels, color=NEUTRAL, linestyle="--", linewidth=1)
        kinds = [
            ("in-distribution", self.inlier_p_values, INLIERS),
            ("outliers", self.outlier_p_values, OUTLIERS),
        ]
        for label, p_values, colour in kinds:
            if len(p_values):
                shares = np.searchsorted(np.sort(p_values), levels, "right")
                style = {"color": colour, "label": label, **kwargs}
                draw_curve(ax, levels, shares / len(p_values), **style)
        if log:
            ax.set(xscale="log", yscale="log", ylim=(1e-3, 1.1))
        ax.set(
            xlabel="level",
            ylabel="share of rows with p ≤ level",
            title=self.name or "",
            aspect="equal",
        )
        ax.legend()
        return self

    def _band(self, levels: Floats) -> tuple[Floats, Floats]:
        """Return where the in-distribution curve is to be expected, 95 % a level."""
        m, n = len(self.inlier_p_values), self.n_calibration
        if n is None:
            law = binom(m, levels)
        else:
            # Up to a level fall all rows below the k-th smallest of n scores.
            k = np.clip(np.floor(levels * (n + 1) + 1e-9), 0.5, n + 0.5)
            law = betabinom(m, k, n + 1 - k)
        return law.ppf(0.025) / m, law.ppf(0.975) / m
