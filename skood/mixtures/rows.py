"""The rows of one layer as a mixture sees them: centred, perhaps scaled, in chunks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from skood._chunks import merged_statistics
from skood._device import like, to_numpy
from skood.features import LayerFeatures
from skood.mixtures.products import gram

BLOCK_ROWS = 8192

Read = Callable[[LayerFeatures], Any]
S = TypeVar("S", bound=Any)


@dataclass(frozen=True, eq=False)
class Frame:
    """Where a layer's rows are centred, and the unit of each feature.

    Parameters
    ----------
    centre : ndarray of shape (d,)
        Taken off every row. It has float32 digits only, so that every type of row is
        moved by exactly the same.
    scale : ndarray of shape (d,) or None
        What every centred row is divided by; None leaves it.
    """

    centre: NDArray[np.float64]
    scale: NDArray[np.float64] | None = None

    def of(self, x: Any) -> Any:
        """Return rows in this frame, in their own type."""
        y = x - like(self.centre, x)
        return y if self.scale is None else y / like(self.scale, y)


@dataclass(frozen=True, eq=False)
class FeatureMoments:
    """Count, mean and squared deviations of each feature; merges pairwise."""

    count: float
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, x: Any) -> FeatureMoments:
        """Return the moments of rows of shape (n, d)."""
        parts = (
            x[start : start + BLOCK_ROWS] for start in range(0, len(x), BLOCK_ROWS)
        )
        first, *rest = (cls._of_block(to_numpy(part)) for part in parts)
        for other in rest:
            first = first.merge(other)
        return first

    @classmethod
    def _of_block(cls, x: NDArray[Any]) -> FeatureMoments:
        block = x.astype(np.float64)
        mean = block.mean(axis=0)
        return cls(len(block), mean, ((block - mean) ** 2).sum(axis=0))

    def merge(self, other: FeatureMoments) -> FeatureMoments:
        """Return the moments of both sets of rows."""
        count = self.count + other.count
        shift = other.mean - self.mean
        mean = self.mean + other.count / count * shift
        between = self.count * other.count / count * shift**2
        return FeatureMoments(count, mean, self.squares + other.squares + between)

    def frame(self, scaled: bool) -> Frame:
        """Return the frame of these rows; a constant feature keeps its unit."""
        centre = self.mean.astype(np.float32).astype(np.float64)
        if not scaled:
            return Frame(centre)
        deviation = np.sqrt(self.squares / self.count)
        return Frame(centre, np.where(deviation > 0, deviation, 1.0))


@dataclass(frozen=True, eq=False)
class SecondMoment:
    """Sum of y y^T over rows; merges by addition."""

    total: NDArray[np.float64]

    @classmethod
    def of(cls, y: Any) -> SecondMoment:
        """Return the moment of rows of shape (n, d), in float64."""
        total = np.zeros((y.shape[1], y.shape[1]))
        for start in range(0, len(y), BLOCK_ROWS):
            total += gram(as_float64(y[start : start + BLOCK_ROWS]))
        return cls(total)

    def merge(self, other: SecondMoment) -> SecondMoment:
        """Return the moment of both sets of rows."""
        return SecondMoment(self.total + other.total)


@dataclass(frozen=True, eq=False)
class LayerRows:
    """The rows of one layer, read chunk by chunk.

    Parameters
    ----------
    features : LayerFeatures
        One block.
    read : callable
        From a chunk of ``features`` to its array of shape (rows, d), NumPy or torch;
        picklable.
    frame : Frame
        How the rows are seen.
    moments : FeatureMoments
        Of the rows as they are.
    """

    features: LayerFeatures
    read: Read
    frame: Frame
    moments: FeatureMoments

    @classmethod
    def of(cls, features: LayerFeatures, read: Read, scaled: bool) -> LayerRows:
        """Return the rows about their mean, with unit variances if ``scaled``."""
        raw = Frame(np.zeros(features.shape[1]))
        moments = _merged(features, read, raw, FeatureMoments.of)
        return cls(features, read, moments.frame(scaled), moments)

    def __len__(self) -> int:
        return len(self.features)

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean of the rows as they are seen: what rounding the centre left."""
        return np.asarray(self.frame.of(self.moments.mean))

    @property
    def variances(self) -> NDArray[np.float64]:
        """The unbiased variances of the rows as they are seen."""
        unbiased = self.moments.squares / (self.moments.count - 1)
        return unbiased if self.frame.scale is None else unbiased / self.frame.scale**2

    def mean_variance(self) -> float:
        """Return the mean of the features' variances.

        Raises
        ------
        ValueError
            If no feature varies, beyond the rounding of its mean.
        """
        rounding = 10 * np.finfo(np.float64).eps * np.abs(self.moments.mean)
        if (self.moments.squares <= len(self) * rounding**2).all():
            raise ValueError(
                f"the features are constant (n_features = {len(rounding)}): there is "
                "nothing to tell components apart by. Leave the layer out."
            )
        return float(self.variances.mean())

    def merged(self, statistics_of: Callable[[Any], S]) -> S:
        """Return the statistics of all rows, merged in order from those of chunks."""
        return _merged(self.features, self.read, self.frame, statistics_of)

    def sample(self, size: int, random_state: np.random.RandomState) -> Any:
        """Return at most ``size`` rows, drawn without replacement."""
        if size >= len(self):
            return self.frame.of(self.read(self.features))
        chosen = np.sort(random_state.choice(len(self), size, replace=False))
        return self.frame.of(self.read(self.features[chosen]))


def as_float64(y: Any) -> Any:
    """Return the rows in float64, of the same library and device."""
    if isinstance(y, np.ndarray):
        return y.astype(np.float64, copy=False)
    return y.double()


def _merged(
    features: LayerFeatures, read: Read, frame: Frame, statistics_of: Callable[[Any], S]
) -> S:
    of_chunk = partial(_of_chunk, read, frame, statistics_of)
    return merged_statistics(of_chunk, features, np.zeros(len(features)))


def _of_chunk(
    read: Read,
    frame: Frame,
    statistics_of: Callable[[Any], S],
    chunk: LayerFeatures,
    labels: NDArray[Any],
) -> S:
    return statistics_of(frame.of(read(chunk)))
