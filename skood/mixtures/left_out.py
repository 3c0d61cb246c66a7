"""Densities of training rows, each as if it had not been fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.mixtures.expectation import responsibilities
from skood.mixtures.mixture import Mixture

SHARE = 1e-3
"""A row that owns less of a component than this has not shaped it."""

ALONE = 1e-6
"""Fewer rows than this are none."""


def left_out_log_densities(
    mixture: Mixture, x: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Return the log densities that training rows would get without themselves.

    A row i with responsibility r in a component that stands for n rows has drawn its
    mean by r / n of the way and added an outer product to its scatter. Both are taken
    back in closed form, by the formula of Sherman and Morrison: with
    :math:`u = x_i - \mu` and :math:`n' = n - r`, the mean becomes
    :math:`\mu - \frac{r}{n'} u` and the scatter loses
    :math:`r \frac{n}{n'} u u^T`. What is held as it is: the responsibilities of the
    other rows, the weights, and under a Dirichlet process the spread of the posterior.

    Parameters
    ----------
    mixture : Mixture
        A fitted mixture.
    x : ndarray of shape (n, d)
        Rows that it was fitted on.

    Returns
    -------
    ndarray of shape (n, K), ndarray of shape (n, K)
        The log densities, minus infinity in a component that was this row alone; and
        the responsibilities with all rows in place.
    """
    logs = mixture.log_densities(x)
    shares, _, _ = responsibilities(logs + mixture.parameters.log_weights)
    rows, components = np.nonzero(shares > SHARE)
    changes = _changes(mixture, x, rows, components, shares[rows, components])
    logs[rows, components] += changes
    return logs, shares


def _changes(
    mixture: Mixture,
    x: NDArray[Any],
    rows: NDArray[np.intp],
    components: NDArray[np.intp],
    shares: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return what the log densities of pairs of a row and a component change by."""
    found, gaussians = mixture.parameters, mixture.gaussians
    u = mixture.frame.of(x.astype(np.float64))[rows] - found.points[components]
    behind_mean = found.mean_counts[components]
    behind_scatter = found.scatter_counts[components]
    left_mean, left_scatter = behind_mean - shares, behind_scatter - shares
    alone = left_mean < ALONE
    left_mean[alone], left_scatter[alone] = behind_mean[alone], behind_scatter[alone]

    weights = shares * behind_mean / (left_mean * behind_scatter)
    before, _ = gaussians.downdated(u, components, np.zeros_like(weights))
    distances, shrunk = gaussians.downdated(u, components, weights)
    stretch = behind_scatter / left_scatter
    distances = distances * (behind_mean / left_mean) ** 2 / stretch
    changes = -0.5 * (distances - before + shrunk + x.shape[1] * np.log(stretch))
    return np.where(alone, -np.inf, changes)
