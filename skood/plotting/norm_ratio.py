"""How NormRatio chose the layer of FeatureNorm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from skood.plotting._axes import INLIERS, NEUTRAL, Display, name_layers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAINT = "#9EC9E2"


class NormRatioDisplay(Display):
    """NormRatio of each candidate layer, the one that was chosen in a stronger colour.

    Parameters
    ----------
    norm_ratios : mapping of str to float
        From each layer, in network order, to its mean ratio of the norm of an image's
        map to that of its jigsaw puzzle.
    selected : str, optional
        The layer that was chosen.

    Attributes
    ----------
    ax_, figure_ : matplotlib axes and figure
        Set by ``plot``.

    Examples
    --------
    >>> from skood.plotting import NormRatioDisplay
    >>> display = NormRatioDisplay({"layer1": 1.1, "layer2": 1.6}, "layer2").plot()
    >>> display.ax_.get_ylabel()
    'NormRatio'
    """

    def __init__(
        self, norm_ratios: Mapping[str, float], selected: str | None = None
    ) -> None:
        self.norm_ratios = norm_ratios
        self.selected = selected

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: Axes | None = None, **kwargs: Any
    ) -> NormRatioDisplay:
        """Plot the ratios of a fitted detector.

        Parameters
        ----------
        estimator : FeatureNorm
            Fitted with ``layers="norm_ratio"``, or a Pipeline that ends in it.
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For ``plot``.

        Returns
        -------
        NormRatioDisplay

        Raises
        ------
        ValueError
            If the detector had nothing to choose.
        """
        from skood.model_selection._estimators import last_step

        detector = last_step(estimator)
        if not getattr(detector, "norm_ratios_", None):
            raise ValueError(
                f"{type(detector).__name__} has no norm_ratios_: they are made by "
                "FeatureNorm(layers='norm_ratio') when there are layers to choose from."
            )
        return cls(detector.norm_ratios_, detector.selected_layer_).plot(ax, **kwargs)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> NormRatioDisplay:
        """Draw one bar a layer.

        Parameters
        ----------
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For matplotlib's ``bar``.

        Returns
        -------
        NormRatioDisplay
            Itself.
        """
        ax = self._take_axes(ax)
        layers = list(self.norm_ratios)
        heights = np.array(list(self.norm_ratios.values()), dtype=np.float64)
        colours = [INLIERS if layer == self.selected else FAINT for layer in layers]
        bars = ax.bar(range(len(layers)), heights, **{"color": colours, **kwargs})
        ax.bar_label(bars, fmt="%.2f", padding=2)
        ax.axhline(
            1,
            color=NEUTRAL,
            linestyle="--",
            linewidth=1,
            label="image and puzzle alike",
        )
        name_layers(ax, layers)
        ax.set(xlabel="layer", ylabel="NormRatio")
        ax.margins(y=0.15)
        ax.legend(loc="upper left")
        return self
