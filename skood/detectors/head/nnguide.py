"""The energy, guided by the nearest training rows."""

from __future__ import annotations

from typing import Any

from skood.detectors.head.bank import NearestDetector
from skood.detectors.head.moments import term_moments
from skood.detectors.head.signs import check_positive, guarded_product
from skood.detectors.training import Training
from skood.numerics.device import array_namespace
from skood.numerics.logsumexp import log_sum_exp
from skood.numerics.rows import unit_rows

__all__ = ["NNGuide"]


class NNGuide(NearestDetector):
    r"""The energy, guided by the nearest training rows.

    With the energy :math:`E = \log \sum_k e^{z_k}` and rows :math:`\hat h` of length
    one, the score [1]_ is

    .. math::

       s = E \cdot \operatorname{mean}_{i \in N(h)} \langle \hat h, E_i \hat h_i
       \rangle ,

    the mean being over the k training rows with the largest such products.

    The energies have to be positive to make sense as weights. Training rows with a
    negative one guide with weight zero, a new row with a negative one scores it
    unguided; a mean below zero in the training rows is refused.

    The authors keep 1 % of ImageNet's rows and take k = 10; here a seeded sample is
    kept that is even over the classes.

    The threshold comes from leave-one-out scores: a training row is not compared with
    itself.

    Parameters
    ----------
    n_neighbors : int, default=10
        k.
    max_rows : int, default=10000
        At most so many training rows are kept, evenly of the classes; None keeps all.
    random_state : int, RandomState instance or None, default=0
        Seed of which rows are kept.
    head : LinearHead, optional
        The network's last linear map; None takes the one of the features, or finds it.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    bank_ : ndarray of shape (n_kept, n_features)
        :math:`E_i \hat h_i`.
    bank_rows_ : ndarray of int, shape (n_kept,)
        Their numbers among the training rows.
    head_ : LinearHead
        The last linear map.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there is no head, there are fewer rows than neighbours, or energies are
        negative in the mean.

    References
    ----------
    .. [1] Park, Jung and Teoh, "Nearest neighbor guidance for out-of-distribution
       detection", ICCV 2023.

    Examples
    --------
    >>> from skood import NNGuide
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = NNGuide().fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    def _learn_head(self, training: Training) -> None:
        ((energy,), _) = term_moments(self, training, lambda h, z: (log_sum_exp(z),))
        check_positive(
            "NNGuide", "the energy", energy, "add a constant to the head's bias"
        )
        self._keep(training, self._weighted, self.n_neighbors)

    def _weighted(self, h: Any, z: Any) -> tuple[Any]:
        energy = log_sum_exp(z)
        weight = array_namespace(h).where(energy > 0, energy, 0 * energy)
        return (weight[:, None] * unit_rows(h),)

    def _scores_of(self, h: Any, z: Any, compared: Any) -> Any:
        return guarded_product(log_sum_exp(z), compared)
