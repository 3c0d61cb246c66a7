"""How far a covariance is drawn to a multiple of the identity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skood.numerics.moments import ClassMoments
from skood.numerics.rows import power_of_two

SHRUNK = ("ledoit_wolf", "oas")


@dataclass(frozen=True)
class Shrinkage:
    """(1 - intensity) S + intensity * level * I.

    Parameters
    ----------
    intensity : float
        In [0, 1].
    level : float
        The mean variance.
    """

    intensity: float = 0.0
    level: float = 0.0

    @classmethod
    def of(
        cls, kind: str, moments: ClassMoments, fourth: float | None = None
    ) -> Shrinkage:
        """Return what an estimator makes of the rows less their class means.

        Parameters
        ----------
        kind : {"empirical", "ledoit_wolf", "oas"}
            ``"empirical"`` leaves the covariance as it is. The others give what the
            estimators of scikit-learn give, of Ledoit and Wolf ("A well-conditioned
            estimator for large-dimensional covariance matrices", 2004) and of Chen,
            Wiesel, Eldar and Hero ("Shrinkage algorithms for MMSE covariance
            estimation", 2010).
        moments : ClassMoments
            Of all rows.
        fourth : float, optional
            The sum of :class:`skood.numerics.moments.FourthMoment`, which Ledoit's
            and Wolf's needs.

        Returns
        -------
        Shrinkage
        """
        if kind == "empirical":
            return cls()
        n, n_features = float(moments.counts.sum()), len(moments.scatter)
        level = float(moments.variances().mean())
        if n_features == 1:
            return cls(0.0, level)
        # The shares are those of the rows in other units, whose fourth powers fit.
        unit = power_of_two(level)
        covariance, level_in_units = moments.covariance() / unit, level / unit
        squares = np.vdot(covariance, covariance)
        if kind == "oas":
            return cls(_oas(n, n_features, level_in_units, float(squares)), level)
        assert fourth is not None
        distance = float(squares) - n_features * level_in_units**2
        noise = (fourth / n / unit / unit - float(squares)) / n
        return cls(_share(min(noise, distance), distance), level)


def _oas(n: float, n_features: int, level: float, squares: float) -> float:
    mean_square = squares / n_features**2
    part = mean_square + level**2
    return min(_share(part, (n + 1) * (mean_square - level**2 / n_features), 1.0), 1.0)


def _share(part: float, total: float, of_nothing: float = 0.0) -> float:
    return part / total if total > 0 and part != 0 else of_nothing
