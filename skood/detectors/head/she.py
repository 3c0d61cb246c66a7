"""Likeness to the mean of the rows that are rightly of the predicted class."""

from __future__ import annotations

from typing import Any

from skood.detectors.class_means import correct_sums
from skood.detectors.head.base import HeadDetector
from skood.detectors.training import Training
from skood.numerics.device import array_namespace, like
from skood.numerics.rows import row_dots

__all__ = ["SHE"]


class SHE(HeadDetector):
    r"""Likeness to the mean of the rows that are rightly of the predicted class.

    The score [1]_, a simplified Hopfield energy, is :math:`\langle h, S_c \rangle`
    for the predicted class c, where :math:`S_k` is the mean of the training rows of
    class k that are predicted as k. The labels are needed for that: whole numbers
    below the number of logits, or texts of them, are columns of the logits; others are
    matched with the columns that most of their rows are predicted as. Where no row of
    a class is predicted rightly, the mean of all such rows stands for it, and a warning
    says so.

    The threshold comes from rows held out of other fits.

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
    patterns_ : ndarray of shape (n_classes, n_features)
        :math:`S_k`.
    head_ : LinearHead
        The last linear map.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there is no head or no ``y``, the labels cannot be told from one another in
        the logits, or no row is predicted as it is labelled.

    References
    ----------
    .. [1] Zhang et al., "Out-of-distribution detection based on in-distribution data
       patterns memorization with modern Hopfield energy", ICLR 2023.

    Examples
    --------
    >>> from skood import SHE
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = SHE().fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    _elementwise = True

    def _learn_head(self, training: Training) -> None:
        sums = correct_sums(self, training)
        self.patterns_ = sums.means("row is rightly predicted")

    def _head_scores(self, h: Any, z: Any) -> Any:
        predicted = array_namespace(h).argmax(z, axis=1)
        return row_dots(h, like(self.patterns_, h)[predicted])
