"""Gaussians with one tied covariance: distances to the nearest mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.numerics.device import array_namespace, like
from skood.numerics.fixed_blocks import (
    DEVICE_ROWS,
    clip_to,
    filled,
    filled_rows,
    matmul,
    product,
    triangular_product,
    whole,
)
from skood.numerics.graph import row_slices
from skood.numerics.moments import ClassMoments
from skood.numerics.shrinkage import Shrinkage
from skood.numerics.whitening import Whitening

BLOCK_ROWS = 256
"""Rows scored at a time: they stay in the cache."""

BLOCK_ELEMENTS = 1 << 20
"""Entries of one block's (rows, classes) matrix when rows are left out: 8 MB."""

FAR = 1e100
"""Deviations beyond this count as this: their squares would not fit."""

SAFE = 1e-7
"""What a row may leave of the determinant before rounding speaks for the rest."""

ROWS_TO_SPARE = 32
"""So many rows more than features and classes, and leaving one out changes little."""


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
        W with W W^T the inverse covariance of features in units of ``scale``.
    centre : ndarray of shape (d,)
        The mean of all rows, taken off first so that no digits are lost to it.
    points : ndarray of shape (C, d)
        The class means, centred and whitened.
    scale : ndarray of shape (d,)
        The unit of each feature.
    spectrum : ndarray of shape (d,) or None
        See :class:`skood.numerics.whitening.Whitening`.
    shrinkage : float
        How much of the covariance is not the rows'.
    rank : int
        Of the rows' covariance.
    """

    counts: NDArray[np.float64]
    means: NDArray[np.float64]
    whitening: NDArray[np.float64]
    centre: NDArray[np.float64]
    points: NDArray[np.float64]
    scale: NDArray[np.float64]
    spectrum: NDArray[np.float64] | None
    shrinkage: float
    rank: int

    @classmethod
    def of(
        cls,
        moments: ClassMoments,
        reg_covar: float,
        shrinkage: Shrinkage = Shrinkage(),  # noqa: B008
    ) -> TiedGaussian:
        """Return the Gaussian with the moments of some rows.

        Parameters
        ----------
        moments : ClassMoments
            Of the rows.
        reg_covar : float
            Added to each feature's variance, relative to it.
        shrinkage : Shrinkage, optional
            Of the covariance.

        Returns
        -------
        TiedGaussian

        Raises
        ------
        ValueError
            As :meth:`skood.numerics.whitening.Whitening.of`.
        """
        found = Whitening.of(moments, reg_covar, shrinkage)
        centre = moments.mean()
        centred = moments.means - centre
        centred /= found.scale
        points = matmul(centred, found.matrix)
        return cls(
            moments.counts,
            moments.means,
            found.matrix,
            centre,
            points,
            found.scale,
            found.spectrum,
            shrinkage.intensity,
            found.rank,
        )

    def covariance(self) -> NDArray[np.float64]:
        """Return the covariance, ridge and shrinkage included, shape (d, d)."""
        root = np.linalg.inv(self.whitening) * self.scale
        return np.asarray(root.T @ root)

    @property
    def rows_to_spare(self) -> int:
        """How many rows there are beyond what spans all directions."""
        n_rows, n_classes = int(self.counts.sum()), np.count_nonzero(self.counts)
        return n_rows - int(n_classes) - len(self.scale)

    @property
    def is_made_of_its_ridge(self) -> bool:
        """Whether the rows span fewer directions than there are features.

        Distances are then those outside of the span, in the units of ridge or
        shrinkage, which each row has a part in: to leave one out takes a refit.
        """
        n_rows, (n_classes, width) = self.counts.sum(), self.means.shape
        return bool(n_rows - n_classes < width and self.rank >= n_rows - n_classes)

    @property
    def hangs_on_few_rows(self) -> bool:
        """Whether a tenth of the rows, or one, decides how far new rows are.

        Where the rows span three fifths of all directions or more, a tenth of them
        spans a seventh of the others or more: distances by a fit without it are of
        another size.
        Where there are hardly more rows than directions, the covariance without one of
        them is another: with r to spare, the 5 % quantile of left out Gaussian rows
        has 0.4 % of new ones below it for r = 1, and 4.8 % for r = 32.
        """
        if self.shrinkage > 0:
            return False
        left_out = len(self.scale) - self.rank
        if self.is_made_of_its_ridge:
            return bool(self.counts.sum() > 1.5 * left_out)
        return 0 <= self.rows_to_spare < ROWS_TO_SPARE

    def nearest(self, x: Any) -> Any:
        """Return squared Mahalanobis distances to the nearest mean.

        The nearest mean is found by one matrix product, its distance is then taken
        from the difference: the product alone would lose digits to cancellation. A
        row's distance is the same, to the last bit, whatever stands beside it.

        Parameters
        ----------
        x : array of shape (n, d)
            NumPy or torch, float32 or float64.

        Returns
        -------
        array of float64, shape (n,)
        """
        xp = array_namespace(x)
        points, halves = self._kernel_points
        found = []
        step = BLOCK_ROWS if isinstance(x, np.ndarray) else DEVICE_ROWS
        for some in row_slices(x, step):
            block = x[some]
            white = self._white(block)
            own = like(points, white)
            if len(self.points) > 1:
                nearness = product(white, own.T)
                nearness -= like(halves, white)
                white -= own[xp.argmax(nearness, axis=1)]
            else:
                white -= own[0]
            found.append(xp.linalg.vecdot(white, white)[: block.shape[0]])
        return found[0] if len(found) == 1 else xp.concat(found)

    def nearest_unseen(self, x: Any, classes: NDArray[np.intp]) -> Any | None:
        r"""Return the distances of training rows, each as if it had been left out.

        Leaving row i of class c out changes the class mean and takes
        :math:`t u u^T`, :math:`u = x_i - \mu_c, t = \frac{n_c}{n_c-1}`, off the
        scatter; the inverse follows by the formula of Sherman and Morrison. The ridge
        and the shrinkage are held as they are.

        What is left of the determinant, 1 - leverage, is nothing but the ridge's share
        where the row alone spans a direction, as all rows do when there are fewer than
        features. A difference would be rounding then: it is summed up over the
        eigenvectors of the covariance instead.

        Parameters
        ----------
        x : array of shape (n, d)
            Rows that were fitted on.
        classes : ndarray of int, shape (n,)
            Their classes.

        Returns
        -------
        array of shape (n,) or None
            Infinite where a class had only this row and there is no other class. None
            if there is no saying in closed form, within rounding.
        """
        xp = array_namespace(x)
        points = like(self.points * self._without_one(), self._white(x[:1]))
        halves = xp.linalg.vecdot(points, points) / 2
        halves[np.flatnonzero(self.counts == 0)] = np.inf
        found = []
        for some in self._blocks(len(x)):
            distances = self._block_unseen(x[some], classes[some], points, halves)
            if distances is None:
                return None
            found.append(distances)
        return xp.concat(found)

    def _blocks(self, n_rows: int) -> Iterator[slice]:
        step = max(64, BLOCK_ELEMENTS // max(self.points.shape))
        for start in range(0, n_rows, step):
            yield slice(start, start + step)

    def _block_unseen(
        self, x: Any, classes: NDArray[np.intp], points: Any, halves: Any
    ) -> Any | None:
        xp = array_namespace(x)
        white = self._white(x)[: len(x), : self.points.shape[1]]
        white = white * like(self._without_one(), white)
        count = self.counts[classes]
        alone = like((count == 1).astype(float), white) > 0
        stretch = like(count / np.maximum(count - 1, 1), white)
        u = white - points[classes]
        square = xp.linalg.vecdot(u, u)
        pull = stretch * float((1 - self.shrinkage) / max(self.counts.sum() - 1, 1))
        kept = self._kept(u, square, stretch, pull)
        kept = xp.where(alone | (square == 0), 0 * kept + 1, kept)
        if self.spectrum is None and bool((kept < SAFE).any()):
            return None
        own = stretch**2 * square / kept
        own = xp.where(alone, 0 * square + np.inf, own)
        if len(points) > 1:
            pull = pull / kept
            self._take_nearer(own, white, u, pull, classes, points, halves)
        return own

    def _without_one(self) -> NDArray[np.float64]:
        """Return what white columns are multiplied by with one row fewer.

        The weight of the rows' scatter goes from 1 / n to 1 / (n - 1).
        """
        n = self.counts.sum()
        more = n / max(n - 1, 1)
        if self.spectrum is None:
            return np.full(self.points.shape[1], more**-0.5)
        own = (1 - self.shrinkage) * self.spectrum
        return np.asarray(np.sqrt((own + 1) / (own * more + 1)))

    def _kept(self, u: Any, square: Any, stretch: Any, pull: Any) -> Any:
        """Return 1 - pull * square, by a sum of positive terms where that is needed."""
        xp = array_namespace(u)
        if self.spectrum is None:
            return 1 - pull * square
        n, n_classes = self.counts.sum(), np.count_nonzero(self.counts)
        spectrum = self.spectrum[-self.rank :]
        u = u[:, -self.rank :]
        parts = u * u / like(n * spectrum, u)
        own = (1 - self.shrinkage) * spectrum * (n / max(n - 1, 1)) + 1
        kept = xp.sum(parts, axis=1)
        if self.rank < n - n_classes:
            outside = 1 / stretch - xp.sum(parts * like(own, u), axis=1)
            kept = kept + xp.where(outside > 0, outside, 0 * outside)
        return stretch * kept

    def _take_nearer(
        self,
        own: Any,
        white: Any,
        u: Any,
        pull: Any,
        classes: NDArray[np.intp],
        points: Any,
        halves: Any,
    ) -> None:
        """Replace distances to the own mean by those to another class's, if nearer.

        Taking a row off the covariance only makes distances longer. Where all other
        means are farther away than the own class's, whatever is left out, there is no
        need to look.
        """
        xp = array_namespace(white)
        nearness = matmul(white, points.T)
        nearness -= halves
        nearness[np.arange(len(classes)), classes] = -np.inf
        norms = xp.linalg.vecdot(white, white)
        (close,) = xp.nonzero(norms - 2 * xp.max(nearness, axis=1) < own)
        if len(close) == 0:
            return
        u, white, pull = u[close], white[close], pull[close]
        longer = matmul(u, points.T)
        longer -= xp.linalg.vecdot(white, u)[:, None]
        longer *= longer
        longer *= pull[:, None] / 2
        longer -= nearness[close]
        v = white - points[xp.argmin(longer, axis=1)]
        cross = xp.linalg.vecdot(v, u)
        distances = xp.linalg.vecdot(v, v) + pull * cross * cross
        own[close] = xp.minimum(own[close], distances)

    # The products ------------------------------------------------------------------

    def _white(self, x: Any) -> Any:
        """Return white rows, filled up to whole blocks."""
        rows = filled_rows(x, whole(x.shape[1]), self._centre_like(x))
        with np.errstate(over="ignore"):
            rows *= like(self._kernel_units, rows)
        if not (
            isinstance(x, np.ndarray) and x.dtype == np.float32 and self._single_is_near
        ):
            clip_to(rows, FAR)
        matrix = like(self._kernel_whitening, rows)
        if self._is_triangular:
            return triangular_product(rows, matrix)
        return product(rows, matrix)

    def _centre_like(self, x: Any) -> Any:
        if isinstance(x, np.ndarray):
            return self.centre  # in float64, whatever the rows are
        return x.new_tensor(self.centre, dtype=x.double().dtype)

    @cached_property
    def _is_triangular(self) -> bool:
        return not np.tril(self.whitening, -1).any()

    @cached_property
    def _single_is_near(self) -> bool:
        """Whether no float32 is farther than FAR."""
        farthest = float(np.finfo(np.float32).max) + np.abs(self.centre)
        return bool((farthest / self.scale < FAR).all())

    @cached_property
    def _kernel_units(self) -> NDArray[np.float64]:
        return filled(1 / self.scale[None])[0]

    @cached_property
    def _kernel_whitening(self) -> NDArray[np.float64]:
        return filled(self.whitening)

    @cached_property
    def _kernel_points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the points and half of their squared lengths."""
        points = filled(self.points)
        halves = np.full(len(points), np.inf)
        halves[: len(self.points)] = np.linalg.vecdot(self.points, self.points) / 2
        halves[: len(self.points)][self.counts == 0] = np.inf
        return points, halves

    def __getstate__(self) -> dict[str, Any]:
        # What is worked out of the fields when first needed stays out of files.
        return {one.name: getattr(self, one.name) for one in fields(self)}
