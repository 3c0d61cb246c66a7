"""A fitted mixture of Gaussians over the features of one layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.mixtures.diag import DiagonalGaussians
from skood.mixtures.expectation import responsibilities
from skood.mixtures.full import FullGaussians
from skood.mixtures.gaussians import Gaussians
from skood.mixtures.parameters import MixtureParameters
from skood.mixtures.rows import Frame, as_float64
from skood.mixtures.tied import TiedGaussians
from skood.numerics.device import array_namespace, like

FAR = 1e100
"""Entries beyond this count as this: their squares would not fit."""

KINDS: dict[str, type[Gaussians]] = {
    "diag": DiagonalGaussians,
    "full": FullGaussians,
    "tied": TiedGaussians,
}


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of K Gaussians, and how its fit went.

    Parameters
    ----------
    frame : Frame
        Centre, and unit, of the rows.
    parameters : MixtureParameters
        In that frame.
    gaussians : Gaussians
        The same, factored.
    n_iter : int
        Passes of expectation maximisation.
    converged : bool
        Whether the last one changed the lower bound by less than ``tol``.
    lower_bound : float
        The last one: the mean log-likelihood of a row, or under a Dirichlet process the
        variational bound of all rows.
    """

    frame: Frame
    parameters: MixtureParameters
    gaussians: Gaussians
    n_iter: int
    converged: bool
    lower_bound: float

    @property
    def weights(self) -> NDArray[np.float64]:
        """The components' weights, shape (K,)."""
        return self.parameters.weights

    @property
    def means(self) -> NDArray[np.float64]:
        """The components' means, shape (K, d), in the features' own units."""
        scale = 1.0 if self.frame.scale is None else self.frame.scale
        return np.asarray(self.frame.centre + scale * self.parameters.points)

    @property
    def covariances(self) -> NDArray[np.float64]:
        """Shape (K, d), (K, d, d) or, tied, (d, d), in the features' own units."""
        scale = self.frame.scale
        if scale is None:
            return self.parameters.covariances
        diagonal = isinstance(self.gaussians, DiagonalGaussians)
        units = scale**2 if diagonal else np.outer(scale, scale)
        return self.parameters.covariances * units

    def log_densities(self, x: Any) -> Any:
        """Return the log density of each row under each component.

        Parameters
        ----------
        x : array of shape (n, d)
            NumPy or torch.

        Returns
        -------
        array of float64, shape (n, K)
            Of the rows as they are seen: a scaled layer's density is that of the
            scaled features. Under a Dirichlet process it is the exponential of the
            expected log density.
        """
        logs = self.gaussians.row_log_densities(self._seen(x))
        logs += like(self.parameters.offsets - self.frame.log_unit, logs)
        return logs

    def log_joint(self, x: Any) -> Any:
        """Return log weight plus log density, shape (n, K).

        Parameters
        ----------
        x : array of shape (n, d)
            NumPy or torch.

        Returns
        -------
        array of float64, shape (n, K)
        """
        logs = self.log_densities(x)
        logs += like(self.parameters.log_weights, logs)
        return logs

    def responsibilities(self, x: Any) -> Any:
        """Return how much of each row belongs to each component, shape (n, K).

        Parameters
        ----------
        x : array of shape (n, d)
            NumPy or torch.

        Returns
        -------
        array of float64, shape (n, K)
            Rows sum to one.
        """
        found = self.parameters
        log_weights = found.log_weights + found.offsets
        joint = self.gaussians.likely_log_joint(self._seen(x), log_weights)
        return responsibilities(joint)[0]

    # Means and covariances are the Gaussians', too: a file holds them once.

    def __getstate__(self) -> dict[str, Any]:
        shared = dict.fromkeys(("points", "covariances"))
        parameters = {**vars(self.parameters), **shared}
        return {**vars(self), "parameters": parameters}

    def __setstate__(self, state: dict[str, Any]) -> None:
        gaussians, parameters = state["gaussians"], state["parameters"]
        shared = {n: vars(gaussians)[n] for n in ("points", "covariances")}
        own = MixtureParameters(**{**parameters, **shared})
        vars(self).update({**state, "parameters": own})

    def _seen(self, x: Any) -> Any:
        # In float64: a log density near zero has no digits to lose.
        y = self.frame.of(as_float64(x))
        return array_namespace(y).clip(y, -FAR, FAR)
