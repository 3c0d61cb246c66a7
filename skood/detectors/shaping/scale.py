"""Activations or logits scaled by how concentrated the activations are."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

from skood._sklearn_compat import Interval, StrOptions
from skood.detectors.declared import field
from skood.detectors.head.base import logits_of, product
from skood.detectors.shaping._units import largest_sum, n_kept, positive
from skood.detectors.shaping.base import ShapingDetector
from skood.numerics.device import array_namespace, like
from skood.numerics.rows import row_sums

__all__ = ["SCALE"]


class SCALE(ShapingDetector):
    r"""Scaling by the share that the most active units have.

    With :math:`r = \sum_j h_j / \sum_{j \in \text{top}} h_j`, in which the top are the
    units above the row's own percentile, the logits that are scored are

    .. math::

       z'_\text{exp} = e^r \, W h + b , \qquad z'_\text{square} = r^2 (W h + b) .

    The first is SCALE [1]_, the second LTS [2]_.
    Nothing is pruned, and nothing is learned from data. Activations below zero count as
    zero in r, as LTS has it; on features behind a ReLU it is the same.

    The percentiles are the authors' published ones: 85, and for LTS 95. OpenOOD chooses
    between 65 and 95 with outliers; here they are fixed, and the useful value depends
    on the network.

    The threshold comes from the scores of the rows given to ``fit``: give
    in-distribution rows that the network was not trained on, as X or as
    ``threshold_data``.

    Parameters
    ----------
    percentile : float, optional
        Of a row's units, in [0, 99]; None takes that of ``published_percentiles``.
    transform : {"exp", "square"}, default="exp"
        What r does.
    score : LogitDetector, optional
        The score of the new logits; None is ``Energy()``.
    head : LinearHead, optional
        The network's last linear map; None takes the one of the features, or finds it.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    head_ : LinearHead
        The last linear map.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there is no head.

    References
    ----------
    .. [1] Xu, Chen, Franchi and Yao, "Scaling for training time and post-hoc
       out-of-distribution detection enhancement", ICLR 2024.
    .. [2] Djurisic, Liu and Nikolic, "Logit scaling for out-of-distribution detection",
       Machine Vision and Applications 2025.

    Examples
    --------
    >>> from skood import SCALE
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = SCALE().fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    percentile: float | None = field(default=None, kw_only=False)
    transform: str = "exp"

    published_percentiles: ClassVar[dict[str, float]] = {"exp": 85, "square": 95}

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "percentile": [Interval(Real, 0, 99, closed="both"), None],
        "transform": [StrOptions({"exp", "square"})],
    }

    _unbiased = "nothing is learned from the rows"

    def _shaped_logits(self, h: Any) -> Any:
        xp = array_namespace(h)
        ratio = self._concentration(h)[:, None]
        if self.transform == "square":
            return logits_of(h, self._linear) * ratio**2
        z = product(h, self._linear.weight)
        return z * xp.exp(ratio) + like(self._linear.bias, z)

    def _concentration(self, h: Any) -> Any:
        """Return r, 1 for rows without a positive activation."""
        xp = array_namespace(h)
        percentile = self.percentile
        if percentile is None:
            percentile = self.published_percentiles[self.transform]
        active = positive(h)
        top = largest_sum(active, n_kept(h.shape[1], percentile))
        some = top > 0
        return xp.where(some, row_sums(active) / xp.where(some, top, 1 + 0 * top), 1)
