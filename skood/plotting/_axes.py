"""What every plot shares: axes to draw on, colours, and rows by their kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skood.numerics.arrays import as_array
from skood.numerics.checked import refuse_nan
from skood.numerics.labels import inlier_mask

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

# Okabe and Ito's colours: told apart under every common kind of colour blindness.
INLIERS, OUTLIERS, NEUTRAL = "#0072B2", "#D55E00", "#595959"
CURVES = (INLIERS, OUTLIERS, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

_CURVE = "skood-curve"


class Display:
    """Base of the plots: ``plot`` sets ``ax_`` and ``figure_``."""

    ax_: Axes
    figure_: Figure

    def _take_axes(self, ax: Axes | None, **size: Any) -> Axes:
        """Return the axes given, or those of a new figure."""
        plt = pyplot()
        self.ax_ = plt.subplots(layout="constrained", **size)[1] if ax is None else ax
        figure = self.ax_.get_figure(root=True)
        assert figure is not None
        self.figure_ = figure
        return self.ax_


def pyplot() -> Any:
    """Return matplotlib's pyplot, or say how to get it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "plots need matplotlib: pip install 'skood[plot]', or pip install "
            "matplotlib."
        ) from error
    return plt


def next_colour(ax: Axes) -> str:
    """Return the colour of the next curve on the axes."""
    drawn = [line for line in ax.get_lines() if line.get_gid() == _CURVE]
    return CURVES[len(drawn) % len(CURVES)]


def draw_curve(ax: Axes, x: Floats, y: Floats, **style: Any) -> Any:
    """Return the line of one more curve, in a colour of its own unless one is given."""
    style = {"color": next_colour(ax), **style}
    (line,) = ax.plot(x, y, gid=_CURVE, **style)
    return line


def name_layers(ax: Axes, layers: Sequence[str]) -> None:
    """Write the layers' names below the places 0, 1, ...; turned if they are long."""
    if max(map(len, layers)) * len(layers) <= 60:
        ax.set_xticks(range(len(layers)), layers)
    else:
        ax.set_xticks(
            range(len(layers)), layers, rotation=45, ha="right", rotation_mode="anchor"
        )


def by_kind(y_true: ArrayLike, values: ArrayLike, what: str) -> tuple[Floats, Floats]:
    """Return the in-distribution rows' values and the outliers'.

    Raises
    ------
    ValueError
        If the lengths differ, no row is in-distribution, or a value is NaN.
    """
    mask = inlier_mask(y_true, "y_true")
    numbers = as_array(values, what, np.float64)
    if numbers.shape != mask.shape:
        raise ValueError(
            f"{what} has shape {numbers.shape}, y_true {mask.shape}: one number a row "
            "is wanted."
        )
    if not mask.any():
        raise ValueError("every row of y_true is -1: in-distribution rows are needed.")
    refuse_nan(numbers, f"{what} has")
    return numbers[mask], numbers[~mask]
