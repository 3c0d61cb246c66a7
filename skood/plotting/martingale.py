"""The path of a shift monitor's capital."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from skood.numerics.checked import checked_rate, checked_scores
from skood.plotting._axes import NEUTRAL, Display, Floats, draw_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class MartingaleDisplay(Display):
    """Capital of a bet against the stream being in-distribution, row by row.

    Parameters
    ----------
    log_martingale : ndarray of shape (n_samples,)
        Natural logarithm of the capital after each row.
    level : float, default=0.01
        The alarm is raised at a capital of 1 / level. See :term:`level`.
    name : str, optional
        Of the stream.

    Attributes
    ----------
    ax_, figure_ : matplotlib axes and figure
        Set by ``plot``.
    line_ : matplotlib line
        The path.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.plotting import MartingaleDisplay
    >>> path = np.cumsum([0.5, -0.2, 1.5, 2.0, 2.5])
    >>> MartingaleDisplay.from_predictions(path, level=0.01).alarm_at
    4
    """

    def __init__(
        self, log_martingale: Floats, *, level: float = 0.01, name: str | None = None
    ) -> None:
        self.log_martingale = log_martingale
        self.level = level
        self.name = name

    @property
    def alarm_at(self) -> int | None:
        """The first row at which the capital reaches 1 / level."""
        crossed = np.flatnonzero(self.log_martingale >= -np.log(self.level))
        return int(crossed[0]) if len(crossed) else None

    @classmethod
    def from_estimator(
        cls,
        monitor: Any,
        *,
        name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> MartingaleDisplay:
        """Plot the path of a monitor so far.

        Parameters
        ----------
        monitor : ShiftMonitor
            Fitted; ``update`` has taken in the stream.
        name : str, optional
            Of the stream.
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For ``plot``.

        Returns
        -------
        MartingaleDisplay
        """
        return cls.from_predictions(
            monitor.log_martingale_, level=monitor.level, name=name, ax=ax, **kwargs
        )

    @classmethod
    def from_predictions(
        cls,
        log_martingale: ArrayLike,
        *,
        level: float = 0.01,
        name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> MartingaleDisplay:
        """Plot a given path.

        Parameters
        ----------
        log_martingale : array-like of shape (n_samples,)
            Natural logarithm of the capital after each row.
        level : float, default=0.01
            The alarm is raised at a capital of 1 / level. See :term:`level`.
        name : str, optional
            Of the stream.
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For ``plot``.

        Returns
        -------
        MartingaleDisplay
        """
        path = checked_scores(log_martingale, "log_martingale")
        level = checked_rate(level, "level")
        return cls(path, level=level, name=name).plot(ax, **kwargs)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> MartingaleDisplay:
        """Draw the path; several streams may share one axes.

        Parameters
        ----------
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For matplotlib's ``plot``.

        Returns
        -------
        MartingaleDisplay
            Itself.
        """
        first = ax is None or not ax.has_data()
        ax = self._take_axes(ax)
        rows = np.arange(len(self.log_martingale), dtype=np.float64)
        label = self.name or "capital"
        style = {"label": label, **kwargs}
        self.line_ = draw_curve(ax, rows, self.log_martingale / np.log(10), **style)
        alarm = -np.log10(self.level)
        if first:
            label = f"alarm, level {self.level:g}"
            ax.axhline(alarm, color="black", linestyle="--", linewidth=1, label=label)
            ax.axhline(0, color=NEUTRAL, linestyle=":", linewidth=1)
        if self.alarm_at is not None:
            height = self.log_martingale[self.alarm_at] / np.log(10)
            ax.plot(self.alarm_at, height, "o", color=self.line_.get_color())
            ax.annotate(
                f"row {self.alarm_at}",
                (self.alarm_at, height),
                (-6, 4),
                textcoords="offset points",
                ha="right",
            )
        ax.set(
            xlabel="row of the stream",
            ylabel="evidence of a shift (log₁₀ of the capital)",
        )
        ax.legend(loc="upper left")
        return self
