"""Gaussians with one tied covariance: distances to the nearest mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dtrmm, strmm

from skood._device import array_namespace, like
from skood._moments import ClassMoments, whitening_of

BLOCK_ROWS = 2048
EPSILON = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, eq=False)
class TiedGaussian:
    """Class means and a whitening of the covariance that they share.

    Parameters
    ----------
    counts : ndarray of shape (C,)
        Rows of each class that were fitted on.
    means : ndarray of shape (C, d)
        Class means.
    whitening : ndarray of shape (d, d)
        W with W W^T the inverse covariance.
    centre : ndarray of shape (d,)
        The mean of all rows, taken off first so that float32 keeps its digits.
    points : ndarray of shape (C, d)
        The class means, centred and whitened.
    """

    counts: NDArray[np.float64]
    means: NDArray[np.float64]
    whitening: NDArray[np.float64]
    centre: NDArray[np.float64]
    points: NDArray[np.float64]

    @classmethod
    def of(cls, moments: ClassMoments, ridge: float) -> TiedGaussian:
        """Return the Gaussian with the moments of some rows."""
        whitening = whitening_of(moments.covariance(), ridge)
        centre = moments.counts @ moments.means / moments.counts.sum()
        points = (moments.means - centre) @ whitening
        return cls(moments.counts, moments.means, whitening, centre, points)

    def nearest(self, x: Any) -> Any:
        """Return squared Mahalanobis distances to the nearest mean.

        The nearest mean is found by one matrix product, its distance is then taken
        from the difference: the product alone would lose digits to cancellation.

        Parameters
        ----------
        x : array of shape (n, d)
            NumPy or torch, float32 or float64.

        Returns
        -------
        array of shape (n,)
        """
        xp = array_namespace(x)
        whiten, points = self._whitener(x), like(self.points, x)
        half_squares = xp.sum(points * points, axis=1) / 2
        found = []
        for start in range(0, len(x), BLOCK_ROWS):
            white = whiten(x[start : start + BLOCK_ROWS])
            if len(points) > 1:
                nearness = white @ points.T
                nearness -= half_squares
                white -= points[xp.argmax(nearness, axis=1)]
            else:
                white -= points
            found.append(xp.linalg.vecdot(white, white))
        return xp.concat(found)

    def nearest_unseen(self, x: Any, classes: NDArray[np.intp]) -> Any:
        r"""Return the distances of training rows, each as if it had been left out.

        Leaving row i of class c out changes the class mean and takes
        :math:`\frac{n_c}{n_c-1} u u^T`, :math:`u = x_i - \mu_c`, off the scatter; the
        inverse follows by the formula of Sherman and Morrison.

        Parameters
        ----------
        x : array of shape (n, d)
            Rows that were fitted on.
        classes : ndarray of int, shape (n,)
            Their classes.

        Returns
        -------
        array of shape (n,)
            Infinite where a class had only this row and there is no other class.
        """
        xp = array_namespace(x)
        total, count = self.counts.sum(), self.counts[classes]
        alone = like((count == 1).astype(float), x)[:, None] > 0
        stretch = like(count / np.maximum(count - 1, 1), x)[:, None]
        own = like(np.eye(len(self.counts))[classes], x)

        white, points = self._whitener(x)(x), like(self.points, x)
        norm = xp.sum(white * white, axis=1)[:, None]
        products = white @ points.T
        squares = norm - 2 * products + xp.sum(points * points, axis=1)
        squares = xp.where(squares > 0, squares, 0 * squares)
        own_square = xp.sum(squares * own, axis=1)[:, None]
        own_product = xp.sum(products * own, axis=1)[:, None]
        cross = norm - products - own_product + (points @ points.T)[classes]
        cross = xp.where(own > 0, own_square, cross)

        leverage = stretch / total * own_square
        kept = xp.where(leverage < 1 - EPSILON, 1 - leverage, 0 * leverage + EPSILON)
        distances = squares + stretch / total * cross * cross / kept
        distances = xp.where(own > 0, distances * stretch**2, distances)
        distances = xp.where((own > 0) & alone, 0 * distances + np.inf, distances)
        return xp.min(distances, axis=1) * float((total - 1) / total)

    def _whitener(self, x: Any) -> Callable[[Any], Any]:
        """Return the map from rows like ``x`` to white rows, in arrays of their own."""
        centre, whitening = like(self.centre, x), like(self.whitening, x)
        if not isinstance(x, np.ndarray) or np.tril(whitening, -1).any():
            return lambda rows: (rows - centre) @ whitening
        trmm = strmm if x.dtype == np.float32 else dtrmm
        # A triangular factor halves the work. BLAS sees the transposed arrays.
        return lambda rows: (
            trmm(1.0, whitening.T, (rows - centre).T, lower=1, overwrite_b=1).T
        )
