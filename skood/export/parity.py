"""How alike what a pipeline says of some rows is to what its export says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skood.detectors.thresholded import score_and_predict
from skood.export.inputs import Called, calls
from skood.export.steps import Steps

__all__ = ["BAND", "RTOL", "Judgement", "Parity", "check_parity", "run_module"]

Floats = NDArray[np.float64]
Run = Callable[[tuple[Any, ...], dict[str, Any]], Any]
"""From positional and named tensors to output, score, p_value and is_inlier."""

RTOL = 1e-4
"""The relative difference of scores that is let pass."""

BAND = 1e-4
"""Decisions may differ where a score is nearer to the threshold, relative to it."""


P_ATOL = 1e-9
"""Of p-values: what float64 rounds off."""


@dataclass(frozen=True)
class Judgement:
    """What is said of some rows.

    Parameters
    ----------
    scores, p_values : ndarray of float64, shape (n,)
        P-values are NaN where there are none.
    inliers : ndarray of bool, shape (n,)
        The decisions.
    """

    scores: Floats
    p_values: Floats
    inliers: NDArray[np.bool_]

    @classmethod
    def by_pipeline(cls, pipeline: Any, X: Any) -> Judgement:
        """Return what a fitted pipeline says."""
        said = score_and_predict(pipeline, X)
        detector = Steps.of(pipeline).detector
        p_values = np.full(len(said.scores), np.nan)
        if hasattr(detector, "p_values"):
            p_values = np.asarray(p_values_of(pipeline, X))
        return cls(said.scores, p_values, said.flags > 0)

    @classmethod
    def by_graph(cls, run: Run, called: Iterable[Called]) -> Judgement:
        """Return what a module or a session says, batch by batch."""
        parts = [run(*batch)[1:] for batch in called]
        scores, p_values, inliers = (
            np.concatenate([np.asarray(x) for x in column])
            for column in zip(*parts, strict=True)
        )
        return cls(scores, p_values, inliers)


@dataclass(frozen=True)
class Parity:
    """How far an export is from the pipeline, on some rows.

    Parameters
    ----------
    rows : int
        How many were compared.
    score_difference : float
        The largest difference of scores, relative to the score or, where that is
        larger, to the scores' standard deviation.
    p_value_difference : float
        The largest difference of p-values; None without any.
    p_values_off : int
        P-values that are not between those of the rows with the next lower and the next
        higher score, as those of any score so near would be.
    rows_in_band : int
        Rows whose score is so near to the threshold that their decision may differ.
    flips_in_band, flips : int
        Decisions that differ there, and elsewhere.
    """

    rows: int
    score_difference: float
    p_value_difference: float | None
    p_values_off: int
    rows_in_band: int
    flips_in_band: int
    flips: int

    @classmethod
    def of(
        cls, wanted: Judgement, found: Judgement, threshold: float, band: float = BAND
    ) -> Parity:
        """Compare what is found with what is wanted."""
        spread = _spread(wanted.scores)
        differences = _differences(wanted.scores, found.scores)
        sizes = np.maximum(np.abs(wanted.scores), spread)
        finite = np.isfinite(differences) & (differences > 0)
        relative = np.divide(differences, sizes, out=differences.copy(), where=finite)
        away = _differences(wanted.scores, np.full(len(sizes), threshold))
        near = away <= band * max(abs(threshold), spread)
        flipped = wanted.inliers != found.inliers
        p_values = _differences(wanted.p_values, found.p_values)
        has_p_values = bool(np.isfinite(wanted.p_values).any())
        return cls(
            len(sizes),
            float(relative.max(initial=0)),
            float(p_values.max(initial=0)) if has_p_values else None,
            int(_off(wanted, found.p_values, band * sizes).sum()),
            int(near.sum()),
            int((flipped & near).sum()),
            int((flipped & ~near).sum()),
        )

    def faults(self, rtol: float = RTOL) -> str:
        """Return what is wrong, ``""`` where nothing is."""
        found = []
        if not self.score_difference <= rtol:
            found.append(
                f"scores differ by up to {self.score_difference:.3g} in relative terms "
                f"(rtol={rtol:g})"
            )
        if self.p_values_off:
            found.append(
                f"{self.p_values_off} of {self.rows} p-values are those of other scores"
            )
        if self.flips:
            found.append(
                f"{self.flips} of {self.rows} decisions differ outside of the band "
                "around the threshold"
            )
        return " and ".join(found)


def check_parity(module: Any, pipeline: Any, X: Any) -> None:
    """Raise ValueError if a module does not say what the pipeline says."""
    steps = Steps.of(pipeline)
    wanted = Judgement.by_pipeline(pipeline, X)
    called = calls(X, module.blocks, steps.features)
    found = Judgement.by_graph(run_module(module), called)
    threshold = float(steps.detector.offset_)
    faults = Parity.of(wanted, found, threshold).faults()
    if faults:
        raise ValueError(
            f"the module is not what the pipeline is: of the {len(wanted.scores)} rows "
            f"of example, {faults}."
        )


def run_module(module: torch.nn.Module) -> Run:
    """Return a function that runs a module without gradients."""

    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with torch.no_grad():
            return module(*args, **kwargs)

    return run


def p_values_of(pipeline: Any, X: Any) -> Any:
    """Return the p-values of rows that go through the steps of a pipeline."""
    while not hasattr(pipeline, "p_values"):
        if hasattr(pipeline, "best_estimator_"):
            pipeline = pipeline.best_estimator_
        else:
            X, pipeline = pipeline[:-1].transform(X), pipeline[-1]
    return pipeline.p_values(X)


def _off(wanted: Judgement, found: Floats, near: Floats) -> NDArray[np.bool_]:
    """Return which p-values no score explains that is as near as that.

    They rise with the score, in steps: a score that has moved by next to nothing may
    have another p-value, but none beyond those of clearly lower or higher scores.
    """
    scores, p_values = wanted.scores, wanted.p_values
    if not np.isfinite(p_values).any():
        return np.isfinite(found)
    near = np.where(np.isfinite(scores), near, 0.0)
    order = np.argsort(scores)
    ranked = p_values[order]
    up_to = np.concatenate([[0.0], np.maximum.accumulate(ranked)])
    from_there = np.concatenate([np.minimum.accumulate(ranked[::-1])[::-1], [1.0]])
    lower = up_to[np.searchsorted(scores[order], scores - near, "left")]
    upper = from_there[np.searchsorted(scores[order], scores + near, "right")]
    at_least, at_most = np.minimum(lower, p_values), np.maximum(upper, p_values)
    return ~((found >= at_least - P_ATOL) & (found <= at_most + P_ATOL))


def _spread(scores: Floats) -> float:
    finite = scores[np.isfinite(scores)]
    return float(finite.std()) if len(finite) else 0.0


def _differences(one: Floats, other: Floats) -> Floats:
    """Return absolute differences; infinite where one is NaN or another infinity."""
    with np.errstate(invalid="ignore"):
        found = np.abs(one - other)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    return np.where(same, 0.0, np.where(np.isnan(found), np.inf, found))
