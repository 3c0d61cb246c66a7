"""The density of a Gaussian for each class, each with a covariance of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial, reduce
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky, solve_triangular

from skood._sklearn_compat import Interval, StrOptions
from skood.detectors.layers.base import LayerDetector
from skood.detectors.training import Training
from skood.features import LayerFeatures
from skood.features.chunks import merged_statistics
from skood.numerics.device import array_namespace, like
from skood.numerics.fixed_blocks import filled, filled_rows, triangular_product
from skood.numerics.logsumexp import log_sum_exp
from skood.numerics.moments import ClassMoments
from skood.numerics.rows import cache_slices, row_dots
from skood.numerics.shrinkage import Shrinkage
from skood.numerics.whitening import check_squares

__all__ = ["GaussianMixtureDetector"]

LARGEST = float(np.finfo(np.float64).max)

Key = tuple[str, str]


class GaussianMixtureDetector(LayerDetector):
    r"""Log-density of a mixture with one Gaussian a class.

    The score of a layer is
    :math:`\log \sum_k \pi_k \mathcal{N}(h; \mu_k, \Sigma_k)` with the classes' shares,
    means and covariances, as in DDU; several layers are added. In contrast to
    :class:`skood.Mahalanobis`, each class has a covariance of its own, which takes
    C d² numbers: for many classes of wide layers, reduce the features before.

    The covariances are drawn to a multiple of the identity by the share that
    ``shrinkage`` says: DDU adds the smallest of a list of numbers with which the
    covariance can be inverted, which leaves directions of no variance that decide
    everything. A class whose rows do not vary takes the covariance that all share.
    Without labels it is one Gaussian.

    The threshold comes from rows held out of other fits.

    Parameters
    ----------
    layers : str or sequence of str, optional
        The layers to use; None takes all that have the statistic.
    statistic : str, default="avg"
        The statistic to use.
    shrinkage : {"oas"} or float, default="oas"
        The share of the identity, in [0, 1], or the estimate of Chen, Wiesel, Eldar and
        Hero (2010) for each class.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    means_ : dict of (layer, statistic) to ndarray of shape (n_classes, n_features)
        The classes' means.
    whitenings_ : dict of (layer, statistic) to ndarray
        Maps under which the classes' rows are white, of shape (n_classes, n_features,
        n_features).
    log_weights_ : dict of (layer, statistic) to ndarray of shape (n_classes,)
        Logarithms of the shares over the square roots of the determinants.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If the features do not vary at all, or are too large to be squared, or a
        covariance is singular without shrinkage.

    References
    ----------
    Mukhoti, Kirsch, van Amersfoort, Torr and Gal, "Deep deterministic uncertainty: a
    new simple baseline", CVPR 2023.

    Examples
    --------
    >>> from skood import GaussianMixtureDetector
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = GaussianMixtureDetector(layers="penultimate").fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    shrinkage: str | float = "oas"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "shrinkage": [StrOptions({"oas"}), Interval(Real, 0, 1, closed="both")],
    }

    def _fit(self, training: Training) -> None:
        self.means_: dict[Key, NDArray[np.float64]] = {}
        self.whitenings_: dict[Key, NDArray[np.float64]] = {}
        self.log_weights_: dict[Key, NDArray[np.float64]] = {}
        for name in training.features.block_names:
            moments_of = partial(self._moments, n_classes=training.n_classes)
            block = training.features.select_blocks([name])
            found = merged_statistics(moments_of, block, training.class_numbers)
            try:
                self._set_gaussians(name, found.classes)
            except ValueError as error:
                raise ValueError(f"layer {name[0]!r} ({name[1]}): {error}") from error

    def _moments(
        self, chunk: LayerFeatures, classes: NDArray[np.intp], n_classes: int
    ) -> MomentsByClass:
        (x,) = self._arrays(chunk)
        return MomentsByClass.of(x, classes, n_classes)

    def _set_gaussians(self, name: Key, classes: list[ClassMoments]) -> None:
        for moments in classes:
            check_squares(moments.scatter.diagonal(), moments.means[0])
        tied = reduce(_tied, classes)
        kinds = [m if np.trace(m.scatter) > 0 else tied for m in classes]
        shapes = [self._gaussian(kind) for kind in kinds]
        counts = np.array([moments.counts[0] for moments in classes])
        self.means_[name] = np.concatenate([moments.means for moments in classes])
        self.whitenings_[name] = np.stack([whitening for whitening, _ in shapes])
        log_scales = np.array([log_scale for _, log_scale in shapes])
        self.log_weights_[name] = np.log(counts / counts.sum()) + log_scales

    def _gaussian(self, moments: ClassMoments) -> tuple[NDArray[np.float64], float]:
        """Return a whitening, and the logarithm of the density at the mean."""
        width = len(moments.scatter)
        if self.shrinkage == "oas":
            shrunk = Shrinkage.of("oas", moments)
            share, level = shrunk.intensity, shrunk.level
        else:
            share, level = float(self.shrinkage), float(moments.variances().mean())
        covariance = (1 - share) * moments.covariance()
        covariance[np.diag_indices(width)] += share * level
        try:
            lower = cholesky(covariance, lower=True)
        except LinAlgError as error:
            raise ValueError(
                f"shrinkage={self.shrinkage!r} leaves a singular covariance of "
                f"{int(moments.counts[0])} rows and {width} features: use "
                "shrinkage='oas' or a larger share."
            ) from error
        whitening = solve_triangular(lower, np.eye(width), lower=True).T
        log_det = 2 * np.log(np.diag(lower)).sum()
        return whitening, float(-0.5 * (log_det + width * np.log(2 * np.pi)))

    def _score(self, chunk: LayerFeatures) -> Any:
        blocks = zip(chunk.block_names, self._arrays(chunk), strict=True)
        return sum(self._log_density(name, x) for name, x in blocks)

    def _log_density(self, name: Key, x: Any) -> Any:
        xp = array_namespace(x)
        precise = xp.astype(x[:1], xp.float64)  # whose type the means have
        logs = []
        for mean, whitening, log_weight in zip(
            self.means_[name],
            self.whitenings_[name],
            self.log_weights_[name],
            strict=True,
        ):
            squares = _squared_lengths(x, like(mean, precise), filled(whitening))
            squares = xp.clip(squares, None, LARGEST)
            logs.append(log_weight - 0.5 * squares)
        return log_sum_exp(xp.stack(logs, axis=1))


def _squared_lengths(x: Any, mean: Any, upper: NDArray[np.float64]) -> Any:
    """Return the squared length of each row's whitened difference from a mean."""
    found = []
    for rows in cache_slices(x, len(upper)):
        white = filled_rows(x[rows], len(upper), mean)
        white = triangular_product(white, like(upper, white))
        found.append(row_dots(white, white)[: x[rows].shape[0]])
    return array_namespace(x).concat(found)


@dataclass(frozen=True, eq=False)
class MomentsByClass:
    """Counts, means and scatter of each class by itself.

    Parameters
    ----------
    classes : list of ClassMoments
        Each of one class.
    """

    classes: list[ClassMoments]

    @classmethod
    def of(cls, x: Any, classes: NDArray[np.intp], n_classes: int) -> MomentsByClass:
        """Return the moments of some rows."""
        rows = [np.flatnonzero(classes == k) for k in range(n_classes)]
        return cls([ClassMoments.of(x[r], np.zeros(len(r), np.intp), 1) for r in rows])

    def merge(self, other: MomentsByClass) -> MomentsByClass:
        """Return the moments of both sets of rows."""
        pairs = zip(self.classes, other.classes, strict=True)
        return MomentsByClass([one.merge(more) for one, more in pairs])


def _tied(one: ClassMoments, other: ClassMoments) -> ClassMoments:
    """Return the scatter within two classes together, with the first one's mean."""
    counts, scatter = one.counts + other.counts, one.scatter + other.scatter
    if not counts[0] > 0:
        return one
    return ClassMoments(counts, one.means, scatter)
