"""The maximisation step without a prior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skood.mixtures.expectation import MixtureStatistics
from skood.mixtures.gaussians import Gaussians
from skood.mixtures.parameters import MixtureParameters, Moments


@dataclass(frozen=True, eq=False)
class MaximumLikelihood:
    """Weights, means and covariances as the rows have them.

    Parameters
    ----------
    n_rows : int
        Rows fitted on.
    reg_covar : ndarray of shape (d,)
        Added to the covariances' diagonals.
    log_unit : float
        Log of the factor by which densities in the rows' frame are too large.
    """

    n_rows: int
    reg_covar: NDArray[np.float64]
    log_unit: float = 0.0

    def parameters(self, moments: Moments) -> MixtureParameters:
        """Return the parameters of the largest likelihood.

        Parameters
        ----------
        moments : Moments
            Of the rows under their responsibilities.

        Returns
        -------
        MixtureParameters
        """
        counts, kind = moments.counts, moments.kind
        weights = counts / counts.sum()
        ridge = kind.ridge(self.reg_covar)
        behind = np.full_like(counts, counts.sum()) if kind.tied else counts
        return MixtureParameters(
            weights=weights,
            log_weights=np.log(weights),
            points=moments.means,
            covariances=moments.scatter / kind.shared(counts) + ridge,
            offsets=np.zeros_like(counts),
            mean_counts=counts,
            scatter_counts=behind,
        )

    def lower_bound(
        self,
        statistics: MixtureStatistics,
        found: MixtureParameters,
        gaussians: Gaussians,
    ) -> float:
        """Return the mean log-likelihood of a row.

        Parameters
        ----------
        statistics : MixtureStatistics
            Of the pass before the maximisation.
        found, gaussians : object
            Not read.

        Returns
        -------
        float
        """
        return statistics.log_likelihood / self.n_rows - self.log_unit
