"""Who the members of an ensemble are, what they saw and how much they count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skood.model_selection._estimators import last_step
from skood.plotting._axes import CURVES, NEUTRAL, Display

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

BARS = "#D0D0D0"
MARKS = "osD^vPX*"
COLUMNS = ("view", "weight", "left_out")
AUROC = "auroc_"


class EnsembleReportDisplay(Display):
    """Weight of each member, and its AUROC on each kind of pseudo outliers.

    A row a member, its view beside it; a bar is its weight, a mark its area under the
    ROC curve on one kind. A member that was left out has no bar. A rule without
    weights (``"fisher"``) shows marks alone, one without pseudo outliers bars alone.

    Parameters
    ----------
    report : DataFrame
        ``report_`` of :class:`~skood.AutoOOD`, :class:`~skood.DetectorEnsemble` or
        :class:`~skood.LayerEnsemble`.
    name : str, optional
        Of the ensemble.

    Attributes
    ----------
    ax_, figure_ : matplotlib axes and figure
        Set by ``plot``.

    Raises
    ------
    ValueError
        If the report is no such table.

    Examples
    --------
    >>> from skood import AutoOOD
    >>> from skood.estimator_checks import synthetic_features
    >>> from skood.plotting import EnsembleReportDisplay
    >>> features, y = synthetic_features(300, 0)
    >>> auto = AutoOOD().fit(features, y)
    >>> display = EnsembleReportDisplay.from_estimator(auto)
    >>> display.kinds
    ['jigsaw']
    >>> display.ax_.get_title()
    'AutoOOD'
    """

    def __init__(self, report: pd.DataFrame, *, name: str | None = None) -> None:
        missing = [c for c in COLUMNS if c not in getattr(report, "columns", ())]
        if missing:
            raise ValueError(
                f"report has no column {', '.join(map(repr, missing))}: give the "
                "report_ of a fitted ensemble."
            )
        self.report = report
        self.name = name

    @property
    def kinds(self) -> list[str]:
        """The kinds of outliers that the members were tried on."""
        found = [name for name in self.report.columns if name.startswith(AUROC)]
        return [name.removeprefix(AUROC) for name in found]

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> EnsembleReportDisplay:
        """Plot the report of a fitted ensemble.

        Parameters
        ----------
        estimator : AutoOOD, DetectorEnsemble or LayerEnsemble
            Fitted; may be the last step of a pipeline.
        name : str, optional
            Of the ensemble; by default its class's.
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For ``plot``.

        Returns
        -------
        EnsembleReportDisplay

        Raises
        ------
        TypeError
            If the estimator is no ensemble.
        """
        ensemble = last_step(estimator)
        if not hasattr(type(ensemble), "report_"):
            raise TypeError(
                f"{type(ensemble).__name__} has no report_: give a fitted AutoOOD, "
                "DetectorEnsemble or LayerEnsemble."
            )
        name = type(ensemble).__name__ if name is None else name
        return cls(ensemble.report_, name=name).plot(ax, **kwargs)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> EnsembleReportDisplay:
        """Draw a row a member.

        Parameters
        ----------
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For the bars, matplotlib's ``barh``.

        Returns
        -------
        EnsembleReportDisplay
            Itself.
        """
        n_members = len(self.report)
        ax = self._take_axes(ax, figsize=(7.5, 1.5 + 0.35 * n_members))
        places = np.arange(n_members)
        weights = 100 * self.report["weight"].to_numpy(dtype=np.float64)
        if np.isfinite(weights).any():
            style = {"color": BARS, "label": "weight", **kwargs}
            ax.barh(places, np.nan_to_num(weights), **style)
        self._name_views(ax, weights)
        self._mark_kinds(ax, places)
        ax.set_yticks(places, self._labels())
        ax.set(
            xlim=(0, 101),
            ylim=(n_members - 0.5, -0.5),
            xlabel=self._what(weights),
            title=self.name or "",
        )
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
        return self

    def _name_views(self, ax: Axes, weights: Any) -> None:
        for place, (view, end) in enumerate(
            zip(self.report["view"], np.nan_to_num(weights), strict=True)
        ):
            ax.text(end + 1, place, str(view), va="center", size=8, color=NEUTRAL)

    def _mark_kinds(self, ax: Axes, places: Any) -> None:
        for number, kind in enumerate(self.kinds):
            ax.plot(
                100 * self.report[AUROC + kind],
                places,
                MARKS[number % len(MARKS)],
                color=CURVES[number % len(CURVES)],
                label=kind.replace("_", " "),
            )
        if self.kinds:
            ax.axvline(50, color=NEUTRAL, linestyle=":", linewidth=1)

    def _labels(self) -> list[str]:
        left_out = self.report["left_out"] != ""
        return [
            f"{name} (left out)" if out else str(name)
            for name, out in zip(self.report.index, left_out, strict=True)
        ]

    def _what(self, weights: Any) -> str:
        shown = ["weight"] if np.isfinite(weights).any() else []
        if self.kinds:
            shown.append("AUROC by kind of outliers")
        return f"{' and '.join(shown)}, %" if shown else ""
