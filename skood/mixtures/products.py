"""Matrix products that use a triangle or symmetry where the library can."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky
from scipy.linalg.blas import dsyrk, dtrmm, ssyrk, strmm
from scipy.linalg.lapack import dtrtri
from scipy.sparse import csc_array

from skood.numerics.device import array_namespace, to_numpy

DENSE = 1 / 8
"""From this part of nonzero entries on, a dense product is the quicker one."""


def triangular_product(rows: Any, lower: Any) -> Any:
    """Return ``rows @ lower.T``; the rows' memory may be used for it.

    Parameters
    ----------
    rows : array of shape (n, d)
        NumPy (contiguous) or torch.
    lower : array of shape (d, d)
        Lower triangular, of the same library and type.

    Returns
    -------
    array of shape (n, d)
    """
    if not isinstance(rows, np.ndarray):
        return rows @ lower.T
    trmm = strmm if rows.dtype == np.float32 else dtrmm
    # BLAS is column-major: the transposed views are what it reads without a copy.
    upper = np.ascontiguousarray(lower).T
    return trmm(1.0, upper, rows.T, lower=0, trans_a=1, overwrite_b=1).T


def mostly_empty(shares: Any) -> Any:
    """Return the transpose of responsibilities, as what is quickest to multiply with.

    Most rows belong to few components, and in NumPy a sparse matrix of those then
    beats the dense product by far. Shares that are lost in the rounding of the row's
    largest are left out.

    Parameters
    ----------
    shares : array of shape (n, K)
        NumPy (contiguous) or torch; the rows sum to one.

    Returns
    -------
    array or sparse array of shape (K, n)
    """
    if not isinstance(shares, np.ndarray):
        return shares.T
    entries = np.flatnonzero(shares.ravel() > np.finfo(shares.dtype).eps)
    if len(entries) > shares.size * DENSE:
        return shares.T
    rows, columns = np.divmod(entries, shares.shape[1])
    starts = np.searchsorted(rows, np.arange(len(shares) + 1))
    return csc_array((shares.ravel()[entries], columns, starts), shares.shape[::-1])


def gram(rows: Any) -> NDArray[np.float64]:
    """Return ``rows.T @ rows`` as a float64 NumPy array.

    Parameters
    ----------
    rows : array of shape (n, d)
        NumPy (contiguous) or torch; the product is in its precision.

    Returns
    -------
    ndarray of float64, shape (d, d)
    """
    if not isinstance(rows, np.ndarray):
        return to_numpy(rows.T @ rows).astype(np.float64)
    syrk = ssyrk if rows.dtype == np.float32 else dsyrk
    half = np.asarray(syrk(1.0, rows.T, lower=1), dtype=np.float64)
    return half + np.tril(half, -1).T


def whitening_triangle(
    covariance: NDArray[np.float64],
) -> tuple[NDArray[np.float64], float]:
    """Return the lower triangle W with W^T W the inverse, and the log determinant.

    Parameters
    ----------
    covariance : ndarray of shape (d, d)
        Symmetric.

    Returns
    -------
    ndarray of shape (d, d), float

    Raises
    ------
    LinAlgError
        If the covariance is not positive definite.
    """
    factor = cholesky(covariance, lower=True, check_finite=False)
    inverse, info = dtrtri(factor, lower=1)
    if info:
        raise LinAlgError("singular triangle")
    return np.ascontiguousarray(inverse), float(2 * np.log(np.diag(factor)).sum())


def nearest_points(y: Any, points: Any) -> Any:
    """Return the number of the nearest point of each row, shape (n,)."""
    xp = array_namespace(y)
    nearness = y @ points.T
    nearness -= 0.5 * xp.sum(points * points, axis=1)
    return xp.argmax(nearness, axis=1)


def squared_lengths(y: Any) -> Any:
    """Return the sum of squares of each row, shape (n,)."""
    if isinstance(y, np.ndarray):
        return np.einsum("ij,ij->i", y, y)
    return (y * y).sum(dim=1)
