"""The maximisation step under a Dirichlet process: variational Bayes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, digamma, gammaln

from skood.mixtures.expectation import MixtureStatistics
from skood.mixtures.gaussians import Gaussians
from skood.mixtures.parameters import MixtureParameters, Moments

LOG_2 = float(np.log(2.0))


@dataclass(frozen=True, eq=False)
class DirichletProcess:
    """A truncated Dirichlet process over the weights, normal-Wishart over the rest.

    The priors are scikit-learn's defaults: the mean and the covariance of all rows,
    one row's worth of belief in the mean and, for a Wishart distribution takes as many,
    d in the covariance. Where a component has fewer rows than features that belief
    rules, and the process ends with one or two components. Features with variances of
    their own need no Wishart distribution: each has a gamma distribution, for which
    one row's worth is enough.

    Parameters
    ----------
    concentration : float
        Of the process: small values leave more components empty.
    mean : ndarray of shape (d,)
        Of all rows, relative to their centre.
    covariance : ndarray of shape (d,) or (d, d)
        Of all rows.
    reg_covar : ndarray of shape (d,)
        Added to the covariances' diagonals.
    log_unit : float
        Log of the factor by which densities in the rows' frame are too large.
    freedom : float, optional
        Rows' worth of belief in each feature's variance, for diagonal covariances;
        None is a Wishart distribution of d.

    References
    ----------
    Blei and Jordan, "Variational inference for Dirichlet process mixtures", Bayesian
    Analysis 2006; Bishop, "Pattern recognition and machine learning", 2006, 10.2.
    """

    concentration: float
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    reg_covar: NDArray[np.float64]
    log_unit: float = 0.0
    freedom: float | None = None

    def parameters(self, moments: Moments) -> MixtureParameters:
        """Return the posterior's parameters.

        Parameters
        ----------
        moments : Moments
            Of the rows under their responsibilities.

        Returns
        -------
        MixtureParameters
        """
        counts = moments.counts
        mean_counts = 1 + counts
        points = (self.mean + counts[:, None] * moments.means) / mean_counts[:, None]
        first, second = self._sticks(counts)
        sharers = len(counts) if moments.kind.tied else 1
        average = np.full_like(counts, counts.mean()) if moments.kind.tied else counts
        freedom = self._rows_believed + average
        return MixtureParameters(
            weights=_mean_weights(first, second),
            log_weights=_mean_log_weights(first, second),
            points=points,
            covariances=self._covariances(moments, sharers),
            offsets=density_offsets(freedom, mean_counts, self._halves(freedom)),
            mean_counts=mean_counts,
            scatter_counts=sharers * freedom,
        )

    def lower_bound(
        self,
        statistics: MixtureStatistics,
        found: MixtureParameters,
        gaussians: Gaussians,
    ) -> float:
        """Return the variational lower bound of all rows together, up to a constant.

        Parameters
        ----------
        statistics : MixtureStatistics
            Of the pass before the maximisation.
        found : MixtureParameters
            What the maximisation made of them.
        gaussians : Gaussians
            The same, factored.

        Returns
        -------
        float
        """
        n_features, n_components = len(self.mean), len(found.points)
        freedom = found.scatter_counts / (n_components if gaussians.tied else 1)
        # Minus the log normalisers of the Wishart distributions of the precisions.
        levels = gaussians.log_determinants + 2 * self.log_unit
        wishart = -0.5 * freedom * (levels + n_features * np.log(freedom))
        wishart += 0.5 * LOG_2 * n_features * freedom
        wishart += gammaln(self._halves(freedom)).sum(axis=0)
        # The counts are those that parameters() saw: the last digits matter here.
        sticks = betaln(*self._sticks(found.mean_counts - 1))
        mean_terms = 0.5 * n_features * np.log(found.mean_counts)
        return float(
            statistics.entropy + wishart.sum() + sticks.sum() - mean_terms.sum()
        )

    def _sticks(
        self, counts: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the parameters of the beta distribution of each broken-off part."""
        later = np.append(np.cumsum(counts[::-1])[-2::-1], 0)
        return 1 + counts, self.concentration + later

    def _covariances(self, moments: Moments, sharers: int) -> NDArray[np.float64]:
        counts, kind = moments.counts, moments.kind
        shared = kind.shared(counts)
        scatter = moments.scatter + shared * kind.ridge(self.reg_covar)
        pull = kind.outer(moments.means - self.mean, counts / (1 + counts))
        return np.asarray(
            (sharers * self._weight * self.covariance + scatter + pull)
            / (sharers * self._rows_believed + shared)
        )

    @property
    def _rows_believed(self) -> float:
        return len(self.mean) if self.freedom is None else self.freedom

    @property
    def _weight(self) -> float:
        """How much the covariance of all rows weighs; scikit-learn has 1."""
        return 1.0 if self.freedom is None else self.freedom

    def _halves(self, freedom: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the arguments of the gamma functions of the precisions, (d, p)."""
        fewer = np.arange(len(self.mean)) if self.freedom is None else 0 * self.mean
        return np.asarray(0.5 * (freedom - fewer[:, None]))


def density_offsets(
    freedom: NDArray[np.float64],
    mean_counts: NDArray[np.float64],
    halves: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the expected log density minus that at the expected parameters.

    Parameters
    ----------
    freedom : ndarray of shape (p,)
        Degrees of freedom of the precisions.
    mean_counts : ndarray of shape (p,)
        Rows that the mean stands for.
    halves : ndarray of shape (d, p)
        The arguments of the gamma functions in the precisions' distribution.

    Returns
    -------
    ndarray of shape (p,)
    """
    n_features = len(halves)
    log_precision = n_features * (LOG_2 - np.log(freedom))
    log_precision = log_precision + digamma(halves).sum(axis=0)
    return np.asarray(0.5 * (log_precision - n_features / mean_counts))


def _mean_weights(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the components' expected weights; the last takes what is left."""
    total = first + second
    weights = first / total * np.append(1, np.cumprod(second / total)[:-1])
    return np.asarray(weights / weights.sum())


def _mean_log_weights(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the expectations of the weights' logs."""
    total = digamma(first + second)
    left = np.append(0, np.cumsum(digamma(second) - total)[:-1])
    return np.asarray(digamma(first) - total + left)
