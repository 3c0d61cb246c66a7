"""One small function per kind of pseudo outlier.

Each takes the inliers, the batch of outliers wanted and a random stream, and returns
the batch's values in the dtype of the data: (b, channels, height, width) for images,
(b, d) for features. Keyword-only arguments are the options of
:func:`skood.model_selection.make_pseudo_outliers`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from skood.model_selection._inliers import Inliers, Rows, Values
from skood.model_selection.jigsaw import Jigsaw

Rng = np.random.Generator


class Batch(NamedTuple):
    """The outliers to make: their numbers, and the inlier that each starts from."""

    numbers: Rows
    rows: Rows


def jigsaw(data: Inliers, batch: Batch, rng: Rng, *, grid: int = 3) -> Values:
    """Return images with their tiles shuffled."""
    return Jigsaw(grid, data.seed)(data.values[batch.rows], batch.numbers)


def gaussian(data: Inliers, batch: Batch, rng: Rng, *, scale: float = 0.25) -> Values:
    """Return normal noise about mid-range, of deviation ``scale`` times the range."""
    _check("scale", scale, scale > 0, "positive")
    noise = rng.standard_normal(_shape(data, batch))
    return data.like(data.low + data.span * (0.5 + scale * noise))


def uniform(data: Inliers, batch: Batch, rng: Rng) -> Values:
    """Return noise that is uniform over the range."""
    return data.like(rng.uniform(data.low, data.high, _shape(data, batch)))


def rademacher(data: Inliers, batch: Batch, rng: Rng) -> Values:
    """Return noise of the two ends of the range."""
    heads = rng.random(_shape(data, batch)) < 0.5
    return data.like(np.where(heads, data.low, data.high))


def blob(data: Inliers, batch: Batch, rng: Rng, *, sigma: float = 1.5) -> Values:
    """Return smooth shapes with sharp edges: blurred noise, its lower 70 % blanked."""
    _check("sigma", sigma, sigma > 0, "positive")
    blurred = gaussian_filter(
        rng.random(_shape(data, batch)), sigma=(0, 0, sigma, sigma)
    )
    axes = (1, 2, 3)
    floor = blurred.min(axis=axes, keepdims=True)
    height = (blurred - floor) / (blurred.max(axis=axes, keepdims=True) - floor)
    edge = np.quantile(height, 0.7, axis=axes, keepdims=True)
    return data.like(data.low + data.span * np.where(height >= edge, height, 0.0))


def mixup(data: Inliers, batch: Batch, rng: Rng, *, weight: float = 0.5) -> Values:
    """Return images blended with one of another class."""
    _check("weight", weight, 0 < weight < 1, "between 0 and 1, which give an inlier")
    if len(data.values) < 2:
        raise ValueError('kind="mixup" needs 2 inliers at least.')
    partners = data.values[data.partners(batch.rows, rng)].astype(np.float64)
    return data.like(weight * data.values[batch.rows] + (1 - weight) * partners)


def invert(data: Inliers, batch: Batch, rng: Rng) -> Values:
    """Return negatives: low for high."""
    images = data.values[batch.rows].astype(np.float64)
    return data.like(data.low + data.high - images)


def fourier_phase(data: Inliers, batch: Batch, rng: Rng) -> Values:
    """Return images of the same amplitude spectrum and mean, their phases scrambled."""
    images = data.values[batch.rows].astype(np.float64)
    size = images.shape[-2:]
    spectrum = np.fft.rfft2(images)
    # the phases of real noise are those of some real image; one turn for all channels
    noise = np.fft.rfft2(rng.standard_normal((len(images), 1, *size)))
    turned = spectrum * (noise / np.abs(noise))
    turned[..., 0, 0] = spectrum[..., 0, 0]
    return data.like(np.fft.irfft2(turned, s=size))


def permute_columns(data: Inliers, batch: Batch, rng: Rng) -> Values:
    """Return rows whose columns come from different inliers."""
    n, d = data.values.shape
    if d < 2:
        raise ValueError(
            'kind="permute_columns" needs 2 columns at least; with 1 the outliers '
            'would be inliers. Use "extrapolate".'
        )
    source = rng.integers(n, size=(len(batch.rows), d))
    return np.take_along_axis(data.values, source, axis=0)


def extrapolate(
    data: Inliers, batch: Batch, rng: Rng, *, factor: float = 2.0
) -> Values:
    """Return rows pushed away from their class mean."""
    _check("factor", factor, factor > 1, "greater than 1")
    if data.values.dtype.kind not in "biuf":
        raise ValueError('kind="extrapolate" needs numbers; X has other columns.')
    if (np.bincount(data.classes) < 2).any():
        raise ValueError(
            'kind="extrapolate" needs 2 rows at least of each class, since one row is '
            "its own mean. Leave such classes out, or pass y=None for one mean."
        )
    centre = data.class_means[data.classes[batch.rows]]
    values = data.values[batch.rows].astype(np.float64)
    return data.like(centre + factor * (values - centre))


def _check(option: str, value: Any, holds: bool, wanted: str) -> None:
    if not holds:
        raise ValueError(f"{option} must be {wanted}; got {value!r}.")


def _shape(data: Inliers, batch: Batch) -> tuple[int, ...]:
    return (len(batch.rows), *data.values.shape[1:])


Kind = Callable[..., Values]
IMAGE_KINDS: dict[str, Kind] = {
    "blob": blob,
    "fourier_phase": fourier_phase,
    "gaussian": gaussian,
    "invert": invert,
    "jigsaw": jigsaw,
    "mixup": mixup,
    "rademacher": rademacher,
    "uniform": uniform,
}
FEATURE_KINDS: dict[str, Kind] = {
    "extrapolate": extrapolate,
    "permute_columns": permute_columns,
}
