"""The scores of a search over two parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from skood.plotting._axes import OUTLIERS, Display, Floats
from skood.plotting._limits import readable_limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class GridHeatmapDisplay(Display):
    """Mean test scores of a search, over two of its parameters.

    Where the search had other parameters too, a cell shows the best score over these.
    The best cell is framed; a cell that was not tried is left white. The colours tell
    apart the scores that lie together; one that lies far out has the colour of the end,
    an arrow on the colour bar, and its number in the cell.

    Parameters
    ----------
    scores : ndarray of shape (n_rows, n_columns)
        NaN where there is none.
    rows, columns : tuple of str and sequence
        Each a parameter's name and its values.
    metric : str, default="score"
        What the scores are.

    Attributes
    ----------
    ax_, figure_ : matplotlib axes and figure
        Set by ``plot``.

    Examples
    --------
    >>> from skood.plotting import GridHeatmapDisplay
    >>> results = {
    ...     "params": [{"k": k, "c": c} for k in (1, 5) for c in (0.1, 0.2)],
    ...     "mean_test_score": [0.5, 0.6, 0.9, 0.7],
    ... }
    >>> GridHeatmapDisplay.from_predictions(results, "k", "c").scores
    array([[0.5, 0.6],
           [0.9, 0.7]])
    """

    def __init__(
        self,
        scores: Floats,
        rows: tuple[str, Sequence[Any]],
        columns: tuple[str, Sequence[Any]],
        *,
        metric: str = "score",
    ) -> None:
        self.scores = scores
        self.rows = rows
        self.columns = columns
        self.metric = metric

    @classmethod
    def from_estimator(
        cls,
        search: Any,
        rows: str,
        columns: str,
        *,
        metric: str = "score",
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> GridHeatmapDisplay:
        """Plot the results of a fitted search.

        Parameters
        ----------
        search : GridSearchCV or another search of scikit-learn
            Fitted.
        rows, columns : str
            The names of two parameters, as in the search; their last part will do when
            no other has it (``"percentile"`` for ``"detector__percentile"``).
        metric : str, default="score"
            For a multi-metric search the name of one of its metrics.
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For ``plot``.

        Returns
        -------
        GridHeatmapDisplay
        """
        return cls.from_predictions(
            search.cv_results_, rows, columns, metric=metric, ax=ax, **kwargs
        )

    @classmethod
    def from_predictions(
        cls,
        cv_results: Mapping[str, Any],
        rows: str,
        columns: str,
        *,
        metric: str = "score",
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> GridHeatmapDisplay:
        """Plot the ``cv_results_`` of a search.

        Parameters
        ----------
        cv_results : mapping
            With ``"params"`` and ``"mean_test_<metric>"``.
        rows, columns : str
            The names of two parameters, or their last parts.
        metric : str, default="score"
            What to show.
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For ``plot``.

        Returns
        -------
        GridHeatmapDisplay

        Raises
        ------
        ValueError
            If there is no such parameter or metric.
        """
        means = _means(cv_results, metric)
        chosen = [_full_name(cv_results["params"], name) for name in (rows, columns)]
        values = [
            _in_order([p.get(name) for p in cv_results["params"]]) for name in chosen
        ]
        scores = np.full((len(values[0]), len(values[1])), np.nan)
        for params, mean in zip(cv_results["params"], means, strict=True):
            cell = tuple(
                v.index(params.get(name))
                for v, name in zip(values, chosen, strict=True)
            )
            scores[cell] = np.fmax(scores[cell], mean)
        display = cls(
            scores,
            (chosen[0], values[0]),
            (chosen[1], values[1]),
            metric=metric,
        )
        return display.plot(ax, **kwargs)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> GridHeatmapDisplay:
        """Draw the map.

        Parameters
        ----------
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For matplotlib's ``imshow``.

        Returns
        -------
        GridHeatmapDisplay
            Itself.
        """
        ax = self._take_axes(ax)
        style = {"cmap": "cividis", "aspect": "auto", **kwargs}
        if not {"clim", "norm", "vmax", "vmin"} & {*kwargs}:
            style["clim"] = readable_limits(self.scores, self.scores, share=0.5)
        image = ax.imshow(self.scores, **style)
        self._draw_colour_bar(ax, image)
        self._write_scores(ax, image)
        for axis, (name, values) in zip("yx", (self.rows, self.columns), strict=True):
            labels = [_short(value) for value in values]
            getattr(ax, f"set_{axis}ticks")(range(len(values)), labels)
            getattr(ax, f"set_{axis}label")(name)
        return self

    def _draw_colour_bar(self, ax: Axes, image: Any) -> None:
        low, high = image.get_clim()
        outside = {
            "below": np.count_nonzero(self.scores < low),
            "above": np.count_nonzero(self.scores > high),
        }
        said = [f"{count} {side} the bar" for side, count in outside.items() if count]
        ends = {(): "neither", ("below",): "min", ("above",): "max"}
        extend = ends.get(tuple(s for s in outside if outside[s]), "both")
        label = f"mean test {self.metric}" + (f" ({', '.join(said)})" if said else "")
        self.figure_.colorbar(image, ax=ax, extend=extend, label=label)

    def _write_scores(self, ax: Axes, image: Any) -> None:
        best = np.unravel_index(np.nanargmax(self.scores), self.scores.shape)
        for (row, column), score in np.ndenumerate(self.scores):
            if np.isnan(score):
                continue
            red, green, blue, _ = image.to_rgba(score)
            dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
            ax.text(
                column,
                row,
                f"{score:.3f}" if abs(score) < 1e4 else f"{score:.3g}",
                ha="center",
                va="center",
                color="white" if dark else "black",
                fontweight="bold" if (row, column) == best else "normal",
            )
        from matplotlib.patches import Rectangle

        corner = (float(best[1]) - 0.47, float(best[0]) - 0.47)
        frame = Rectangle(
            corner, 0.94, 0.94, fill=False, edgecolor=OUTLIERS, linewidth=2.5
        )
        ax.add_patch(frame)


def _means(cv_results: Mapping[str, Any], metric: str) -> Floats:
    key = f"mean_test_{metric}"
    if key not in cv_results:
        known = [k.removeprefix("mean_test_") for k in cv_results if "mean_test_" in k]
        raise ValueError(f"metric={metric!r}: the search has {known}.")
    return np.asarray(cv_results[key], dtype=np.float64)


def _full_name(params: Sequence[Mapping[str, Any]], name: str) -> str:
    known = list(dict.fromkeys(key for p in params for key in p))
    matches = [key for key in known if name == key]
    matches = matches or [key for key in known if key.split("__")[-1] == name]
    if len(matches) != 1:
        raise ValueError(f"parameter {name!r}: the search varied {known}.")
    return matches[0]


def _in_order(values: Sequence[Any]) -> list[Any]:
    """Return the different values, numbers in ascending order, others as they came."""
    different: list[Any] = []
    for value in values:
        if value not in different:
            different.append(value)
    numbers = all(
        isinstance(v, (int, float)) and not isinstance(v, bool) for v in different
    )
    return sorted(different) if numbers else different


def _short(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
