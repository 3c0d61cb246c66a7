"""Matrix products whose result for a row is the same in every batch.

A library picks its kernel by the shapes of a product, and kernels differ in the last
bits. So the products here always have one shape: rows come in blocks of a fixed number,
the last one filled up with zeros, and columns in whole vector registers.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dgemm, dtrmm

from skood.numerics.device import array_namespace
from skood.numerics.graph import in_graph

HOST_ROWS = 64
"""Rows of a product on the CPU: few enough that one row does not cost much more."""

TALL_ROWS = 256
"""Rows of a triangular product on the CPU, if they come to what few come to."""

NARROW = 32
"""Rows or columns up to which a product is left to SciPy's BLAS."""

DEVICE_ROWS = 4096
COLUMNS = 16
"""Widths are multiples of it: no kernel for leftover columns is needed."""


def whole(size: int) -> int:
    """Return the next multiple of the fixed number of columns."""
    return -(-size // COLUMNS) * COLUMNS


def filled(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a matrix with zeros after it, so that both sizes are whole."""
    rows, columns = map(whole, matrix.shape)
    if matrix.shape == (rows, columns):
        return np.ascontiguousarray(matrix)
    result = np.zeros((rows, columns))
    result[: matrix.shape[0], : matrix.shape[1]] = matrix
    return result


def filled_rows(x: Any, width: int, centre: Any = 0.0) -> Any:
    """Return rows less a centre, with zeros after them: a whole number of blocks.

    Parameters
    ----------
    x : array of shape (n, d)
        NumPy or torch.
    width : int
        Of the result, at least d.
    centre : array of shape (d,), optional
        Of the library and device of x.

    Returns
    -------
    array of float64, shape (at least n, width)
        A copy. Differences that do not fit are infinite.
    """
    n, d = x.shape
    if isinstance(x, np.ndarray):
        result: Any = np.empty((-(-n // HOST_ROWS) * HOST_ROWS, width))
        result[:n, :d] = x  # a subtraction that converts takes twice as long
        with np.errstate(over="ignore"):
            result[:n, :d] -= centre
    elif in_graph():
        padding = x.new_zeros((n, width - d)).double()
        return array_namespace(x).concat([x.double() - centre, padding], axis=1)
    else:
        result = x.new_empty((-(-n // DEVICE_ROWS) * DEVICE_ROWS, width)).double()
        result[:n, :d] = x.double() - centre
    result[:n, d:] = 0
    result[n:] = 0
    return result


def clip_to(rows: Any, limit: float) -> None:
    """Bring entries beyond a limit, infinities too, to it."""
    if isinstance(rows, np.ndarray):
        rows.clip(-limit, limit, out=rows)
    else:
        rows.clamp_(-limit, limit)


def product(rows: Any, matrix: Any) -> Any:
    """Return ``rows @ matrix``, block by block.

    Parameters
    ----------
    rows : array of float64, shape (n, d)
        From :func:`filled_rows`.
    matrix : array of float64, shape (d, k)
        From :func:`filled`.

    Returns
    -------
    array of float64, shape (n, k)
    """
    if not isinstance(rows, np.ndarray):
        return _on_device(rows, matrix)
    result = np.empty((len(rows), matrix.shape[1]))
    for start in range(0, len(rows), HOST_ROWS):
        some = slice(start, start + HOST_ROWS)
        if matrix.shape[1] <= NARROW:
            result[some] = matmul(rows[some], matrix)
        else:
            np.matmul(rows[some], matrix, out=result[some])
    return result


def matmul(a: Any, b: Any) -> Any:
    """Return ``a @ b``, a narrow one by the BLAS that triangular products come from.

    NumPy and SciPy have one each, and where both are used in turns the threads of one,
    which go on waiting for work, keep the other's from the cores.
    """
    if isinstance(a, np.ndarray) and min(len(a), b.shape[1]) <= NARROW:
        return dgemm(1.0, b.T, a.T).T
    return a @ b


def triangular_product(rows: Any, upper: Any) -> Any:
    """Return ``rows @ upper`` in the memory of ``rows``, in half of the time.

    Parameters
    ----------
    rows : array of float64, shape (n, d)
        From :func:`filled_rows`.
    upper : array of float64, shape (d, d)
        Upper triangular, from :func:`filled`.

    Returns
    -------
    array of float64, shape (n, d)
    """
    if not isinstance(rows, np.ndarray):
        return _on_device(rows, upper)
    return _times_triangle(rows, upper, lower=1, trans_a=0)


def transposed_product(rows: Any, lower: Any) -> Any:
    """Return ``rows @ lower.T`` in the memory of ``rows``, in half of the time.

    Parameters
    ----------
    rows : array of float64, shape (n, d)
        From :func:`filled_rows`.
    lower : array of float64, shape (d, d)
        Lower triangular, from :func:`filled`.

    Returns
    -------
    array of float64, shape (n, d)
    """
    if not isinstance(rows, np.ndarray):
        return _on_device(rows, lower.T)
    return _times_triangle(rows, lower, lower=0, trans_a=1)


def _times_triangle(
    rows: NDArray[np.float64], triangle: NDArray[np.float64], lower: int, trans_a: int
) -> NDArray[np.float64]:
    # BLAS is column-major: the transposed views are what it reads without a copy.
    n, width = rows.shape
    start = 0
    while start < n:
        tall = n - start >= TALL_ROWS and _tall_is_the_same(width, lower, trans_a)
        stop = start + (TALL_ROWS if tall else HOST_ROWS)
        dtrmm(1.0, triangle.T, rows[start:stop].T, 0, lower, trans_a, overwrite_b=1)
        start = stop
    return rows


@cache
def _tall_is_the_same(width: int, lower: int, trans_a: int) -> bool:
    """Return whether BLAS makes of many rows, to the last bit, what it makes of few.

    It looks at the sizes when it chooses a kernel, and at no value: one look is enough.
    Of many rows the product takes two thirds of the time.
    """
    values = np.random.default_rng(0).normal(size=997)
    rows = np.resize(values, (TALL_ROWS, width))
    triangle = np.resize(values, (width, width)).T
    tall, *parts = (
        dtrmm(1.0, triangle, some.T, 0, lower, trans_a)
        for some in (rows, *np.split(rows, TALL_ROWS // HOST_ROWS))
    )
    return np.array_equal(tall, np.hstack(parts))


def _on_device(rows: Any, matrix: Any) -> Any:
    if in_graph():
        return rows @ matrix
    result = rows.new_empty((len(rows), matrix.shape[1]))
    for start in range(0, len(rows), DEVICE_ROWS):
        some = slice(start, start + DEVICE_ROWS)
        result[some] = rows[some] @ matrix
    return result
