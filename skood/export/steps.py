"""The steps of a fitted pipeline, as far as they become a graph."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skood.detectors.base import ARRAY
from skood.detectors.head.norm_rescaled import NormRescaledHead
from skood.detectors.in_graph import graph_scored, graph_transformed
from skood.features import Key

if TYPE_CHECKING:
    from skood.extraction.transformer import LayerFeatureTransformer

__all__ = ["Steps"]

_ARRAY = (ARRAY, "avg")


@dataclass(frozen=True)
class Steps:
    """A fitted pipeline in its parts.

    Parameters
    ----------
    features : LayerFeatureTransformer or None
        The network; None for a detector of arrays.
    between : list of transformer
        What happens to features before they are scored.
    detector : detector
        The last step.
    """

    features: LayerFeatureTransformer | None
    between: list[Any]
    detector: Any

    @classmethod
    def of(cls, pipeline: Any) -> Steps:
        """Return the parts of a pipeline, of a detector, or of a search's best.

        Raises
        ------
        NotFittedError
            If it is not fitted.
        TypeError
            If it ends in no detector.
        """
        steps = _flat(pipeline)
        for step in steps:
            check_is_fitted(step)
        features = None
        if len(steps) == 1:
            steps = _network_outside(steps[0])
        if steps and _is_network(steps[0]):
            features, *steps = steps
        if not steps:
            raise TypeError(
                "pipeline ends in a LayerFeatureTransformer, and the last step has to "
                "be a fitted detector: give Pipeline([('features', transformer), "
                "('detector', detector)])."
            )
        return cls(features, steps[:-1], steps[-1])

    def scored(self, X: Any) -> tuple[Any, Any | None]:
        """Return scores and p-values of tensors, for a graph."""
        for step in self.between:
            X = graph_transformed(step, X)
        return graph_scored(self.detector, X)

    @property
    def widths(self) -> dict[Key, int]:
        """The blocks that are read, and their numbers of columns."""
        first = [*self.between, self.detector][0]
        while hasattr(first, "_any_fitted") or isinstance(first, Pipeline):
            is_pipeline = isinstance(first, Pipeline)
            first = first.steps[0][1] if is_pipeline else first._any_fitted()
        if isinstance(first, NormRescaledHead) and self.features is not None:
            return first._read_widths(self.features.blocks_)
        widths: dict[Key, int] | None = getattr(first, "_widths", None)
        return {_ARRAY: first.n_features_in_} if widths is None else widths


def _network_outside(detector: Any) -> list[Any]:
    """Return what stands around a pipeline with a network as steps: network first."""
    inner = detector._any_fitted() if hasattr(detector, "_any_fitted") else None
    if not (isinstance(inner, Pipeline) and _is_network(inner.steps[0][1])):
        return [detector]
    outer = copy.copy(detector)
    if hasattr(outer, "detectors_"):
        outer.detectors_ = [_without_network(one) for one in outer.detectors_]
    else:
        outer.detector_ = _without_network(outer.detector_)
    return [inner.steps[0][1], outer]


def _without_network(pipeline: Pipeline) -> Any:
    rest = pipeline.steps[1:]
    return rest[0][1] if len(rest) == 1 else Pipeline(rest)


def _is_network(step: Any) -> bool:
    return type(step).__name__ == "LayerFeatureTransformer"


def _flat(estimator: Any) -> list[Any]:
    if isinstance(estimator, Pipeline):
        return [part for _, step in estimator.steps for part in _flat(step)]
    if hasattr(estimator, "best_estimator_"):
        return _flat(estimator.best_estimator_)
    return [] if estimator is None or isinstance(estimator, str) else [estimator]
