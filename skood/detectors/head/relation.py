"""How much a row is related to the training rows, in features and prediction."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np

from skood._sklearn_compat import Interval
from skood.detectors.head.bank import BankDetector
from skood.detectors.training import Training
from skood.numerics.device import array_namespace, like
from skood.numerics.graph import in_graph
from skood.numerics.probabilities import softmax
from skood.numerics.rows import nonzero, unit_rows

__all__ = ["RelationGraph"]

ROWS_A_CLASS = 50
"""With fewer, a class has so many more or less than its due that scores follow it."""


class RelationGraph(BankDetector):
    r"""How much a row is related to the training rows, in features and prediction.

    The score [1]_ is the mean over the training rows of :math:`k_i^q`, where

    .. math::

       k_i = \max(\cos(h, h_i), 0) \, \langle p, p_i \rangle

    and p are softmax probabilities; relations up to ``cut`` are no relations. (The
    authors take the sum, which depends on how many rows there are.)

    The authors choose q, from 1 to 8, for each network, and keep all rows
    (``max_rows=None``); q = 1 is the default here.

    The threshold comes from leave-one-out scores: a training row is not compared with
    itself, but as often with its class as a new row. With fewer than 50 rows a class,
    whose numbers are then more or less by chance, and scores with them, it comes from a
    fifth of the rows (up to two, where the rate takes as many), drawn from all, which
    are not kept.

    Parameters
    ----------
    power : float, default=1.0
        q, positive.
    cut : float, default=0.03
        The largest relation that is none, in [0, 1).
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
        Training rows of length one.
    probabilities_ : ndarray of shape (n_kept, n_classes)
        Theirs.
    bank_rows_ : ndarray of int, shape (n_kept,)
        Their numbers among the training rows.
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
    .. [1] Kim, Jang, Yoo and Song, "Neural relation graph: a unified framework for
       identifying label noise and outlier data", NeurIPS 2023.

    Examples
    --------
    >>> from skood import RelationGraph
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = RelationGraph().fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    power: float = 1.0
    cut: float = 0.03

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "power": [Interval(Real, 0, None, closed="neither")],
        "cut": [Interval(Real, 0, 1, closed="left")],
    }

    def _learn_head(self, training: Training) -> None:
        (self.probabilities_,) = self._keep(
            training, lambda h, z: (unit_rows(h), softmax(z))
        )

    def _hangs_on_few(self, training: Training) -> bool:
        return len(training) < ROWS_A_CLASS * self.probabilities_.shape[1]

    def _compared(self, h: Any, z: Any) -> Any:
        return super()._compared(h, z) * (softmax(z) @ like(self.probabilities_, h).T)

    def _scores_of(self, h: Any, z: Any, compared: Any) -> Any:
        xp = array_namespace(h)
        edges = xp.where(compared > self.cut, compared, 0 * h[:, :1]) ** self.power
        total = xp.sum(edges, axis=1)
        if not in_graph():  # whose rows are new, none of them kept itself
            rows, itself = xp.nonzero(compared == -np.inf)
            if len(rows) > 0:
                total[rows] += self._edge_to_another(edges[rows], itself)
        return total / compared.shape[1]

    def _edge_to_another(self, edges: Any, itself: Any) -> Any:
        """Return the mean edge to other rows of the class that a kept row is of.

        A new row meets as many rows of its class as are kept; one that is kept itself
        meets one less, and this instead.
        """
        xp = array_namespace(edges)
        classes = self.probabilities_.argmax(axis=1)
        members = like(np.eye(self.probabilities_.shape[1])[classes], edges)
        own = members[itself]
        others = own @ xp.sum(members, axis=0) - 1
        return xp.sum((edges @ members) * own, axis=1) / nonzero(others)
