"""What a mixture learns, and the moments that it learns it from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from skood.mixtures.expectation import MixtureStatistics
from skood.mixtures.gaussians import Gaussians


@dataclass(frozen=True, eq=False)
class Moments:
    """Counts, means and scatter of the components, for the maximisation step.

    Parameters
    ----------
    kind : type of Gaussians
        Says what shape a covariance has.
    counts : ndarray of shape (K,)
        Summed responsibilities, positive.
    means : ndarray of shape (K, d)
        Relative to the centre of all rows.
    scatter : ndarray
        Summed squares about the means, in the shape of the covariances.
    """

    kind: type[Gaussians]
    counts: NDArray[np.float64]
    means: NDArray[np.float64]
    scatter: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        statistics: MixtureStatistics,
        kind: type[Gaussians],
        points: NDArray[np.float64],
        total: NDArray[np.float64],
    ) -> Moments:
        """Return the moments from summed statistics about the present means."""
        # An empty component gets next to nothing, as in scikit-learn, but not zero.
        counts = statistics.counts + 10 * np.finfo(np.float64).eps
        means, scatter = kind.scatter(
            counts, statistics.sums, statistics.seconds, points, total
        )
        return cls(kind, counts, means, scatter)


@dataclass(frozen=True, eq=False)
class MixtureParameters:
    """The parameters of a mixture.

    Parameters
    ----------
    weights : ndarray of shape (K,)
        They sum to one.
    log_weights : ndarray of shape (K,)
        What the responsibilities are computed with: the weights' logs, or the logs'
        expectations.
    points : ndarray of shape (K, d)
        Means, relative to the centre of all rows.
    covariances : ndarray
        (K, d), (K, d, d) or (d, d).
    offsets : ndarray of shape (K,)
        Added to the Gaussians' log densities.
    mean_counts, scatter_counts : ndarray of shape (K,)
        How many rows a mean and a covariance stand for, prior included.
    """

    weights: NDArray[np.float64]
    log_weights: NDArray[np.float64]
    points: NDArray[np.float64]
    covariances: NDArray[np.float64]
    offsets: NDArray[np.float64]
    mean_counts: NDArray[np.float64]
    scatter_counts: NDArray[np.float64]


class Maximisation(Protocol):
    """A maximisation step: with a prior or without."""

    def parameters(self, moments: Moments) -> MixtureParameters:
        """Return the best parameters for the moments."""

    def lower_bound(
        self,
        statistics: MixtureStatistics,
        found: MixtureParameters,
        gaussians: Gaussians,
    ) -> float:
        """Return the lower bound of the likelihood, as scikit-learn reports it."""
