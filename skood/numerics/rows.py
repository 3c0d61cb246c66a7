"""What the formulas of this room do with each row."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.numerics.device import array_namespace, like
from skood.numerics.graph import EVERY_ROW, in_graph

__all__ = [
    "best_logit",
    "cache_blocks",
    "cache_slices",
    "distances_to",
    "exponentials",
    "in_float64",
    "lengths",
    "less_best",
    "nonzero",
    "power_of_two",
    "powers",
    "row_dots",
    "row_sums",
    "unit_rows",
]

NARROW = 16
"""Rows up to this width are reduced by columns: NumPy is slow along short axes."""

CACHE_ELEMENTS = 1 << 17
"""Numbers of a block on the CPU: a few arrays of that size stay in a core's cache."""


def cache_slices(x: Any, width: int, at_least: int = 1) -> Iterator[slice]:
    """Yield slices of the rows of x that stay in the cache; one on an accelerator.

    For formulas of many steps, each of which would else go through the main memory.
    ``width`` is how many numbers a row has in the widest of their arrays. Products of
    few rows are slow: there can be ``at_least`` so many, whatever the cache holds.
    """
    if not isinstance(x, np.ndarray):
        yield EVERY_ROW
        return
    step = max(at_least, CACHE_ELEMENTS // width)
    for start in range(0, len(x), step):
        yield slice(start, min(start + step, len(x)))


def cache_blocks(x: Any) -> Iterator[Any]:
    """Yield the rows in blocks that stay in the cache; one on an accelerator."""
    return (x[rows] for rows in cache_slices(x, x.shape[1]))


def in_float64(x: Any) -> Any:
    """Return an array in float64, not a copy if it is."""
    xp = array_namespace(x)
    return xp.astype(x, xp.float64, copy=False)


def exponentials(x: Any) -> Any:
    """Return the exponentials of an array's entries, in its own memory on the CPU."""
    return np.exp(x, out=x) if isinstance(x, np.ndarray) else array_namespace(x).exp(x)


def lengths(x: Any) -> Any:
    """Return the Euclidean length of each row, shape (n,).

    Also of rows whose squares do not fit the type, being too large or too small.
    """
    xp = array_namespace(x)
    with np.errstate(over="ignore", under="ignore"):
        found = xp.sqrt(row_dots(x, x))
    if in_graph():
        return found
    of_type = xp.finfo(x.dtype)
    least = (float(of_type.tiny) / float(of_type.eps)) ** 0.5
    exact = xp.isfinite(found) & (found > least)
    if bool(xp.all(exact)):
        return found
    largest = xp.max(xp.abs(x), axis=1)
    scaled = x / nonzero(largest)[:, None]
    safe = largest * xp.sqrt(row_dots(scaled, scaled))
    return xp.where(exact, found, safe)


def distances_to(point: NDArray[np.float64], x: Any) -> Any:
    """Return how far each row is from a point, shape (n,), in float64.

    Of float32 rows in float32, which loses nothing: a difference is rounded to its own
    size however large what it is taken of, and the point is two numbers, of which the
    second is what the first lacks.
    """
    xp = array_namespace(x)
    if x.dtype != xp.float32:
        x = in_float64(x)
        return lengths(x - like(point, x))
    near = point.astype(np.float32)
    rest = (point - near).astype(np.float32)
    apart = x - like(near, x)
    apart -= like(rest, x)
    return in_float64(lengths(apart))


def nonzero(divisor: Any) -> Any:
    """Return a divisor with ones for zeros: what is divided by zero stays as it is."""
    xp = array_namespace(divisor)
    return xp.where(divisor == 0, xp.ones_like(divisor), divisor)


def best_logit(z: Any) -> Any:
    """Return the largest entry of each row, shape (n,)."""
    if isinstance(z, np.ndarray) and z.shape[1] <= NARROW:
        return np.ascontiguousarray(z.T).max(axis=0)
    return array_namespace(z).max(z, axis=1)


def less_best(z: Any) -> tuple[Any, Any]:
    """Return the largest entry of each row, and all less it, a new array in float64."""
    xp = array_namespace(z)
    best = in_float64(best_logit(z))
    z = xp.astype(z, xp.float64)
    z -= best[:, None]
    return best, z


def row_sums(x: Any) -> Any:
    """Return the sum of each row in float64, shape (n,)."""
    if isinstance(x, np.ndarray):
        return np.einsum("ij->i", x, dtype=np.float64, casting="safe")
    return array_namespace(x).sum(x, axis=1, dtype=array_namespace(x).float64)


def powers(x: Any, exponent: float) -> Any:
    """Return the powers of entries that are not negative, far faster than by ``**``."""
    xp = array_namespace(x)
    with np.errstate(divide="ignore"):  # the power of zero is zero
        return xp.exp(exponent * xp.log(x))


def power_of_two(size: float) -> float:
    """Return a power of two near a size: a unit by which nothing is rounded.

    1 for zero and for what is not finite.
    """
    return 2.0 ** (math.frexp(size)[1] - 1) if 0 < size < math.inf else 1.0


def row_dots(x: Any, y: Any) -> Any:
    """Return the inner product of each row of x with that row of y, shape (n,)."""
    if isinstance(x, np.ndarray):
        return np.asarray(np.vecdot(x, y))
    return array_namespace(x).linalg.vecdot(x, y)


def unit_rows(x: Any) -> Any:
    """Return the rows scaled to length one; a row of zeros stays.

    Parameters
    ----------
    x : array of shape (n, d)
        NumPy or torch.

    Returns
    -------
    array of shape (n, d)
    """
    if not isinstance(x, np.ndarray):
        return _scaled_first(x)
    result = np.empty_like(x)
    limits = np.finfo(x.dtype)
    smallest, largest = float(limits.tiny) ** 0.25, float(limits.max) ** 0.25
    for rows in cache_slices(x, x.shape[1]):
        with np.errstate(over="ignore", under="ignore"):
            # Not by einsum, which adds up a row alone in another order.
            length = np.sqrt(np.square(x[rows]).sum(axis=1))
        plain = (length > smallest) & (length < largest)
        np.divide(x[rows], np.where(plain, length, 1)[:, None], out=result[rows])
        if not plain.all():
            result[rows][~plain] = _scaled_first(x[rows][~plain])
    return result


def _scaled_first(x: Any) -> Any:
    """Return unit rows of entries whose squares may not fit the type."""
    xp = array_namespace(x)
    largest = xp.max(xp.abs(x), axis=1)[:, None]
    x = x / xp.where(largest > 0, largest, 0 * largest + 1)
    length = xp.sum(x * x, axis=1)[:, None] ** 0.5
    return x / xp.where(length > 0, length, 0 * length + 1)
