"""Expectation maximisation, pass by pass over the rows of a layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError

from skood._progress import Bar
from skood.mixtures.dirichlet_process import DirichletProcess
from skood.mixtures.expectation import (
    MixtureStatistics,
    assigned_statistics,
    expected_statistics,
)
from skood.mixtures.gaussians import Gaussians
from skood.mixtures.maximum_likelihood import MaximumLikelihood
from skood.mixtures.mixture import KINDS, Mixture
from skood.mixtures.parameters import Maximisation, MixtureParameters, Moments
from skood.mixtures.rows import LayerRows, SecondMoment
from skood.mixtures.start import start_points

TOLERANCE = 1e-5
"""Nats a feature that rounding to float32 may cost the lower bound."""


@dataclass(frozen=True, eq=False)
class MixtureFit:
    """How to fit a mixture; see :class:`skood.LSGM` for what the words mean."""

    n_components: int
    covariance_type: str = "diag"
    prior: str | None = None
    weight_concentration_prior: float | None = None
    reg_covar: float | NDArray[np.float64] = 1e-6
    max_iter: int = 1000
    tol: float = 1e-3
    n_init: int = 1
    freedom: float | None = None

    def of(self, rows: LayerRows, random_state: np.random.RandomState) -> Mixture:
        """Return the best of ``n_init`` fits.

        Parameters
        ----------
        rows : LayerRows
            At least ``n_components`` of them.
        random_state : RandomState
            Draws the starts.

        Returns
        -------
        Mixture

        Raises
        ------
        ValueError
            If a covariance is not positive definite, in float64 too.
        """
        run = Run.of(rows, self)
        fits = (
            run.from_points(start_points(rows, self.n_components, random_state))
            for _ in range(self.n_init)
        )
        return max(fits, key=lambda mixture: mixture.lower_bound)


@dataclass(frozen=True, eq=False)
class Fitted:
    """Parameters, the same factored, and whether they need float64."""

    parameters: MixtureParameters
    gaussians: Gaussians
    double: bool

    def single_will_do(self) -> bool:
        """Return whether float32 rows may be computed with in float32."""
        if self.double or not self.gaussians.single:
            return False
        return self.float32_error() <= TOLERANCE

    def float32_error(self) -> float:
        """Return what float32 may cost the lower bound, in nats a row and feature."""
        errors = self.parameters.weights @ self.gaussians.float32_error()
        return float(errors / self.parameters.points.shape[1])


@dataclass(frozen=True, eq=False)
class Run:
    """Rows, settings, and the sums over rows that never change.

    Parameters
    ----------
    rows : LayerRows
        The rows.
    fit : MixtureFit
        The settings.
    maximisation : Maximisation
        The step that finds parameters.
    total : ndarray of shape (d, d)
        Sum of y y^T over all rows; empty where nothing reads it.
    """

    rows: LayerRows
    fit: MixtureFit
    maximisation: Maximisation
    total: NDArray[np.float64]

    @classmethod
    def of(cls, rows: LayerRows, fit: MixtureFit) -> Run:
        """Return a run; it looks at the rows once where their scatter is needed."""
        total = np.zeros((0, 0))
        if KINDS[fit.covariance_type].tied or (
            fit.prior and fit.covariance_type == "full"
        ):
            total = rows.merged(SecondMoment.of).total
        return cls(rows, fit, _maximisation(rows, fit, total), total)

    def from_points(self, points: NDArray[np.float64]) -> Mixture:
        """Return the mixture that EM reaches when each row starts at its nearest point.

        Parameters
        ----------
        points : ndarray of shape (K, d)
            In the rows' frame.

        Returns
        -------
        Mixture
        """
        return self.improved(self.started(points))

    def improved(self, state: Fitted) -> Mixture:
        """Return the mixture that EM reaches from some parameters."""
        bound, n_iter, converged = -np.inf, 0, False
        tol = self.fit.tol * (len(self.rows) if self.fit.prior else 1)
        with Bar(self.fit.max_iter, "mixture", unit="passes") as bar:
            while n_iter < self.fit.max_iter and not converged:
                statistics, state = self._advanced(state)
                found = self.maximisation.lower_bound(
                    statistics, state.parameters, state.gaussians
                )
                n_iter, converged, bound = n_iter + 1, abs(found - bound) < tol, found
                bar.update(note=f"bound {bound:.6g}")
        return Mixture(
            self.rows.frame, state.parameters, state.gaussians, n_iter, converged, bound
        )

    def started(self, points: NDArray[np.float64]) -> Fitted:
        """Return the parameters when each row belongs to its nearest point alone.

        In float64, before there are parameters to tell what float32 would cost.
        """
        kind = KINDS[self.fit.covariance_type]
        passed = partial(assigned_statistics, kind=kind, points=points)
        with _singular_covariances_refused():
            statistics = self.rows.merged(passed)
            return self._maximised(statistics, kind, points, self.rows.far_apart)

    def _advanced(self, state: Fitted) -> tuple[MixtureStatistics, Fitted]:
        if state.single_will_do():
            with suppress(LinAlgError):
                return self._passed(state, double=False)
        with _singular_covariances_refused():
            return self._passed(state, double=True)

    def _passed(self, state: Fitted, double: bool) -> tuple[MixtureStatistics, Fitted]:
        passed = partial(
            expected_statistics,
            gaussians=state.gaussians,
            log_weights=state.parameters.log_weights + state.parameters.offsets,
            double=double,
        )
        statistics = self.rows.merged(passed)
        kind, points = type(state.gaussians), state.gaussians.points
        return statistics, self._maximised(statistics, kind, points, double)

    def _maximised(
        self,
        statistics: MixtureStatistics,
        kind: type[Gaussians],
        points: NDArray[np.float64],
        double: bool,
    ) -> Fitted:
        moments = Moments.of(statistics, kind, points, self.total)
        found = self.maximisation.parameters(moments)
        return Fitted(found, kind.of(found.points, found.covariances), double)


@contextmanager
def _singular_covariances_refused() -> Iterator[None]:
    try:
        yield
    except LinAlgError as error:
        raise ValueError(
            "a component's covariance is not positive definite: raise reg_covar, take "
            "fewer components (n_components), or drop features that do not vary."
        ) from error


def _maximisation(
    rows: LayerRows, fit: MixtureFit, total: NDArray[np.float64]
) -> Maximisation:
    frame = rows.frame
    reg_covar = np.full(rows.mean.shape, fit.reg_covar) / frame.unit**2
    if fit.prior is None:
        return MaximumLikelihood(len(rows), reg_covar, frame.log_unit)
    concentration = fit.weight_concentration_prior
    if concentration is None:
        concentration = 1 / fit.n_components
    n, mean = len(rows), rows.mean
    covariance = rows.variances
    if fit.covariance_type != "diag":
        covariance = (total - n * np.outer(mean, mean)) / (n - 1)
    return DirichletProcess(
        concentration, mean, covariance, reg_covar, frame.log_unit, fit.freedom
    )
