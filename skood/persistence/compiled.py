"""What scikit-learn has compiled code for: trees as their tables of numbers, losses.

That code follows the numbers where they lead, so they are looked at first.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["compiled_kind", "compiled_of", "compiled_state"]

LEAF = -1

LOSSES = {
    "CyHalfBinomialLoss": "sklearn._loss._loss",
    "CyHalfSquaredError": "sklearn._loss._loss",
    "CyHuberLoss": "sklearn._loss._loss",
    "EpsilonInsensitive": "sklearn.linear_model._sgd_fast",
    "Hinge": "sklearn.linear_model._sgd_fast",
    "ModifiedHuber": "sklearn.linear_model._sgd_fast",
    "SquaredEpsilonInsensitive": "sklearn.linear_model._sgd_fast",
    "SquaredHinge": "sklearn.linear_model._sgd_fast",
}
"""Modules of the losses of scikit-learn's stochastic gradient descent."""

METRICS = {
    "EuclideanDistance": "euclidean",
    "ManhattanDistance": "manhattan",
    "ChebyshevDistance": "chebyshev",
}


def compiled_kind(value: Any) -> str | None:
    """Return the name of a compiled class, None for anything else."""
    kind = (type(value).__module__, type(value).__name__)
    return _KINDS.get(kind)


def compiled_state(value: Any) -> dict[str, Any] | None:
    """Return what a compiled object is made of; None where that is not known."""
    kind = compiled_kind(value)
    if kind == "Tree":
        return _tree_state(value)
    if kind in LOSSES:
        return {"numbers": list(value.__reduce__()[1])}
    return _neighbor_tree_state(value)


def compiled_of(kind: str, state: Mapping[str, Any]) -> Any:
    """Return the compiled object of a state.

    Raises
    ------
    ValueError
        If its numbers lead anywhere but through the tree.
    """
    if kind == "Tree":
        return _tree_of(state)
    if kind in LOSSES:
        return _loss_of(kind, state["numbers"])
    return _neighbor_tree_of(kind, state)


# Decision trees: forests, isolation forests ----------------------------------------


def _tree_state(tree: Any) -> dict[str, Any]:
    (n_features, n_classes, n_outputs), state = tree.__reduce__()[1:]
    nodes = state["nodes"]
    return {
        "n_features": n_features,
        "n_classes": n_classes,
        "n_outputs": n_outputs,
        "max_depth": state["max_depth"],
        "nodes": {name: np.array(nodes[name]) for name in nodes.dtype.names},
        "values": state["values"],
    }


def _tree_of(state: Mapping[str, Any]) -> Any:
    from sklearn.tree._tree import NODE_DTYPE, Tree

    dtype = np.dtype(NODE_DTYPE)
    columns = state["nodes"]
    if set(columns) != set(dtype.names or ()):
        raise ValueError("a tree has other columns than in this scikit-learn")
    nodes = np.zeros(len(columns["left_child"]), dtype)
    for name, column in columns.items():
        nodes[name] = column
    n_features, n_outputs = state["n_features"], state["n_outputs"]
    n_classes = np.asarray(state["n_classes"], dtype=np.intp)
    if len(n_classes) != n_outputs or n_outputs < 1 or n_classes.min() < 1:
        raise ValueError("a tree has other outputs than it says")
    shape = (len(nodes), n_outputs, n_classes.max())
    if state["values"].shape != shape:
        raise ValueError("a tree has other values than nodes")
    _check_paths(nodes, n_features, state["max_depth"])
    tree = Tree(n_features, n_classes, n_outputs)
    tree.__setstate__(
        {
            "max_depth": state["max_depth"],
            "node_count": len(nodes),
            "nodes": nodes,
            "values": np.ascontiguousarray(state["values"], dtype=np.float64),
        }
    )
    return tree


def _check_paths(nodes: NDArray[Any], n_features: int, max_depth: int) -> None:
    """Raise ValueError unless every path goes down, to a leaf, in ``max_depth``."""
    left, right = nodes["left_child"], nodes["right_child"]
    inner = np.flatnonzero(left != LEAF)
    count = len(nodes)
    for child in (left[inner], right[inner]):
        if not ((child > inner) & (child < count)).all():
            raise ValueError("a tree's nodes do not lead to its leaves")
    feature = nodes["feature"][inner]
    if not count or not ((feature >= 0) & (feature < n_features)).all():
        raise ValueError("a tree reads features that it has not")
    depth = [0] * count
    for node, one, other in zip(
        inner.tolist(), left[inner].tolist(), right[inner].tolist(), strict=True
    ):
        depth[one] = max(depth[one], depth[node] + 1)
        depth[other] = max(depth[other], depth[node] + 1)
    if max(depth) > max_depth:
        raise ValueError("a tree is deeper than it says")


# Trees of neighbours, which are made anew ------------------------------------------


def _neighbor_tree_state(tree: Any) -> dict[str, Any] | None:
    state = tree.__getstate__()
    metric = METRICS.get(type(state[11]).__name__.rstrip("0123456789"))
    weights = tree.get_arrays()[0] is None or state[12] is not None
    if metric is None or weights:
        return None
    return {"data": np.asarray(state[0]), "leaf_size": state[4], "metric": metric}


def _neighbor_tree_of(kind: str, state: Mapping[str, Any]) -> Any:
    from sklearn import neighbors

    if state["metric"] not in METRICS.values():
        raise ValueError(f"{state['metric']!r} is no metric of such trees")
    make = {"KDTree": neighbors.KDTree, "BallTree": neighbors.BallTree}[kind]
    return make(
        np.asarray(state["data"], dtype=np.float64),
        leaf_size=state["leaf_size"],
        metric=state["metric"],
    )


# Losses, of none or one number ------------------------------------------------------


def _loss_of(kind: str, numbers: list[Any]) -> Any:
    if len(numbers) > 1 or any(type(number) is not float for number in numbers):
        raise ValueError(f"{kind} has other numbers than a loss")
    import_module("sklearn.linear_model")
    return vars(sys.modules[LOSSES[kind]])[kind](*numbers)


_KINDS = {
    ("sklearn.tree._tree", "Tree"): "Tree",
    ("sklearn.neighbors._kd_tree", "KDTree"): "KDTree",
    ("sklearn.neighbors._ball_tree", "BallTree"): "BallTree",
    **{(module, name): name for name, module in LOSSES.items()},
}
