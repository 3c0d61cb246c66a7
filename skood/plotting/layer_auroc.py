"""How well each layer tells outliers apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from skood.metrics import auroc
from skood.plotting._axes import INLIERS, NEUTRAL, Display, Floats, name_layers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from skood.features import LayerFeatures


class LayerAurocDisplay(Display):
    """AUROC of a detector on one layer at a time, in network order.

    Parameters
    ----------
    layers : sequence of str
        The layers' names.
    auroc : ndarray of shape (n_layers,)
        The area under the ROC curve on each.
    spread : ndarray of shape (n_layers,), optional
        Standard deviation over folds.
    name : str, optional
        Of the detector.

    Attributes
    ----------
    ax_, figure_ : matplotlib axes and figure
        Set by ``plot``.

    Examples
    --------
    >>> from skood.plotting import LayerAurocDisplay
    >>> y = [0, 0, -1, -1]
    >>> scores = {"conv1": [2.0, 1.0, 1.5, 0.5], "conv2": [4.0, 3.0, 2.0, 1.0]}
    >>> LayerAurocDisplay.from_predictions(y, scores).auroc
    array([0.75, 1.  ])
    """

    def __init__(
        self,
        layers: Sequence[str],
        auroc: Floats,
        *,
        spread: Floats | None = None,
        name: str | None = None,
    ) -> None:
        self.layers = layers
        self.auroc = auroc
        self.spread = spread
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: LayerFeatures,
        y: ArrayLike,
        *,
        cv: Any = None,
        name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> LayerAurocDisplay:
        """Fit the detector on each layer alone, by cross-validation, and plot.

        Parameters
        ----------
        estimator : detector
            With the parameters ``layers`` and ``statistic``; a clone is fitted.
        X : LayerFeatures of n rows
            Every layer that has the detector's statistic is tried.
        y : array-like of shape (n_samples,)
            Class labels; -1 marks an outlier.
        cv : splitter, optional
            By default :class:`~skood.model_selection.InlierKFold` of five folds.
        name : str, optional
            Of the detector.
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For ``plot``.

        Returns
        -------
        LayerAurocDisplay
        """
        from skood.model_selection import InlierKFold, auroc_scorer

        layers = X.select(None, estimator.statistic).layers
        areas = np.array(
            [
                cross_val_score(
                    clone(estimator).set_params(layers=layer),
                    X,
                    y,
                    scoring=auroc_scorer,
                    cv=InlierKFold() if cv is None else cv,
                    error_score="raise",
                )
                for layer in layers
            ]
        )
        name = type(estimator).__name__ if name is None else name
        display = cls(layers, areas.mean(axis=1), spread=areas.std(axis=1), name=name)
        return display.plot(ax, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_scores: Mapping[str, ArrayLike],
        *,
        name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> LayerAurocDisplay:
        """Plot from given scores.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Class labels; -1 marks an outlier.
        y_scores : mapping of str to array-like of shape (n_samples,)
            From each layer to its scores, higher = more in-distribution.
        name : str, optional
            Of the detector.
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For ``plot``.

        Returns
        -------
        LayerAurocDisplay
        """
        if not y_scores:
            raise ValueError(
                "y_scores is empty: give the scores of each layer by its name."
            )
        areas = np.array([auroc(y_true, scores) for scores in y_scores.values()])
        return cls(list(y_scores), areas, name=name).plot(ax, **kwargs)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> LayerAurocDisplay:
        """Draw one point a layer.

        Parameters
        ----------
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For matplotlib's ``errorbar``.

        Returns
        -------
        LayerAurocDisplay
            Itself.
        """
        ax = self._take_axes(ax)
        places = np.arange(len(self.layers))
        style = {"color": INLIERS, "marker": "o", "capsize": 3, "label": self.name}
        ax.errorbar(places, self.auroc, yerr=self.spread, **{**style, **kwargs})
        best = int(np.argmax(self.auroc))
        ax.annotate(
            f"{self.auroc[best]:.3f}",
            (best, self.auroc[best]),
            (0, 8),
            textcoords="offset points",
            ha="center",
        )
        ax.axhline(0.5, color=NEUTRAL, linestyle="--", linewidth=1, label="chance")
        name_layers(ax, self.layers)
        low, high = ax.get_ylim()
        ax.set(ylabel="AUROC", xlabel="layer", ylim=(low, max(high, 1.05)))
        ax.margins(x=0.1)
        ax.legend(loc="lower right")
        return self
