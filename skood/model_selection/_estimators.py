"""What an estimator's scores mean: in our sign, or refused."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

SCORE_METHODS = ("score_samples", "decision_function")


def last_step(estimator: Any) -> Any:
    """Return the estimator whose scores come out, inside pipelines and searches."""
    while True:
        if isinstance(estimator, Pipeline):
            estimator = estimator.steps[-1][1]
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        else:
            return estimator


def is_pyod(estimator: Any) -> bool:
    """Return whether scores are PyOD's, where high means abnormal.

    PyOD is never imported: an object of it can only be here if somebody has.
    """
    pyod = sys.modules.get("pyod.models.base")
    return pyod is not None and isinstance(last_step(estimator), pyod.BaseDetector)


def in_distribution_scores(estimator: Any, X: Any) -> NDArray[np.float64]:
    """Return ``score_samples``, or ``decision_function`` where there is none.

    Raises
    ------
    TypeError
        If the estimator has neither, or is PyOD's, whose sign is the other way round.
    """
    refuse_pyod(estimator)
    for method in SCORE_METHODS:
        if hasattr(estimator, method):
            return np.asarray(getattr(estimator, method)(X), dtype=np.float64)
    raise TypeError(
        f"{type(estimator).__name__} has neither score_samples nor decision_function, "
        "one of which must rise towards in-distribution. (LocalOutlierFactor has them "
        "with novelty=True.)"
    )


def refuse_pyod(estimator: Any) -> None:
    """Raise if scores and flags would be read the wrong way round."""
    if is_pyod(estimator):
        raise TypeError(
            f"{type(last_step(estimator)).__name__} is a PyOD detector, where high "
            "means abnormal and 1 is an outlier; read our way, its scores would come "
            "out inverted. Put skood.PyODDetector(detector) in its place."
        )
