"""The rows of one layer as a mixture sees them: centred, perhaps scaled, in chunks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from skood.features import LayerFeatures
from skood.features.chunks import merged_statistics
from skood.mixtures.products import gram
from skood.numerics.device import like, to_numpy
from skood.numerics.whitening import ROUNDING, check_squares

BLOCK_ROWS = 8192

FLOAT32_SQUARES = 1e-24
"""Variances below this, beside others near 1, have squares that float32 loses."""

Read = Callable[[LayerFeatures], Any]
S = TypeVar("S", bound=Any)


@dataclass(frozen=True, eq=False)
class Frame:
    """Where a layer's rows are centred, and the unit of each feature.

    Parameters
    ----------
    centre : ndarray of shape (d,)
        Taken off every row. It has the digits of float32 only, so that every type of
        row is moved by exactly the same.
    scale : ndarray of shape (d,) or None
        What every centred row is divided by; None leaves it.
    unit : float
        What densities do not count as a change of scale: they are those of the rows
        divided by ``scale / unit``.
    """

    centre: NDArray[np.float64]
    scale: NDArray[np.float64] | None = None
    unit: float = 1.0

    @property
    def log_unit(self) -> float:
        """Log of the factor by which densities in this frame are too large."""
        return float(len(self.centre) * np.log(self.unit))

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
        with np.errstate(over="ignore", invalid="ignore"):
            mean = block.mean(axis=0)
            return cls(len(block), mean, ((block - mean) ** 2).sum(axis=0))

    def merge(self, other: FeatureMoments) -> FeatureMoments:
        """Return the moments of both sets of rows."""
        count = self.count + other.count
        with np.errstate(over="ignore", invalid="ignore"):
            shift = other.mean - self.mean
            mean = self.mean + other.count / count * shift
            between = self.count * other.count / count * shift**2
            squares = self.squares + other.squares + between
        return FeatureMoments(count, mean, squares)

    def frame(self, scaled: bool) -> Frame:
        """Return the frame of these rows.

        Parameters
        ----------
        scaled : bool
            Whether each feature gets unit variance; one that is constant keeps the
            others' unit. If not, all are divided by one power of two, which changes no
            digit, so that squares fit float32 whatever the unit.
        """
        centre = _with_digits_of_float32(self.mean)
        variances = self.unit_variances()
        if scaled:
            return Frame(centre, np.sqrt(variances))
        _, exponent = np.frexp(np.sqrt(variances.mean()))
        unit = float(np.ldexp(1.0, int(exponent)))
        return Frame(centre, np.full(len(centre), unit), unit)

    def unit_variances(self) -> NDArray[np.float64]:
        """Return the variances, those of constant features as the others' median.

        Raises
        ------
        ValueError
            If no feature varies, beyond the rounding of its mean, or if squares of
            deviations do not fit.
        """
        variances = self.squares / max(self.count - 1, 1)
        check_squares(variances, self.mean)
        varies = variances > (ROUNDING * np.abs(self.mean)) ** 2
        if not varies.any():
            raise ValueError(
                f"the features are constant (n_features = {len(varies)}), or vary by "
                "so little that the squares vanish: there is nothing to tell "
                "components apart by. Leave the layer out, or give it in a smaller "
                "unit."
            )
        return np.where(varies, variances, np.median(variances[varies]))


def _with_digits_of_float32(values: NDArray[np.float64]) -> NDArray[np.float64]:
    fractions, exponents = np.frexp(values)
    return np.ldexp(fractions.astype(np.float32).astype(np.float64), exponents)


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

    @property
    def unit_variances(self) -> NDArray[np.float64]:
        """The variances in units of the densities, shape (d,).

        Those of constant features are the others' median.
        """
        scale = 1.0 if self.frame.scale is None else self.frame.scale
        return np.asarray(
            self.moments.unit_variances() / (scale / self.frame.unit) ** 2
        )

    @property
    def far_apart(self) -> bool:
        """Whether the squares of some features would be lost in float32."""
        smallest = self.unit_variances.min() / self.frame.unit**2
        return bool(smallest < FLOAT32_SQUARES)

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
    return merged_statistics(of_chunk, features)


def _of_chunk(
    read: Read,
    frame: Frame,
    statistics_of: Callable[[Any], S],
    chunk: LayerFeatures,
) -> S:
    return statistics_of(frame.of(read(chunk)))
