"""Displays of scores: made of a fitted detector and rows, or of scores."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from numpy.typing import ArrayLike

from skood.model_selection._estimators import in_distribution_scores, last_step
from skood.plotting._axes import Display

if TYPE_CHECKING:
    from matplotlib.axes import Axes

D = TypeVar("D", bound="ScoreDisplay")


class ScoreDisplay(Display):
    """Base of displays of scores: a subclass says what it keeps of them.

    It implements ``_of_scores`` and ``plot``; ``_of_detector`` may add what only the
    detector knows.
    """

    @classmethod
    def from_estimator(
        cls: type[D],
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> D:
        """Plot the scores of a fitted detector.

        Parameters
        ----------
        estimator : object
            Fitted, with ``score_samples`` or ``decision_function``.
        X : array-like of length n
            Rows that it was not fitted on.
        y : array-like of shape (n_samples,)
            Class labels; -1 marks an outlier.
        name : str, optional
            Of the detector; by default its class's.
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For ``from_predictions``, which hands them on to ``plot``.

        Returns
        -------
        Display
            Of this class.

        Raises
        ------
        ValueError
            If one kind of rows is missing or lengths differ.

        See Also
        --------
        from_predictions : Plot scores that are there already.
        """
        return cls.from_predictions(
            y,
            in_distribution_scores(estimator, X),
            name=type(last_step(estimator)).__name__ if name is None else name,
            ax=ax,
            **{**cls._of_detector(estimator), **kwargs},
        )

    @classmethod
    def from_predictions(
        cls: type[D],
        y_true: ArrayLike,
        y_score: ArrayLike,
        *,
        name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> D:
        """Plot given scores.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Class labels; -1 marks an outlier.
        y_score : array-like of shape (n_samples,)
            Higher = more in-distribution.
        name : str, optional
            Of the detector.
        ax : matplotlib axes, optional
            A new figure's without it.
        **kwargs : dict
            For ``plot``.

        Returns
        -------
        Display
            Of this class.

        Raises
        ------
        ValueError
            If one kind of rows is missing or lengths differ.

        See Also
        --------
        from_estimator : Plot the scores of a fitted detector.
        """
        return cls._of_scores(y_true, y_score, name).plot(ax, **kwargs)

    @classmethod
    def _of_detector(cls, estimator: Any) -> dict[str, Any]:
        """Return options of ``from_predictions`` that a detector knows."""
        return {}

    @classmethod
    @abstractmethod
    def _of_scores(
        cls: type[D], y_true: ArrayLike, y_score: ArrayLike, name: str | None
    ) -> D:
        """Return the display of scores, not drawn yet."""

    @abstractmethod
    def plot(self: D, ax: Axes | None = None, **kwargs: Any) -> D:
        """Draw the display."""
