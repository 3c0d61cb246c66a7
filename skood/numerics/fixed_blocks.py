"""Matrix products whose result for a row is the same in every batch.

A library picks its kernel by the shapes of a product, and kernels differ in the last
bits. So the products here always have one shape: rows come in blocks of a fixed number,
the last one filled up with zeros, and columns in whole vector registers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dtrmm

from skood.numerics.device import array_namespace
from skood.numerics.graph import in_graph

HOST_ROWS = 64
"""Rows of a product on the CPU: few enough that one row does not cost much more."""

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
        with np.errstate(over="ignore"):
            np.subtract(x, centre, out=result[:n, :d])
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
        np.matmul(rows[some], matrix, out=result[some])
    return result


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
    # BLAS is column-major: the transposed views are what it reads without a copy.
    lower = upper.T
    for start in range(0, len(rows), HOST_ROWS):
        block = rows[start : start + HOST_ROWS].T
        dtrmm(1.0, lower, block, lower=1, overwrite_b=1)
    return rows


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
    upper = lower.T
    for start in range(0, len(rows), HOST_ROWS):
        block = rows[start : start + HOST_ROWS].T
        dtrmm(1.0, upper, block, lower=0, trans_a=1, overwrite_b=1)
    return rows


def _on_device(rows: Any, matrix: Any) -> Any:
    if in_graph():
        return rows @ matrix
    result = rows.new_empty((len(rows), matrix.shape[1]))
    for start in range(0, len(rows), DEVICE_ROWS):
        some = slice(start, start + DEVICE_ROWS)
        result[some] = rows[some] @ matrix
    return result
