"""Products whose result for a row is the same in every batch."""

import numpy as np
import pytest

from skood.numerics import fixed_blocks
from skood.numerics.fixed_blocks import (
    HOST_ROWS,
    NARROW,
    TALL_ROWS,
    filled_rows,
    matmul,
    product,
    transposed_product,
    triangular_product,
)

WIDTHS = [16, 64, 208, 512]
N_ROWS = 2 * TALL_ROWS + 3 * HOST_ROWS


def rows_of(width, seed=0):
    return np.random.default_rng(seed).normal(size=(N_ROWS, width))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("times", [triangular_product, transposed_product])
def test_triangular_products_are_products(times, width):
    triangle = np.random.default_rng(1).normal(size=(width, width))
    upper = np.triu(triangle)
    given = upper if times is triangular_product else np.ascontiguousarray(upper.T)
    rows = rows_of(width)

    found = times(rows.copy(), given)

    np.testing.assert_allclose(found, rows @ upper, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("times", [triangular_product, transposed_product])
def test_tall_blocks_change_no_bit(monkeypatch, times, width):
    triangle = np.random.default_rng(1).normal(size=(width, width))
    given = np.triu(triangle) if times is triangular_product else np.tril(triangle)
    rows = rows_of(width)
    found = times(rows.copy(), given)

    monkeypatch.setattr(fixed_blocks, "_tall_is_the_same", lambda *_: False)

    np.testing.assert_array_equal(times(rows.copy(), given), found)


def test_blas_that_rounds_by_the_number_of_rows_gets_few(monkeypatch):
    heights = []

    def rounds_by_height(alpha, a, b, *args, **how):
        heights.append(b.shape[1])
        return b * (1 + b.shape[1] * 1e-15)

    monkeypatch.setattr(fixed_blocks, "dtrmm", rounds_by_height)
    triangular_product(rows_of(1008), np.eye(1008))  # a width that nobody has asked for
    looks = 1 + TALL_ROWS // HOST_ROWS

    assert heights[:looks] == [TALL_ROWS] + [HOST_ROWS] * (looks - 1)
    assert set(heights[looks:]) == {HOST_ROWS}


@pytest.mark.parametrize("columns", [1, NARROW, NARROW + 1])
@pytest.mark.parametrize("n_rows", [1, NARROW, 200])
def test_matmul_is_matmul(n_rows, columns):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(n_rows, 30)), rng.normal(size=(30, columns))

    np.testing.assert_allclose(matmul(a, b), a @ b, rtol=1e-12, atol=1e-12)
    other = np.ascontiguousarray(b.T).T
    np.testing.assert_allclose(matmul(a, other), a @ b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("columns", [16, 48])
def test_products_of_a_row_do_not_see_the_others(columns):
    rows, matrix = rows_of(64), np.random.default_rng(1).normal(size=(64, columns))
    whole = product(filled_rows(rows, 64), matrix)

    for start, stop in [(0, 1), (5, 70), (100, 400)]:
        part = product(filled_rows(rows[start:stop], 64), matrix)[: stop - start]
        np.testing.assert_array_equal(part, whole[start:stop])
