"""The expectation step: from rows to mergeable statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.mixtures.gaussians import Gaussians
from skood.mixtures.products import nearest_points
from skood.mixtures.rows import as_float64
from skood.numerics.device import array_namespace, like, to_numpy


@dataclass(frozen=True, eq=False)
class MixtureStatistics:
    """What the maximisation step needs to know of the rows; merges by addition.

    Parameters
    ----------
    log_likelihood : float
        Sum over rows of the log of the summed weighted densities.
    entropy : float
        Sum over rows of the entropy of their responsibilities.
    counts : ndarray of shape (K,)
        Summed responsibilities.
    sums, seconds : ndarray
        Moments as the covariance type takes them.
    """

    log_likelihood: float
    entropy: float
    counts: NDArray[np.float64]
    sums: NDArray[np.float64]
    seconds: NDArray[np.float64]

    def merge(self, other: MixtureStatistics) -> MixtureStatistics:
        """Return the statistics of both sets of rows."""
        return MixtureStatistics(
            self.log_likelihood + other.log_likelihood,
            self.entropy + other.entropy,
            self.counts + other.counts,
            self.sums + other.sums,
            self.seconds + other.seconds,
        )


def expected_statistics(
    y: Any, gaussians: Gaussians, log_weights: NDArray[np.float64], double: bool
) -> MixtureStatistics:
    """Return the statistics of rows under the responsibilities of a mixture.

    Parameters
    ----------
    y : array of shape (n, d)
        Centred rows.
    gaussians : Gaussians
        The components.
    log_weights : ndarray of shape (K,)
        Added to the log densities.
    double : bool
        Compute in float64 whatever the rows are.

    Returns
    -------
    MixtureStatistics
    """
    kind, points = type(gaussians), gaussians.points

    def of_block(block: Any) -> MixtureStatistics:
        joint = gaussians.likely_log_joint(block, log_weights)
        shares, log_likelihood, entropy = responsibilities(joint)
        return _statistics(block, shares, kind, points, log_likelihood, entropy)

    return _by_blocks(of_block, y, kind.block_rows(len(points)), double)


def assigned_statistics(
    y: Any, kind: type[Gaussians], points: NDArray[np.float64]
) -> MixtureStatistics:
    """Return the statistics of rows that each belong to the nearest point alone.

    Parameters
    ----------
    y : array of shape (n, d)
        Centred rows.
    kind : type of Gaussians
        Says which moments are taken.
    points : ndarray of shape (K, d)
        One for each component.

    Returns
    -------
    MixtureStatistics
        Computed in float64.
    """

    def of_block(block: Any) -> MixtureStatistics:
        xp = array_namespace(block)
        nearest = nearest_points(block, like(points, block))
        numbers = xp.arange(len(points), device=block.device)
        shares = xp.astype(nearest[:, None] == numbers[None, :], block.dtype)
        return _statistics(block, shares, kind, points)

    return _by_blocks(of_block, y, kind.block_rows(len(points)), double=True)


def responsibilities(joint: Any) -> tuple[Any, float, float]:
    """Return how much of each row belongs to each component, and two sums.

    Parameters
    ----------
    joint : array of shape (n, K)
        Log weight plus log density, finite; overwritten.

    Returns
    -------
    array of shape (n, K), float, float
        The responsibilities; the sum over rows of log sum exp, and of the
        responsibilities' entropy.
    """
    xp = array_namespace(joint)
    peaks = xp.max(joint, axis=1)
    joint -= peaks[:, None]
    shares = xp.exp(joint)
    masses = xp.sum(shares, axis=1)
    joint *= shares
    entropies = xp.log(masses) - xp.sum(joint, axis=1) / masses
    shares /= masses[:, None]
    log_likelihoods = peaks + xp.log(masses)
    return shares, _total(log_likelihoods), _total(entropies)


def _total(values: Any) -> float:
    return float(to_numpy(values).sum(dtype=np.float64))


def _statistics(
    y: Any,
    shares: Any,
    kind: type[Gaussians],
    points: NDArray[np.float64],
    log_likelihood: float = 0.0,
    entropy: float = 0.0,
) -> MixtureStatistics:
    xp = array_namespace(shares)
    counts = to_numpy(xp.sum(shares, axis=0)).astype(np.float64)
    moments = kind.moments(y, shares, points)
    return MixtureStatistics(log_likelihood, entropy, counts, *moments)


def _by_blocks(
    statistics_of: Callable[[Any], MixtureStatistics], y: Any, step: int, double: bool
) -> MixtureStatistics:
    blocks = (y[start : start + step] for start in range(0, len(y), step))
    parts = (statistics_of(as_float64(b) if double else b) for b in blocks)
    return reduce(MixtureStatistics.merge, parts)
