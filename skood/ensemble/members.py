"""The members of an ensemble: what each reads, how it is fitted, what it says."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from skood.detectors.base import BaseDetector
from skood.detectors.in_graph import graph_scored
from skood.detectors.registry import REGISTRY
from skood.features import LayerFeatures
from skood.features.names import Key
from skood.model_selection._estimators import in_distribution_scores, last_step
from skood.numerics.graph import in_graph

__all__ = ["FittedMember", "Member", "named", "naming", "view_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Member:
    """A detector that is to be fitted.

    Parameters
    ----------
    name : str
        Unique in the ensemble.
    detector : estimator
        Of this package, or any with scores that rise towards in-distribution.
    view : str
        What it looks at; members of one view share a vote in the mean.
    blocks : sequence of (str, str), optional
        The blocks that it is given; None leaves the choice to it.
    """

    name: str
    detector: Any
    view: str
    blocks: Sequence[Key] | None = None

    def needed(self, features: LayerFeatures, array: Key) -> Sequence[Key]:
        """Return the names of the blocks that it reads."""
        if self.blocks is not None:
            return self.blocks
        if isinstance(self.detector, BaseDetector) and not is_array(features, array):
            return self.detector._needed(features).block_names
        return features.block_names

    def fitted(
        self, features: LayerFeatures, y: ArrayLike | None, held_out: Any, array: Key
    ) -> FittedMember:
        """Return a clone fitted on some rows, its own threshold set by others."""
        blocks = None if is_array(features, array) else self.needed(features, array)
        start = time.perf_counter()
        detector = clone(self.detector)
        given = _given(features, blocks, array)
        with warnings.catch_warnings():
            # The ensemble's own threshold is the one that counts.
            warnings.filterwarnings("ignore", "contamination=", UserWarning)
            if isinstance(detector, BaseDetector):
                detector.fit(given, y, threshold_data=_given(held_out, blocks, array))
            else:
                detector.fit(given, y)
        return FittedMember(detector, blocks, time.perf_counter() - start)


@dataclass(frozen=True)
class FittedMember:
    """A fitted detector, the blocks that it is given, and how long its fit took."""

    detector: Any
    blocks: Sequence[Key] | None
    seconds: float

    def scores(self, features: LayerFeatures, array: Key) -> Any:
        """Return its scores of some rows, higher for more in-distribution."""
        if in_graph():
            scored = graph_scored(self.detector, _given(features, self.blocks, array))
            return scored[0]
        if len(features) == 0:
            return np.zeros(0)
        given = _given(features, self.blocks, array)
        found = in_distribution_scores(self.detector, given)
        if found.shape != (len(features),):
            raise ValueError(
                f"{type(last_step(self.detector)).__name__} gave scores of shape "
                f"{found.shape} for {len(features)} rows: a detector gives one number "
                "a row. (A classifier of several classes is none.)"
            )
        return found


def is_array(features: LayerFeatures, array: Key) -> bool:
    """Return whether the features are a plain array."""
    return features.block_names == [array]


def view_of(detector: Any) -> str:
    """Return what a detector looks at, by its entry in the registry and its layers."""
    entry = REGISTRY.get(type(detector).__name__)
    if entry is None or entry.family != "layers":
        return type(detector).__name__ if entry is None else entry.family
    layers = getattr(detector, "layers", None)
    if layers is None or isinstance(layers, str):
        return "all layers" if layers is None else layers
    return ", ".join(map(str, layers))


def named(detectors: Any, what: str = "detectors") -> Mapping[str, Any]:
    """Return the (name, detector) pairs of a user by name, those not dropped.

    Parameters
    ----------
    detectors : list of (str, estimator)
        What the user gave.
    what : str, default="detectors"
        The parameter's name, for the errors.

    Raises
    ------
    ValueError
        If they are no such pairs, or a name is there twice or has two underscores.
    TypeError
        If one is no detector.
    """
    try:
        if not isinstance(detectors, (list, tuple)):
            raise TypeError  # a generator is empty when it is looked at again
        pairs = [(name, detector) for name, detector in detectors]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{what}={detectors!r:.200}: give a list of (name, detector) pairs, "
            "[('knn', KNN()), ...]."
        ) from error
    names = [name for name, _ in pairs]
    for name, detector in pairs:
        _check_pair(name, detector, what)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{what} has the names {names}: give at least one, each once.")
    kept = {name: found for name, found in pairs if not _is_dropped(found)}
    if not kept:
        raise ValueError(f"every one of {what} is 'drop': leave one of them in.")
    return kept


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Say in an error what raised it."""
    try:
        yield
    except TypeError as error:
        raise TypeError(f"{what}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
    except (MemoryError, OSError):  # not its own fault
        raise
    except Exception as error:
        kind = "" if type(error) is RuntimeError else f"{type(error).__name__}: "
        raise RuntimeError(f"{what}: {kind}{error}") from error


def _check_pair(name: Any, detector: Any, what: str) -> None:
    if not isinstance(name, str) or "__" in name or not name:
        raise ValueError(
            f"{what} has the name {name!r}: give text without two underscores, "
            f"since {what}__name__parameter is how a parameter is set."
        )
    is_class = isinstance(detector, type)
    if not _is_dropped(detector) and (is_class or not hasattr(detector, "fit")):
        raise TypeError(
            f"{what} has {detector!r:.200} as {name!r}: give an instance of a "
            "detector, or 'drop' to leave it out."
        )


def _is_dropped(detector: Any) -> bool:
    return isinstance(detector, str) and detector == "drop"


def _given(features: LayerFeatures, blocks: Sequence[Key] | None, array: Key) -> Any:
    """Return what a member is given of some rows."""
    if blocks is None and is_array(features, array):
        return features.block(*array)
    return features if blocks is None else features.select_blocks(list(blocks))
