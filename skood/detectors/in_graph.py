"""What a detector, and what stands around it, says of tensors: a graph of its score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skood.detectors.registry import REGISTRY
from skood.numerics.device import like

__all__ = ["check_has_graph", "graph_scored", "graph_transformed"]


def graph_scored(detector: Any, X: Any) -> tuple[Any, Any | None]:
    """Return scores and p-values of tensors, by operations that can become a graph.

    Parameters
    ----------
    detector : detector or Pipeline
        Fitted.
    X : tensor or TensorFeatures
        Of unknown rows.

    Returns
    -------
    scores, p_values : tensor of float64, shape (n,)
        No p-values (None) where the detector has none.

    Raises
    ------
    TypeError
        If the detector has no graph; the message says why.
    """
    if isinstance(detector, Pipeline):
        *steps, detector = [step for _, step in detector.steps]
        for step in steps:
            X = graph_transformed(step, X)
    check_has_graph(detector)
    scores, p_values = detector._graph_scored(X)
    return scores, p_values


def check_has_graph(detector: Any) -> None:
    """Raise TypeError if a detector has no graph."""
    name = type(detector).__name__
    entry = REGISTRY.get(name)
    if entry is not None and entry.no_graph and type(detector) is entry.detector:
        raise TypeError(f"{name} has no graph to export: {entry.no_graph}.")
    if not hasattr(detector, "_graph_scored"):
        raise TypeError(
            f"{name} has no graph to export: it is no detector of skood, whose scores "
            "are made of operations that a graph has. skood.all_detectors() says which "
            "are ('exports')."
        )


def graph_transformed(step: Any, X: Any) -> Any:
    """Return what a fitted transformer makes of tensors, for a graph.

    Raises
    ------
    TypeError
        If the step has no graph.
    """
    if step is None or isinstance(step, str):  # "passthrough"
        return X
    own = getattr(step, "_graph_transformed", None)
    if own is not None:
        return own(X)
    for kind, transformed in _KNOWN.items():
        if type(step) is kind:
            return transformed(step, X if not hasattr(X, "block") else _matrix(X))
    raise TypeError(
        f"the step {type(step).__name__} has no graph to export: between the network "
        "and the detector there may be LayerSelector, NormRescaledHead, "
        f"{' and '.join(kind.__name__ for kind in _KNOWN)}."
    )


def _matrix(X: Any) -> Any:
    (name,) = X.block_names
    return X.block(*name)


def _scaled(step: StandardScaler, x: Any) -> Any:
    if step.mean_ is not None and step.with_mean:
        x = x - like(step.mean_, x)
    return x if step.scale_ is None else x / like(step.scale_, x)


def _components(step: PCA, x: Any) -> Any:
    x = (x - like(step.mean_, x)) @ like(step.components_, x).T
    return x / like(step.explained_variance_**0.5, x) if step.whiten else x


_KNOWN: dict[type, Callable[[Any, Any], Any]] = {
    StandardScaler: _scaled,
    PCA: _components,
}
