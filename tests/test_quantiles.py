"""Pooled quantiles: those of NumPy, whatever the chunks and the type."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skood import LayerFeatures
from skood.features import chunks
from skood.features.quantiles import pooled_quantiles

NAME = ("a", "avg")
SHARES = [0.0, 0.1, 0.5, 0.999, 1.0]

some_rows = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.tuples(st.integers(1, 30), st.integers(1, 4)),
    elements=st.floats(-1e4, 1e4, width=16),
)


@settings(max_examples=60, deadline=None)
@given(some_rows)
def test_they_are_those_of_numpy(rows):
    found = pooled_quantiles(LayerFeatures({"a": rows}), NAME, SHARES)
    expected = np.quantile(rows.astype(np.float64), SHARES)
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-300)


@pytest.mark.parametrize("scale", [1e-300, 1e-3, 1.0, 1e300])
def test_no_digit_is_lost(scale):
    rows = scale * np.random.default_rng(0).normal(size=(500, 7))
    found = pooled_quantiles(LayerFeatures({"a": rows}), NAME, [1.0, 0.25])
    assert found[0] == rows.max()
    np.testing.assert_allclose(found[1], np.quantile(rows, 0.25), rtol=1e-14)


def test_chunks_are_no_matter():
    rows = np.random.default_rng(0).exponential(size=(400, 5)).astype(np.float32)
    features = LayerFeatures({"a": np.maximum(rows - 1, 0)})
    whole = pooled_quantiles(features, NAME, SHARES)
    with mock.patch.object(chunks, "CHUNK_ELEMENTS", 35):
        np.testing.assert_array_equal(pooled_quantiles(features, NAME, SHARES), whole)


def test_many_values_are_counted_as_few_are():
    rows = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32)
    found = pooled_quantiles(LayerFeatures({"a": rows}), NAME, SHARES)
    np.testing.assert_allclose(found, np.quantile(rows.astype(np.float64), SHARES))


@pytest.mark.parametrize(
    "dtype", ["?", "u1", "i2", "i4", "u4", "i8", ">i8", "<f2", ">f4", np.longdouble]
)
def test_any_type_of_numbers(dtype):
    rows = np.random.default_rng(0).integers(0, 100, size=(80, 3)).astype(dtype)
    found = pooled_quantiles(LayerFeatures({"a": rows}), NAME, SHARES)
    np.testing.assert_allclose(found, np.quantile(rows.astype(np.float64), SHARES))
