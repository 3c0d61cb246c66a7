"""The base of detectors that reshape penultimate features before a logit score."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from sklearn.base import clone

from skood._device import like
from skood._sklearn_compat import HasMethods
from skood.detectors.head.base import HeadDetector
from skood.detectors.logits.base import LogitDetector
from skood.detectors.logits.energy import Energy
from skood.detectors.training import Training

__all__ = ["ShapingDetector"]


class ShapingDetector(HeadDetector):
    """Base class of detectors that change h to h', and score the logits W h' + b.

    A subclass implements ``_shaped(h)``; one that changes the weights instead
    overrides ``_shaped_logits(h, z)``. What it learns, it learns in ``_learn_head``.

    Parameters
    ----------
    score : LogitDetector, optional
        The score of the new logits, with its own parameters; None is ``Energy()``. It
        needs no fit.
    head : LinearHead, optional
        The network's last linear map; None takes the one of the features, or finds it.
    contamination : float, default=0.05
        Share of new in-distribution data that may be rejected, in (0, 0.5].
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    score_ : LogitDetector
        The score of the new logits.
    """

    score: LogitDetector | None = None

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "score": [HasMethods("_logit_scores"), None]
    }

    @abstractmethod
    def _shaped(self, h: Any) -> Any:
        """Return h', of the shape of h."""

    def _shaped_logits(self, h: Any, z: Any) -> Any:
        """Return the logits of the new features."""
        assert self.head_ is not None
        shaped = self._shaped(h)
        return shaped @ like(self.head_.weight, h).T + like(self.head_.bias, h)

    def _fit(self, training: Training) -> None:
        self.score_ = Energy() if self.score is None else clone(self.score)
        super()._fit(training)

    def _head_scores(self, h: Any, z: Any) -> Any:
        return self.score_._logit_scores(self._shaped_logits(h, z))
