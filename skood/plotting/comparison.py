"""Detectors side by side on several sets of outliers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skood.metrics.units import in_units
from skood.plotting._axes import CURVES, Display

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


class ComparisonDisplay(Display):
    """One metric of each detector on each set of outliers, with intervals.

    Parameters
    ----------
    values : DataFrame
        Detectors by outlier sets; shares in per cent.
    low, high : DataFrame, optional
        The bounds of the intervals.
    metric : str, default="auroc"
        The metric's name.

    Attributes
    ----------
    ax_, figure_ : matplotlib axes and figure
        Set by ``plot``.

    Examples
    --------
    >>> import pandas as pd
    >>> from skood.plotting import ComparisonDisplay
    >>> values = pd.DataFrame({"near": [70.0, 75.0]}, index=["KNN", "Energy"])
    >>> display = ComparisonDisplay(values).plot()
    >>> display.ax_.get_xlabel()
    'AUROC, %'
    """

    def __init__(
        self,
        values: pd.DataFrame,
        low: pd.DataFrame | None = None,
        high: pd.DataFrame | None = None,
        *,
        metric: str = "auroc",
    ) -> None:
        self.values = values
        self.low = low
        self.high = high
        self.metric = metric

    @classmethod
    def from_table(
        cls,
        table: pd.DataFrame,
        metric: str = "auroc",
        *,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> ComparisonDisplay:
        """Plot a column of the table of :func:`skood.compare`.

        Parameters
        ----------
        table : DataFrame
            Indexed by detector and outliers.
        metric : str, default="auroc"
            The column.
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For ``plot``.

        Returns
        -------
        ComparisonDisplay
        """
        if metric not in table.columns:
            raise ValueError(
                f"metric={metric!r}: the table has {', '.join(table.columns)}."
            )
        detectors, sets = (table.index.unique(level) for level in (0, 1))
        names = (metric, f"{metric}_low", f"{metric}_high")
        size, _ = in_units(metric)
        frames = [
            size * table[name].unstack().loc[detectors, sets] if name in table else None
            for name in names
        ]
        return cls(*frames, metric=metric).plot(ax, **kwargs)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> ComparisonDisplay:
        """Draw a row a set, a mark a detector.

        Parameters
        ----------
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For matplotlib's ``errorbar``.

        Returns
        -------
        ComparisonDisplay
            Itself.
        """
        ax = self._take_axes(ax)
        count, n_sets = self.values.shape
        for number, name in enumerate(self.values.index):
            places = np.arange(n_sets) + (number - (count - 1) / 2) * 0.7 / count
            style = {
                "fmt": "o",
                "color": CURVES[number % len(CURVES)],
                "label": str(name),
                "xerr": self._errors(name),
            }
            ax.errorbar(self.values.loc[name], places, **{**style, **kwargs})
        ax.set_yticks(range(n_sets), [str(name) for name in self.values.columns])
        ax.invert_yaxis()
        unit = in_units(self.metric)[1]
        ax.set_xlabel(f"{self.metric.replace('_', ' ').upper()}{unit}")
        ax.legend()
        return self

    def _errors(self, name: Any) -> Any:
        if self.low is None or self.high is None:
            return None
        value = self.values.loc[name]
        parts = [value - self.low.loc[name], self.high.loc[name] - value]
        return np.maximum(np.array(parts, dtype=np.float64), 0.0)
