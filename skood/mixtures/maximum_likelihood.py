"""The maximisation step without a prior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skood.mixtures.expectation import MixtureStatistics
from skood.mixtures.gaussians import Gaussians
from skood.mixtures.parameters import MixtureParameters, Moments


@dataclass(frozen=True)
class MaximumLikelihood:
    """Weights, means and covariances as the rows have them.

    Parameters
    ----------
    n_rows : int
        Rows fitted on.
    reg_covar : float
        Added to the covariances' diagonals.
    """

    n_rows: int
    reg_covar: float

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
        ridge = self.reg_covar * kind.ridge(moments.means.shape[1])
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
        return statistics.log_likelihood / self.n_rows
