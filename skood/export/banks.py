"""Fitted detectors with fewer of the training rows that they keep."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from skood.calibration.conformal import ConformalDetector
from skood.calibration.threshold import TargetRateThreshold
from skood.detectors.head.bank import BankDetector
from skood.detectors.layers.knn import KNN
from skood.detectors.layers.nap.detector import NAP
from skood.ensemble.base import BaseEnsemble
from skood.hamming import PatternBank

__all__ = ["bounded"]


def bounded(estimator: Any, most: int) -> Any:
    """Return a fitted estimator that keeps no more than so many training rows.

    Rows are drawn at random, with a seed; of NAP's patterns, as many of each class as
    its share. Where neighbours are counted, fewer are asked for, in proportion. The
    threshold stays. What keeps no more is returned as it is.

    Parameters
    ----------
    estimator : detector or Pipeline
        Fitted; it is not changed.
    most : int
        Rows of one bank.
    """
    if isinstance(estimator, Pipeline):
        last = bounded(estimator.steps[-1][1], most)
        if last is estimator.steps[-1][1]:
            return estimator
        return Pipeline([*estimator.steps[:-1], (estimator.steps[-1][0], last)])
    for kind, smaller in _SMALLER.items():
        if isinstance(estimator, kind):
            return smaller(estimator, most)
    return estimator


def _drawn(n_rows: int, most: int) -> Any:
    return np.sort(np.random.default_rng(0).choice(n_rows, most, replace=False))


def _fewer(n_neighbors: int, n_rows: int, most: int) -> int:
    return max(1, round(n_neighbors * most / n_rows))


def _knn(detector: KNN, most: int) -> KNN:
    banks, cells = (vars(detector).get(name, {}) for name in ("banks_", "cells_"))
    n_rows = len(next(iter((banks or cells).values())))
    if n_rows <= most:
        return detector
    rows, other = _drawn(n_rows, most), copy.copy(detector._as_fitted())
    if banks:
        other.banks_ = {name: bank[rows] for name, bank in banks.items()}
    if cells:
        other.cells_ = {name: some.part(rows) for name, some in cells.items()}
    other.n_neighbors_ = _fewer(detector.n_neighbors_, n_rows, most)
    other._prepared = []
    return other


def _bank(detector: BankDetector, most: int) -> BankDetector:
    n_rows = len(detector.bank_)
    if n_rows <= most:
        return detector
    rows, other = _drawn(n_rows, most), copy.copy(detector._as_fitted())
    for name in ("bank_", "bank_rows_", "probabilities_"):
        if hasattr(detector, name):
            setattr(other, name, getattr(detector, name)[rows])
    if hasattr(other, "n_neighbors"):
        other.n_neighbors = _fewer(other.n_neighbors, n_rows, most)
        other._remember_parameters()
    return other


def _nap(detector: NAP, most: int) -> NAP:
    if all(len(layer.bank.patterns) <= most for layer in detector._layers):
        return detector
    other = copy.copy(detector._as_fitted())
    other._layers = []
    for layer in detector._layers:
        smaller = copy.copy(layer)
        object.__setattr__(smaller, "bank", _patterns(layer.bank, most))
        other._layers.append(smaller)
    other.banks_ = {layer.name: layer.bank for layer in other._layers}
    return other


def _patterns(bank: PatternBank, most: int) -> PatternBank:
    n_rows = len(bank.patterns)
    if n_rows <= most:
        return bank
    rng = np.random.default_rng(0)
    sizes = np.diff(bank.starts)
    kept = [min(n, max(1, int(most * n / n_rows))) for n in sizes.tolist()]
    rows = [
        start + np.sort(rng.choice(n, k, replace=False))
        for start, n, k in zip(bank.starts, sizes, kept, strict=False)
    ]
    chosen, smaller = np.concatenate(rows), copy.copy(bank)
    found = {
        "patterns": bank.patterns[chosen],
        "counts": bank.counts[chosen],
        "starts": np.concatenate([[0], np.cumsum(kept)]),
    }
    for name, value in found.items():
        object.__setattr__(smaller, name, value)
    return smaller


def _ensemble(ensemble: BaseEnsemble, most: int) -> BaseEnsemble:
    members = {name: copy.copy(m) for name, m in ensemble.members_.items()}
    for member in members.values():
        smaller = bounded(member.detector, most)
        object.__setattr__(member, "detector", smaller)
    pairs = zip(members.values(), ensemble.members_.values(), strict=True)
    if all(one.detector is other.detector for one, other in pairs):
        return ensemble
    other = copy.copy(ensemble)
    other.members_ = members
    return other


def _around_one(wrapper: TargetRateThreshold, most: int) -> TargetRateThreshold:
    smaller = bounded(wrapper.detector_, most)
    if smaller is wrapper.detector_:
        return wrapper
    other = copy.copy(wrapper)
    other.detector_ = smaller
    return other


def _around_many(wrapper: ConformalDetector, most: int) -> ConformalDetector:
    smaller = [bounded(detector, most) for detector in wrapper.detectors_]
    pairs = zip(smaller, wrapper.detectors_, strict=True)
    if all(one is other for one, other in pairs):
        return wrapper
    other = copy.copy(wrapper)
    other.detectors_ = smaller
    return other


_SMALLER: dict[type, Any] = {
    KNN: _knn,
    BankDetector: _bank,
    NAP: _nap,
    BaseEnsemble: _ensemble,
    TargetRateThreshold: _around_one,
    ConformalDetector: _around_many,
}
