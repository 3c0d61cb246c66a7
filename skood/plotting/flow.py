"""How rows flow between the mixture components of two layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skood._sklearn_compat import safe_indexing
from skood.numerics.arrays import as_array
from skood.numerics.labels import inlier_mask
from skood.plotting._axes import INLIERS, OUTLIERS, Display, Floats, pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAP = 0.35
"""The share of the height that is left white between the components."""


class FlowDisplay(Display):
    """Flow from the components of one layer to those of the next, for both kinds.

    Every ribbon is the share of rows that are in one component of the left layer and in
    one of the right. In-distribution rows spread over the components; outliers gather
    in few of them and take other ways. Components stand in the same order for both
    kinds, arranged so that in-distribution ribbons cross little.

    Parameters
    ----------
    inlier_counts, outlier_counts : ndarray of shape (n_from, n_to)
        Numbers of rows in each pair of components.
    layers : tuple of str, default=("layer", "next layer")
        The names of both layers.

    Attributes
    ----------
    axes_ : ndarray of two matplotlib axes
        In-distribution and outliers, set by ``plot``.
    ax_, figure_ : matplotlib axes and figure
        The first of them and their figure.

    References
    ----------
    The LSGM paper's Figure 3 shows such a flow.

    Examples
    --------
    >>> from skood.plotting import FlowDisplay
    >>> paths = [[0, 0], [0, 0], [1, 1], [1, 1], [0, 1], [1, 0]]
    >>> display = FlowDisplay.from_predictions([0, 0, 1, 1, -1, -1], paths)
    >>> display.inlier_counts
    array([[2, 0],
           [0, 2]])
    """

    def __init__(
        self,
        inlier_counts: NDArray[Any],
        outlier_counts: NDArray[Any],
        *,
        layers: tuple[str, str] = ("layer", "next layer"),
    ) -> None:
        self.inlier_counts = inlier_counts
        self.outlier_counts = outlier_counts
        self.layers = layers

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        from_layer: str,
        to_layer: str,
        *,
        axes: Any = None,
        **kwargs: Any,
    ) -> FlowDisplay:
        """Plot the flow of rows under a fitted LSGM.

        Parameters
        ----------
        estimator : LSGM
            Fitted; its ``transition_counts`` are asked for.
        X : LayerFeatures of n rows
            What the detector takes.
        y : array-like of shape (n_samples,)
            Class labels; -1 marks an outlier.
        from_layer, to_layer : str
            Two of the fitted layers.
        axes : sequence of two matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For ``plot``.

        Returns
        -------
        FlowDisplay

        Raises
        ------
        ValueError
            If rows of either kind are missing.
        """
        mask = inlier_mask(y)
        if mask.all() or not mask.any():
            raise ValueError(
                f"y has rows of one kind only ({len(mask)} of them): the flow of "
                "outliers is shown beside that of in-distribution rows."
            )
        counts = [
            estimator.transition_counts(
                safe_indexing(X, np.flatnonzero(rows)), from_layer, to_layer
            )
            for rows in (mask, ~mask)
        ]
        return cls(*counts, layers=(from_layer, to_layer)).plot(axes, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        components: ArrayLike,
        *,
        layers: tuple[str, str] = ("layer", "next layer"),
        axes: Any = None,
        **kwargs: Any,
    ) -> FlowDisplay:
        """Plot the flow of rows whose components are known.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Class labels; -1 marks an outlier.
        components : array-like of int, shape (n_samples, 2)
            Each row's component in both layers.
        layers : tuple of two str, optional
            Their names.
        axes : sequence of two matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For ``plot``.

        Returns
        -------
        FlowDisplay

        Raises
        ------
        ValueError
            If `components` is not of shape (n_samples, 2), or the lengths differ.
        """
        mask = inlier_mask(y_true, "y_true")
        pairs = as_array(components, "components")
        if pairs.shape != (len(mask), 2):
            raise ValueError(
                f"components has shape {pairs.shape}; ({len(mask)}, 2) is wanted: for "
                "each row of y_true a component in each of two layers."
            )
        shape = tuple(int(end) for end in pairs.max(axis=0) + 1)
        counts = [np.zeros(shape, dtype=np.intp) for _ in range(2)]
        np.add.at(counts[0], tuple(pairs[mask].T), 1)
        np.add.at(counts[1], tuple(pairs[~mask].T), 1)
        return cls(*counts, layers=layers).plot(axes, **kwargs)

    def plot(self, axes: Any = None, **kwargs: Any) -> FlowDisplay:
        """Draw both flows side by side.

        Parameters
        ----------
        axes : sequence of two matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For matplotlib's ``PathPatch`` of every ribbon.

        Returns
        -------
        FlowDisplay
            Itself.
        """
        self.axes_ = _two_axes() if axes is None else np.asarray(axes)
        self._take_axes(self.axes_[0])
        shares = [_shares(c) for c in (self.inlier_counts, self.outlier_counts)]
        orders = _orders(shares[0])
        # Both panels leave a component the room that its larger flow needs.
        rooms = [np.maximum(*(s.sum(axis=axis) for s in shares)) for axis in (1, 0)]
        kinds = [("in-distribution", INLIERS), ("outliers", OUTLIERS)]
        for ax, share, (name, colour) in zip(self.axes_, shares, kinds, strict=True):
            _draw_components(ax, share, rooms, orders)
            _draw_flow(ax, share, rooms, orders, **{"color": colour, **kwargs})
            ax.set(title=name, yticks=[], xlim=(-0.05, 1.05))
            self._name_layers(ax)
        self.axes_[0].set_ylabel("components; height = share of rows")
        return self

    def _name_layers(self, ax: Axes) -> None:
        ax.set_xticks([0, 1], self.layers)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        left, right = ax.get_xticklabels()
        left.set_horizontalalignment("left")
        right.set_horizontalalignment("right")


def _two_axes() -> Any:
    size = {"figsize": (9, 4.8), "layout": "constrained", "sharey": True}
    return pyplot().subplots(1, 2, **size)[1]


def _shares(counts: NDArray[Any]) -> Floats:
    total = counts.sum()
    return np.asarray(counts, dtype=np.float64) / (total if total else 1)


def _orders(counts: Floats) -> list[NDArray[np.intp]]:
    """Return an order of both layers' components in which ribbons cross little.

    Each component is put at the mean place of those it is connected with, in turns.
    """
    left = np.argsort(-counts.sum(axis=1), kind="stable")
    right = np.arange(counts.shape[1])
    for _ in range(10):
        right = np.argsort(_mean_places(counts.T, left), kind="stable")
        left = np.argsort(_mean_places(counts, right), kind="stable")
    return [left, right]


def _mean_places(counts: Floats, order: NDArray[np.intp]) -> Floats:
    places = np.empty(len(order))
    places[order] = np.linspace(0, 1, len(order))
    totals = counts.sum(axis=1)
    # Components without rows go last.
    return np.where(totals > 0, counts @ places / np.where(totals > 0, totals, 1), 2.0)


def _bottoms(heights: Floats, order: NDArray[np.intp]) -> Floats:
    """Return where each component's bar begins, from the top down."""
    gap = GAP * heights.sum() / max(len(heights) - 1, 1)
    ends = np.cumsum(heights[order] + gap)
    bottoms = np.empty(len(heights))
    bottoms[order] = -(ends - gap)
    return bottoms


def _draw_components(
    ax: Axes, shares: Floats, rooms: list[Floats], orders: list[NDArray[np.intp]]
) -> None:
    """Draw a light bar of its room for every component, and its share in dark."""
    for side in (0, 1):
        bottoms = _bottoms(rooms[side], orders[side])
        ax.bar(side, rooms[side], 0.03, bottoms, color="#D9D9D9", zorder=3)
        ax.bar(side, shares.sum(1 - side), 0.03, bottoms, color="#404040", zorder=4)


def _draw_flow(
    ax: Axes,
    shares: Floats,
    rooms: list[Floats],
    orders: list[NDArray[np.intp]],
    **style: Any,
) -> None:
    style = {"alpha": 0.5, "linewidth": 0, **style}
    # The ribbons of a component leave from its top in the order of their other ends.
    starts = _bottoms(rooms[0], orders[0]) + shares.sum(axis=1)
    ends = _bottoms(rooms[1], orders[1]) + shares.sum(axis=0)
    for i in orders[0]:
        for j in orders[1]:
            if shares[i, j] > 0:
                _draw_ribbon(ax, starts[i], ends[j], shares[i, j], style)
                starts[i] -= shares[i, j]
                ends[j] -= shares[i, j]


def _draw_ribbon(
    ax: Axes, start: float, end: float, width: float, style: dict[str, Any]
) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    points = [
        (0.0, start), (0.5, start), (0.5, end), (1.0, end),
        (1.0, end - width), (0.5, end - width), (0.5, start - width),
        (0.0, start - width), (0.0, start),
    ]  # fmt: skip
    curve, line = [Path.CURVE4] * 3, [Path.LINETO]
    codes = [Path.MOVETO, *curve, *line, *curve, Path.CLOSEPOLY]
    ax.add_patch(PathPatch(Path(points, codes), **style))
