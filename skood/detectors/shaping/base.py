"""The base of detectors that reshape penultimate features before a logit score."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from skood.detectors.head.base import HeadDetector, logits_of
from skood.detectors.logits.base import LearnedLogitDetector
from skood.detectors.logits.energy import Energy
from skood.detectors.training import Training
from skood.features import LayerFeatures, LinearHead
from skood.features.chunks import chunks_of
from skood.features.quantiles import pooled_quantiles
from skood.numerics.device import array_namespace

__all__ = ["ShapingDetector"]


class ShapingDetector(HeadDetector):
    """Base class of detectors that change h to h', and score the logits W h' + b.

    A subclass implements ``_shaped(h)``, in float64; one that changes the weights or
    the logits instead overrides ``_shaped_logits(h)``, in which h is float32 or
    float64. What it learns, it learns in ``_learn_shape``.

    Parameters
    ----------
    score : LogitDetector or LearnedLogitDetector, optional
        The score of the new logits, with its own parameters; None is ``Energy()``. One
        that learns, learns from the new logits.
    head : LinearHead, optional
        The network's last linear map; None takes the one of the features, or finds it.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    score_ : LogitDetector or LearnedLogitDetector
        The score of the new logits.
    """

    score: LearnedLogitDetector | None = None

    _elementwise = True

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "score": [LearnedLogitDetector, None]
    }

    def _shaped(self, h: Any) -> Any:
        """Return h', of the shape of h; not asked for where the logits are given."""
        raise NotImplementedError(
            f"{type(self).__name__} says neither how features change (_shaped) nor "
            "what their logits are then (_shaped_logits)."
        )

    def _shaped_logits(self, h: Any) -> Any:
        """Return the logits of the new features."""
        xp = array_namespace(h)
        shaped = self._shaped(xp.astype(h, xp.float64))
        return logits_of(xp.astype(shaped, h.dtype), self._linear)

    def _learn_shape(self, training: Training) -> None:
        """Learn from the in-distribution rows; ``head_`` is set."""

    def _learn_head(self, training: Training) -> None:
        self._learn_shape(training)
        self.score_ = Energy() if self.score is None else clone(self.score)
        self.score_._all_labels = (
            self._all_labels
        )  # rows held out may be all of a class
        self.score_._fit_logits(training, self._logits)

    def _score(self, chunk: LayerFeatures) -> Any:
        parts = (self._logits(block) for _, block in self._blocks(chunk))
        scores = [self.score_._scores_of_logits(z) for z in parts]
        return array_namespace(scores[0]).concat(scores)

    def _head_scores(self, h: Any, z: Any) -> Any:
        return self.score_._scores_of_logits(self._shaped_logits(h))

    def _unseen_scores(
        self, training: Training, rows: NDArray[np.intp]
    ) -> NDArray[np.float64] | None:
        """Return the scores themselves where neither shape nor score has learned."""
        if self.score_._unbiased is None:
            return None
        return super()._unseen_scores(training, rows)

    def _hangs_on_few(self, training: Training) -> bool:
        return self.score_._hangs_on_few(training)

    # For the subclasses ------------------------------------------------------------

    @property
    def _linear(self) -> LinearHead:
        """The head, which these detectors always have."""
        assert self.head_ is not None
        return self.head_

    def _logits(self, chunk: LayerFeatures) -> Any:
        """Return the new logits of a chunk."""
        return self._shaped_logits(self._array(chunk, *chunk.block_names[0]))

    def _cut(self, training: Training) -> float:
        """Return ``self.percentile`` of all activations, which is above the least."""
        (limit,) = self._percentiles(training, self.percentile)
        name = training.features.block_names[0]
        chunks = (chunk for _, chunk in chunks_of(training.features))
        lowest = min(float(chunk.block(*name).min()) for chunk in chunks)
        if lowest == limit:
            raise ValueError(
                f"percentile={self.percentile} of the activations is {lowest:g}, the "
                "least of all, at which every unit would be cut off: raise percentile."
            )
        return limit

    def _percentiles(self, training: Training, *percentiles: float) -> list[float]:
        """Return percentiles of all activations of all rows together, exactly."""
        features = training.features
        shares = [percentile / 100 for percentile in percentiles]
        return pooled_quantiles(features, features.block_names[0], shares).tolist()
