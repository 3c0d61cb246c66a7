"""The inliers in the shape that makers of pseudo outliers work in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.numerics.labels import inlier_mask

Rows = NDArray[np.intp]
Values = NDArray[Any]

_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Inliers:
    """The data that outliers are made from."""

    values: Values  # (n, channels, height, width), (n, d) or (n,)
    classes: Rows  # (n,), codes from 0
    low: float
    high: float  # range that outliers keep to
    seed: int

    @property
    def span(self) -> float:
        """Width of the range of values."""
        return self.high - self.low

    @cached_property
    def class_means(self) -> NDArray[np.float64]:
        """Mean row of each class, (n_classes, d)."""
        values = self.values.astype(np.float64)
        codes = range(int(self.classes.max()) + 1)
        return np.stack([values[self.classes == c].mean(axis=0) for c in codes])

    def like(self, values: Values) -> Values:
        """Return the values in the dtype and range of the data."""
        dtype = self.values.dtype
        clipped = np.clip(values, self.low, self.high)
        return (np.rint(clipped) if dtype.kind in "biu" else clipped).astype(dtype)

    def partners(self, rows: Rows, rng: np.random.Generator) -> Rows:
        """Return for each row a random one of another class (of any, if there is one).

        In the order sorted by class the rows of another class are all those before or
        after a block, so one integer below n - block is enough.
        """
        n = len(self.classes)
        one_class = self.classes.max() == 0
        classes = np.arange(n) if one_class else self.classes
        order = np.argsort(classes, kind="stable")
        sizes = np.bincount(classes)
        starts = np.cumsum(sizes) - sizes
        own, start = sizes[classes[rows]], starts[classes[rows]]
        place = rng.integers(n - own)
        return order[np.where(place < start, place, place + own)]


def inliers_of(
    values: Values, labels: NDArray[Any], channel_axis: int | None, seed: int
) -> tuple[Inliers, int | None]:
    """Return the inliers, images as (n, c, h, w), and where their channels were."""
    mask = inlier_mask(labels)
    _, classes = np.unique(labels[mask], return_inverse=True)
    if values.ndim != 4 and channel_axis is not None:
        raise ValueError(
            f"channel_axis={channel_axis} is for X of 4 axes; got shape {values.shape}."
        )
    if values.ndim <= 2:
        return Inliers(values[mask], classes, *_dtype_range(values.dtype), seed), None
    axis = 1
    images = values[mask][:, None] if values.ndim == 3 else values[mask]
    if values.ndim == 4:
        axis = _channel_axis(values.shape, channel_axis)
        images = np.moveaxis(images, axis, 1)
    low, high = _value_range(images)
    return Inliers(images, classes, low, high, seed), axis


def _channel_axis(shape: tuple[int, ...], channel_axis: int | None) -> int:
    if channel_axis is not None:
        if channel_axis not in (1, 3, -1):
            raise ValueError(f"channel_axis must be 1, 3 or -1; got {channel_axis!r}.")
        return channel_axis % 4
    found = [axis for axis in (1, 3) if shape[axis] in _CHANNELS]
    if len(found) != 1:
        raise ValueError(
            f"cannot tell the channels of X of shape {shape}: of axes 1 and 3, "
            f"{'both have' if found else 'none has'} a length of 1, 3 or 4. Pass "
            "channel_axis=1 or channel_axis=-1."
        )
    return found[0]


def _dtype_range(dtype: np.dtype[Any]) -> tuple[float, float]:
    if dtype.kind in "iu":
        return np.iinfo(dtype).min, np.iinfo(dtype).max
    return -np.inf, np.inf


def _value_range(images: Values) -> tuple[float, float]:
    if images.dtype.kind not in "biuf" or min(images.shape[2:]) < 2:
        raise ValueError(
            "X must be images: numbers, at least 2 pixels a side; got dtype "
            f"{images.dtype}, height and width {images.shape[2:]}."
        )
    low, high = float(images.min()), float(images.max())
    if not np.isfinite([low, high]).all() or low == high:
        raise ValueError(
            f"the inliers of X must be finite and not constant; their values run from "
            f"{low} to {high}."
        )
    return low, high
