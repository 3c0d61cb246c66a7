"""Reconstruction error of principal components under a kernel."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np

from skood._sklearn_compat import Interval, StrOptions
from skood.detectors.head.bank import balanced_rows
from skood.detectors.head.base import HeadDetector
from skood.detectors.head.moments import row_moments
from skood.detectors.head.subspaces import (
    component_number,
    principal_axes,
    spans_about_all,
)
from skood.detectors.training import Training
from skood.numerics.device import array_namespace, like, to_numpy
from skood.numerics.rows import lengths, unit_rows
from skood.numerics.seeds import stream_seed

__all__ = ["KPCA"]

PAIRED_ROWS = 1000
"""The median distance is that between all pairs of so many rows."""


class KPCA(HeadDetector):
    r"""Reconstruction error of principal components under a kernel.

    Rows are mapped to :math:`\phi(h)`, and the score [1]_ is minus the distance of
    :math:`\phi(h)` to the affine space of the D principal components of the training
    rows. The map is that of the cosine kernel, :math:`\hat h = h / \|h\|` (CoP), or of
    a Gaussian kernel of :math:`\hat h` by M random Fourier features (CoRP),

    .. math::

       \phi_j(h) = \sqrt{2 / M} \cos(w_j \cdot \hat h + u_j), \qquad
       w_j \sim N(0, 2 \gamma I), \quad u_j \sim U(0, 2 \pi) ,

    so that the kernel is :math:`e^{-\gamma \|\hat h - \hat h'\|^2}`. Neither the head
    nor labels are needed.

    The authors choose D and :math:`\gamma` for each network: ``published``. The
    defaults are ours: components with 90 % of the variance, and one over the median
    squared distance between training rows.

    The threshold comes from rows held out of other fits or, where about as many rows as
    columns decide which directions are left, from a fifth of the rows (up to two, where
    the rate takes as many), of which nothing is learned.

    Parameters
    ----------
    kernel : {"cosine", "cosine_rbf"}, default="cosine"
        CoP or CoRP.
    n_components : int or float, default=0.9
        D, or the share of the variance that they have.
    gamma : float, optional
        Of the Gaussian kernel; None is one over the median squared distance.
    n_random_features : int, default=2048
        M.
    random_state : int, RandomState instance or None, default=0
        Seed of the random features.
    head : LinearHead, optional
        Says which layer to read, by its name, and nothing else.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    mean_ : ndarray of shape (n_mapped,)
        The mean of the mapped training rows.
    residual_axes_ : ndarray of shape (n_mapped, n_mapped - D)
        The axes beyond the first D.
    gamma_ : float
        Of the Gaussian kernel.
    frequencies_ : ndarray of shape (n_features, n_mapped)
        The columns are w.
    phases_ : ndarray of shape (n_mapped,)
        u.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If the mapped training rows lie in D dimensions, or there is one column.

    References
    ----------
    .. [1] Fang et al., "Kernel PCA for out-of-distribution detection", NeurIPS 2024.

    Examples
    --------
    >>> from skood import KPCA
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = KPCA().fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    kernel: str = "cosine"
    n_components: float = 0.9
    gamma: float | None = None
    n_random_features: int = 2048
    random_state: Any = 0

    published: ClassVar[dict[str, dict[str, Any]]] = {
        "CoP CIFAR-10": {"n_components": 0.85},
        "CoRP CIFAR-10": {
            "kernel": "cosine_rbf",
            "n_components": 0.8,
            "gamma": 2.0,
            "n_random_features": 2048,
        },
        "CoP ImageNet": {"n_components": 0.99},
        "CoRP ImageNet": {
            "kernel": "cosine_rbf",
            "n_components": 0.5,
            "gamma": 3.0,
            "n_random_features": 4096,
        },
    }
    """The authors' parameters for ResNet-18 (CIFAR-10) and ResNet-50 (ImageNet)."""

    _uses_head = False

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "kernel": [StrOptions({"cosine", "cosine_rbf"})],
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
        ],
        "gamma": [Interval(Real, 0, None, closed="neither"), None],
        "n_random_features": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
    }

    def _learn_head(self, training: Training) -> None:
        if training.features.shape[1] == 1:
            raise ValueError(
                "the features have one column (n_features = 1): scaled to length one, "
                "every row is 1 or -1. KPCA is for more columns."
            )
        if self.kernel == "cosine_rbf":
            self._draw(training)
        moments = row_moments(self, training, self._mapped)
        values, axes = principal_axes(moments.covariance())
        self.mean_ = moments.means[0]
        self.residual_axes_ = axes[:, component_number(self, values) :].copy()

    def _draw(self, training: Training) -> None:
        gamma = self.gamma
        self.gamma_ = self._inverse_median(training) if gamma is None else gamma
        width = training.features.widths[training.features.block_names[0]]
        seed = self._choice("seed", lambda: stream_seed(self.random_state))
        rng = np.random.default_rng(seed)
        shape = (width, self.n_random_features)
        self.frequencies_ = np.sqrt(2 * self.gamma_) * rng.normal(size=shape)
        self.phases_ = 2 * np.pi * rng.uniform(size=self.n_random_features)

    def _inverse_median(self, training: Training) -> float:
        rows = balanced_rows(training, PAIRED_ROWS, 0)
        x = to_numpy(unit_rows(self._read(training.features[rows])[0]))
        above = np.triu_indices(len(x), 1)
        median = np.median(2 - 2 * (x @ x.T)[above])
        return 1 / max(float(median), 1e-12)

    def _mapped(self, h: Any) -> Any:
        x = unit_rows(h)
        if self.kernel == "cosine":
            return x
        angles = x @ like(self.frequencies_, h) + like(self.phases_, h)
        return (2 / self.n_random_features) ** 0.5 * array_namespace(h).cos(angles)

    def _hangs_on_few(self, training: Training) -> bool:
        return spans_about_all(len(training), len(self.mean_))

    def _numbers_a_row(self, width: int) -> int:
        return max(width, self.n_random_features if self.kernel != "cosine" else 0)

    def _head_scores(self, h: Any, z: Any) -> Any:
        centred = self._mapped(h) - like(self.mean_, h)
        return -lengths(centred @ like(self.residual_axes_, h))
