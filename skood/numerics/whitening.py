"""The inverse square root of a covariance, each feature in a unit of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky, eigh
from scipy.linalg.lapack import dtrtri

from skood.numerics.moments import ClassMoments
from skood.numerics.shrinkage import Shrinkage

EPSILON = float(np.finfo(np.float64).eps)

ROUNDING = 10 * EPSILON
"""A feature that varies by less than this part of its mean is constant."""

SMALL = 1e-9
"""A squared pivot below this asks for the eigenvalues."""


@dataclass(frozen=True, eq=False)
class Whitening:
    """W with W W^T the inverse covariance of features in units of ``scale``.

    Parameters
    ----------
    matrix : ndarray of shape (d, d)
        W: an upper triangle where the covariance is well conditioned, else
        eigenvectors.
    scale : ndarray of shape (d,)
        Where W is a triangle the features' deviations; else such that what is added to
        the rows' covariance is the identity.
    spectrum : ndarray of shape (d,) or None
        Ascending eigenvalues of the rows' covariance in those units, where W is made of
        eigenvectors; zero where they are rounding.
    rank : int
        Of the rows' covariance.
    """

    matrix: NDArray[np.float64]
    scale: NDArray[np.float64]
    spectrum: NDArray[np.float64] | None
    rank: int

    @classmethod
    def of(
        cls, moments: ClassMoments, reg_covar: float, shrinkage: Shrinkage
    ) -> Whitening:
        """Return the whitening of (1 - s) S + s level I + reg_covar diag(S).

        Parameters
        ----------
        moments : ClassMoments
            Say what S is, the tied covariance.
        reg_covar : float
            Relative to each feature's variance, so that units are no matter. A
            constant feature has no variance; that of the others counts for it, their
            median.
        shrinkage : Shrinkage
            s and the level.

        Returns
        -------
        Whitening

        Raises
        ------
        ValueError
            If the features do not vary at all, if their squares do not fit, or if the
            covariance is singular without a ridge.
        """
        variances = unit_variances(moments)
        rows = moments.counts.sum() - np.count_nonzero(moments.counts)
        if shrinkage.intensity == 0 and rows >= 2 * len(variances):
            found = _triangular(moments, variances, reg_covar)
            if found is not None:
                return found
        added = reg_covar * variances + shrinkage.intensity * shrinkage.level
        if not (added > 0).all():
            scaled = _scaled(moments, np.sqrt(variances))
            _refuse_singular(moments, _rank(eigh(scaled, eigvals_only=True), rows))
            found = _triangular(moments, variances, reg_covar, least=0.0)
            if found is not None:  # else what is added, zero, is no unit
                return found
        return _of_eigenvectors(moments, np.sqrt(added), shrinkage.intensity)


def unit_variances(moments: ClassMoments) -> NDArray[np.float64]:
    """Return the variance that is each feature's unit; checked to be usable."""
    variances = moments.variances()
    check_squares(variances, moments.mean())
    varies = variances > (ROUNDING * np.abs(moments.mean())) ** 2
    if not varies.any():
        raise ValueError(
            "the features are constant within the classes (n_features = "
            f"{len(variances)}), or vary by so little that the squares vanish: there "
            "is no covariance to measure distances with. Leave the layer out, or give "
            "it in a smaller unit."
        )
    return np.where(varies, variances, np.median(variances[varies]))


def check_squares(variances: NDArray[np.float64], means: NDArray[np.float64]) -> None:
    """Raise where a feature's values were too large to be squared."""
    # Sums over features have to fit, too.
    wrong = np.flatnonzero(
        ~(variances < np.finfo(np.float64).max / 1e8) | ~np.isfinite(means)
    )
    if len(wrong):
        listed = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
        raise ValueError(
            f"the values of column {listed} are too large: the squares of their "
            "deviations do not fit float64. Divide the column by a constant, so that "
            "it stays below 1e150."
        )


def _scaled(moments: ClassMoments, scale: NDArray[np.float64]) -> NDArray[np.float64]:
    covariance = moments.covariance()
    covariance /= scale
    covariance /= scale[:, None]
    return covariance


def _triangular(
    moments: ClassMoments,
    variances: NDArray[np.float64],
    reg_covar: float,
    least: float = SMALL,
) -> Whitening | None:
    """Return the whitening by Cholesky, or None where a squared pivot is too small."""
    scale = np.sqrt(variances)
    padded = _scaled(moments, scale)
    padded[np.diag_indices_from(padded)] += reg_covar
    try:
        lower = cholesky(padded, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError:
        return None
    if (np.diag(lower) ** 2).min() < least:
        return None
    inverse = np.ascontiguousarray(dtrtri(lower, lower=1)[0].T)
    return Whitening(inverse, scale, None, len(scale))


def _of_eigenvectors(
    moments: ClassMoments, scale: NDArray[np.float64], shrinkage: float
) -> Whitening:
    rows = moments.counts.sum() - np.count_nonzero(moments.counts)
    values, vectors = eigh(_scaled(moments, scale), check_finite=False)
    rank = _rank(values, rows)
    spectrum = np.where(np.arange(len(values)) < len(values) - rank, 0.0, values)
    matrix = vectors / np.sqrt((1 - shrinkage) * spectrum + 1)
    return Whitening(np.ascontiguousarray(matrix), scale, spectrum, rank)


def _rank(values: NDArray[np.float64], rows: float) -> int:
    """Return how many ascending eigenvalues are more than rounding."""
    found = np.count_nonzero(values > len(values) * EPSILON * values[-1])
    return min(int(found), max(int(rows), 1))


def _refuse_singular(moments: ClassMoments, rank: int) -> None:
    n_features = len(moments.scatter)
    if rank < n_features:
        raise ValueError(
            f"the covariance of {n_features} features is singular: its rank is {rank} "
            f"({int(moments.counts.sum())} rows in {len(moments.counts)} classes), and "
            "reg_covar=0 leaves it so. Give a larger one, covariance='ledoit_wolf' or "
            "'oas', or more rows."
        )
