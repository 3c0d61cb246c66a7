"""How usual the state of each unit is, weighed by its part in the prediction."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skood._sklearn_compat import Interval
from skood.detectors.head.base import HeadDetector, product_in_type
from skood.detectors.head.histograms import BinCounts, places_among
from skood.detectors.head.moments import term_moments
from skood.detectors.training import Training
from skood.numerics.device import array_namespace, like, to_numpy
from skood.numerics.probabilities import softmax
from skood.numerics.rows import cache_slices, in_float64, row_dots, row_sums

__all__ = ["NAC"]


class NAC(HeadDetector):
    r"""How usual the state of each unit is, weighed by its part in the prediction.

    The state of unit j is :math:`u_j = \sigma(\alpha h_j g_j)` with the logistic
    function :math:`\sigma` and the gradient of the prediction's divergence from the
    uniform distribution, which at the penultimate layer is
    :math:`g = W^\top (p - 1/C)`. The score [1]_ is the mean over the units of
    :math:`\min(n_j(u_j) / O, 1)`, where :math:`n_j(u)` training rows have unit j in the
    same bin. The authors add up several layers; this is the penultimate one alone.

    The bins are symmetric about 1/2 and, as in the authors' code, narrowest there:
    the edges up to 1/2 are :math:`\log_{1000} x` at equal steps of x.

    :math:`\alpha` depends on the units of the features, and the authors choose it and O
    with outliers: ``published``. The defaults are ours: ten over the root mean square
    of :math:`h_j g_j` in the training rows, so that few units stay near 1/2, and O is
    1 % of these rows.

    The threshold comes from rows held out of other fits.

    Parameters
    ----------
    alpha : float, optional
        :math:`\alpha`; None is ten over the root mean square.
    full_share : float, default=0.01
        O as a share of the training rows, in (0, 1].
    n_bins : int, default=48
        An even number; the authors' M = 50 makes 48.
    head : LinearHead, optional
        The network's last linear map; None takes the one of the features, or finds it.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    alpha_ : float
        :math:`\alpha`.
    cuts_ : ndarray of shape (n_bins - 1,)
        Where one bin of :math:`h_j g_j` ends and the next begins.
    coverage_ : ndarray of shape (n_features, n_bins)
        :math:`\min(n_j / O, 1)`.
    head_ : LinearHead
        The last linear map.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there is no head, it has one class only, or ``n_bins`` is odd.

    References
    ----------
    .. [1] Liu, Tian, Li, Ma and Wang, "Neuron activation coverage: rethinking
       out-of-distribution detection and generalization", ICLR 2024.

    Examples
    --------
    >>> from skood import NAC
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = NAC().fit(features, y)
    >>> scores = detector.score_samples(features)
    >>> bool(scores[y == -1].mean() < scores[y >= 0].mean() - 0.1)
    True
    """

    alpha: float | None = None
    full_share: float = 0.01
    n_bins: int = 48

    published: ClassVar[dict[str, dict[str, Any]]] = {
        "CIFAR-10": {"alpha": 100.0, "full_share": 0.05},
        "CIFAR-100": {"alpha": 50.0, "full_share": 0.05},
        "ImageNet": {"alpha": 3000.0, "full_share": 0.01},
    }
    """The authors' parameters for the penultimate block, O over its 1,000 rows."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "alpha": [Interval(Real, 0, None, closed="neither"), None],
        "full_share": [Interval(Real, 0, 1, closed="right")],
        "n_bins": [Interval(Integral, 2, None, closed="left")],
    }

    _block_elements = 1 << 21  # its products are large ones

    def _learn_head(self, training: Training) -> None:
        self._check_several_classes()
        if self.n_bins % 2:
            raise ValueError(
                f"n_bins={self.n_bins} is odd: the bins are symmetric about 1/2, half "
                "of them on either side. Give an even number."
            )
        self.alpha_ = self._inverse_size(training) if self.alpha is None else self.alpha
        self.cuts_ = _state_cuts(self.n_bins) / self.alpha_
        found = self._gathered(self._counts, training)
        full = self.full_share * found.n_rows
        self.coverage_ = np.minimum(found.counts / full, 1)

    def _inverse_size(self, training: Training) -> float:
        def squares(h: Any, z: Any) -> tuple[Any]:
            sums = [row_dots(states, states) for states in self._states(h, z)]
            return (array_namespace(h).concat(sums) / h.shape[1],)

        ((square,), _) = term_moments(self, training, squares)
        return float(10 * square**-0.5) if square > 0 else 10.0

    def _states(self, h: Any, z: Any) -> Iterator[Any]:
        """Yield the states of some rows after the other."""
        assert self.head_ is not None
        xp, weight = array_namespace(z), self.head_.weight
        unlike_uniform = softmax(z) - 1 / z.shape[1]
        if weight.dtype == np.float32:  # as precise as the logits
            unlike_uniform = xp.astype(unlike_uniform, xp.float32)
        back = product_in_type(unlike_uniform, weight.T)
        for rows in cache_slices(h, 2 * h.shape[1]):  # states, cells and bins at once
            yield h[rows] * in_float64(back[rows])

    def _bins(self, h: Any, z: Any) -> Iterator[Any]:
        """Yield the bins of some rows after the other, numbered over all units."""
        for states in self._states(h, z):
            bins = places_among(states, self.cuts_)
            bins += like(np.arange(h.shape[1]) * self.n_bins, bins)
            yield bins

    def _counts(self, h: Any, z: Any, _: Any) -> BinCounts:
        shape = (h.shape[1], self.n_bins)
        counts = np.zeros(h.shape[1] * self.n_bins)
        for bins in self._bins(h, z):
            counts += np.bincount(to_numpy(bins).ravel(), minlength=len(counts))
        return BinCounts(len(h), counts.reshape(shape))

    def _head_scores(self, h: Any, z: Any) -> Any:
        covered = like(self.coverage_.ravel(), h)
        totals = [row_sums(covered[bins]) for bins in self._bins(h, z)]
        return array_namespace(h).concat(totals) / h.shape[1]


def _state_cuts(n_bins: int) -> NDArray[np.float64]:
    """Return the inner edges of the bins, as arguments of the logistic function."""
    x = np.linspace(1, 1000**0.5, n_bins // 2 + 1)[1:]
    below = np.log(x) / np.log(1000)
    below[-1] = 0.5
    edges = np.concatenate([below, 1 - below[-2::-1]])
    return np.log(edges / (1 - edges))
