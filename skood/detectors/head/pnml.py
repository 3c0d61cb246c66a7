"""Regret of the predicted probabilities, had the row been learned from."""

from __future__ import annotations

from operator import matmul
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky
from scipy.linalg.lapack import dtrtri

from skood.detectors.head.base import HeadDetector
from skood.detectors.head.moments import outer_sum
from skood.detectors.head.subspaces import principal_axes, spans_about_all
from skood.detectors.training import Training
from skood.features import LayerFeatures
from skood.features.chunks import by_chunks
from skood.numerics.device import array_namespace, like, to_numpy
from skood.numerics.fixed_blocks import triangular_product
from skood.numerics.probabilities import log_softmax
from skood.numerics.rows import lengths, nonzero, row_dots, row_sums

__all__ = ["PNML"]

WELL_CONDITIONED = 1e-9
"""The least squared pivot, of 1, at which a triangle is as good as eigenvectors."""


class PNML(HeadDetector):
    r"""Regret of the predicted probabilities, had the row been learned from.

    With the training rows X scaled to length one, a row :math:`\hat h` of length one,
    and the probabilities p of the logits :math:`W \hat h + b`, the score [1]_ is minus
    the regret of a last layer learned by predictive normalised maximum likelihood,

    .. math::

       s = -\log \sum_k \frac{p_k}{p_k + p_k^\kappa (1 - p_k)}, \qquad
       \kappa = \frac{q}{1 + q}, \quad q = \hat h^\top (X^\top X)^+ \hat h .

    It is low for rows in directions that few training rows have, except for those that
    none has: there, the pseudo-inverse is zero. There is nothing to tune.

    The threshold comes from leave-one-out scores; with fewer rows than columns from
    rows held out of other fits; and with about as many from a fifth of the rows (up to
    two, where the rate takes as many), of which nothing is learned.

    Parameters
    ----------
    head : LinearHead, optional
        The network's last linear map; None takes the one of the features, or finds it.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    spread_ : ndarray of shape (n_features, rank)
        A square root of :math:`(X^\top X)^+`.
    head_ : LinearHead
        The last linear map.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there is no head, or it has one class only.

    References
    ----------
    .. [1] Bibas, Feder and Hassner, "Single layer predictive normalized maximum
       likelihood for out-of-distribution detection", NeurIPS 2021.

    Examples
    --------
    >>> from skood import PNML
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = PNML().fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    def _learn_head(self, training: Training) -> None:
        self._check_several_classes()
        self.spread_ = _inverse_root(outer_sum(self, training, _scaled))
        self._is_triangle = not np.tril(self.spread_, -1).any()

    def _head_scores(self, h: Any, z: Any) -> Any:
        sizes = _sizes(h)
        return self._minus_regret(z, sizes, self._weight_of(h / sizes))

    def _weight_of(self, unit: Any) -> Any:
        """Return q: how little the training rows say about rows of length one."""
        multiplied = triangular_product if self._is_triangle else matmul
        part = multiplied(unit, like(self.spread_, unit))
        return row_dots(part, part)

    def _minus_regret(self, z: Any, sizes: Any, q: Any) -> Any:
        xp = array_namespace(z)
        assert self.head_ is not None
        bias = like(self.head_.bias, z)
        log_p = log_softmax((z - bias) / sizes + bias)
        tempered = xp.exp(log_p / (1 + q)[:, None])  # p / p^kappa, which has no 0 / 0
        return -xp.log(row_sums(tempered / (tempered - xp.expm1(log_p))))

    def _hangs_on_few(self, training: Training) -> bool:
        return spans_about_all(len(training), len(self.spread_))

    def _unseen_scores(
        self, training: Training, rows: NDArray[np.intp]
    ) -> NDArray[np.float64] | None:
        """Return the scores by the other rows' moments: q is then q / (1 - q).

        None where a row alone spans a direction, so that its q is 1.
        """

        def weight(chunk: LayerFeatures) -> NDArray[np.float64]:
            h, _ = self._read(chunk, logits=False)
            return to_numpy(self._weight_of(_scaled(h)))

        q = by_chunks(weight, training.features)
        if q.max() > 1 - 1e-6:
            return None

        def score(
            chunk: LayerFeatures, left_out: NDArray[np.float64]
        ) -> NDArray[np.float64]:
            h, z = self._read(chunk)
            return to_numpy(self._minus_regret(z, _sizes(h), like(left_out, h)))

        return by_chunks(score, training.features, q / (1 - q))


def _scaled(h: Any) -> Any:
    return h / _sizes(h)


def _sizes(h: Any) -> Any:
    """Return the length of each row, 1 for a row of zeros, shape (n, 1)."""
    return nonzero(lengths(h))[:, None]


def _inverse_root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return R, (d, rank), with R R^T the pseudo-inverse; only the lower half is read.

    An upper triangle where the matrix is well conditioned, which costs half; else
    eigenvectors.
    """
    scale = np.sqrt(np.diag(matrix))
    try:
        lower = cholesky(matrix / nonzero(np.outer(scale, scale)), lower=True)
    except LinAlgError:
        lower = np.zeros((1, 1))
    if (np.diag(lower) ** 2).min() > WELL_CONDITIONED:
        inverse, _ = dtrtri(lower, lower=1)
        return np.ascontiguousarray(inverse.T / scale[:, None])
    values, axes = principal_axes(matrix)
    if not values[0] > 0:
        raise ValueError(
            "all features of the training rows are zero: PNML compares new rows with "
            "the directions in which these lie."
        )
    kept = values > values[0] * len(values) * np.finfo(float).eps
    return np.asarray(axes[:, kept] / np.sqrt(values[kept]))
