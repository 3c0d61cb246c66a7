"""The share of a row that the weights of the head can see."""

from __future__ import annotations

from typing import Any

from skood.detectors.head.base import HeadDetector
from skood.detectors.head.subspaces import row_space
from skood.detectors.training import Training
from skood.numerics.device import like
from skood.numerics.rows import lengths, nonzero

__all__ = ["NuSA"]


class NuSA(HeadDetector):
    r"""The share of a row that the weights of the head can see.

    The score [1]_ is :math:`\|Q h\| / \|h\|`, where the rows of Q are an orthonormal
    basis of the space that the rows of the weights span: what is left of h is in their
    null space and changes no logit. It is 1 for every row where the weights span the
    whole space, as they mostly do with at least as many classes as features: this is
    refused.

    The paper sums over layers; this is the last one, on its own.

    Nothing is learned from the rows: scores of training rows are those of new rows.
    Give in-distribution rows that the network was not trained on, as X or as
    ``threshold_data``.

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
    row_space_ : ndarray of shape (rank, n_features)
        Q.
    head_ : LinearHead
        The last linear map.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there is no head, or its weights have no null space.

    References
    ----------
    .. [1] Cook, Zare and Gader, "Outlier detection through null space analysis of
       neural networks", ICML workshop on uncertainty and robustness, 2020.

    Examples
    --------
    >>> from skood import NuSA
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = NuSA().fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    _reads_logits = False
    _unbiased = "nothing is learned from the rows"

    def _learn_head(self, training: Training) -> None:
        assert self.head_ is not None
        self.row_space_ = row_space(self.head_)
        rank, width = self.row_space_.shape
        if rank == width:
            raise ValueError(
                f"the head's weight, of shape {self.head_.weight.shape}, spans all "
                f"{width} dimensions: it has no null space, and every row would score "
                "1. NuSA is for networks with fewer classes than features."
            )

    def _head_scores(self, h: Any, z: Any) -> Any:
        return lengths(h @ like(self.row_space_.T, h)) / nonzero(lengths(h))
