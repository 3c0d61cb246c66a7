"""Only the most active units of each row."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

from skood._sklearn_compat import Interval, StrOptions
from skood.detectors.declared import field
from skood.detectors.head.base import product
from skood.detectors.shaping._units import n_kept, smallest_kept
from skood.detectors.shaping.base import ShapingDetector
from skood.numerics.device import array_namespace, like
from skood.numerics.rows import nonzero, row_sums

__all__ = ["ASH"]


class ASH(ShapingDetector):
    r"""Activation shaping: only the most active units of each row count.

    Units below the row's own percentile become 0. What happens to those that are kept
    depends on ``variant``: with :math:`s_1` and :math:`s_2` the row's sums before and
    after,

    - ``"P"`` leaves them as they are,
    - ``"B"`` makes all :math:`s_1` over their number,
    - ``"S"`` multiplies them by :math:`e^{s_1 / s_2}`.

    Nothing is learned from data. Units that tie at the percentile are all kept, so that
    the order of the units is no matter; other implementations keep some of them. Zeros
    are never kept: with fewer active units than wanted, the authors' B fills zeros in.

    The percentile is that of the authors' runs with variant S. OpenOOD chooses between
    65 and 95 with outliers; here it is fixed, and the useful value depends on the
    network. The method is made for features behind a ReLU: on others it does harm, and
    it refuses negative ones.

    The threshold comes from the scores of the rows given to ``fit``: give
    in-distribution rows that the network was not trained on, as X or as
    ``threshold_data``.

    Parameters
    ----------
    percentile : float, default=90
        Of a row's units, in [0, 99].
    variant : {"P", "B", "S"}, default="S"
        What happens to the units that are kept: pruned only, binarised or scaled.
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
        If there is no head, or features are negative.

    References
    ----------
    Djurisic, Bozanic, Ashok and Liu, "Extremely simple activation shaping for
    out-of-distribution detection", ICLR 2023.

    Examples
    --------
    >>> from skood import ASH
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = ASH(70).fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    percentile: float = field(default=90, kw_only=False)
    variant: str = "S"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "percentile": [Interval(Real, 0, 99, closed="both")],
        "variant": [StrOptions({"P", "B", "S"})],
    }

    _non_negative = True
    _unbiased = "nothing is learned from the rows"

    def _shaped_logits(self, h: Any) -> Any:
        kept, factor = self._pruned(h)
        z = product(kept, self._linear.weight)
        return z * factor + like(self._linear.bias, z)

    def _pruned(self, h: Any) -> tuple[Any, Any]:
        """Return what is left of h, and the factor of each row, shape (n, 1)."""
        xp = array_namespace(h)
        least = smallest_kept(h, n_kept(h.shape[1], self.percentile))
        active = (h >= least[:, None]) & (h > 0)
        kept = xp.where(active, h, 0 * h)
        before = row_sums(h)
        if self.variant == "P":
            return kept, 1.0
        if self.variant == "B":
            ones = xp.astype(active, h.dtype)
            return ones, (before / nonzero(row_sums(ones)))[:, None]
        return kept, xp.exp(before / nonzero(row_sums(kept)))[:, None]
