"""Objects that the tests of ``save`` and ``load`` put into estimators."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.base import BaseEstimator

import skood

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(80, 6))
LABELS = RNG.integers(0, 3, 80)
IMAGES = torch.from_numpy(RNG.normal(size=(24, 3, 8, 8)).astype("float32"))


class Holder(BaseEstimator):
    """An estimator of somebody else's, which holds anything."""

    def __init__(self, value=None):
        self.value = value


class Attributed:
    """Keeps two things in attributes."""

    def __init__(self):
        self.first, self.second = 1, 2

    def call(self, x):
        return x


class Slotted:
    """Keeps one thing in a slot and one in an attribute."""

    __slots__ = ("__dict__", "first")

    def __init__(self):
        self.first, self.second = 1, 2


class Callable:
    """An object that is called, as a tokenizer is."""

    def __call__(self, x):
        return x


def doubled(x):
    """Return twice the input, as a step of a pipeline."""
    return 2 * x


def saved_and_loaded(estimator, folder, /, **how):
    skood.save(estimator, folder)
    return skood.load(folder, **how)


def value_back(value, folder, trusted=()):
    path = folder / "holder"
    skood.save(Holder(value), path, overwrite=True)
    return skood.load(path, trusted=[Holder, *trusted]).value
