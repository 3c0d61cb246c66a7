"""Blocks, rows, heads and frames of features, from any library."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from tables import (
    BAD_TABLES,
    FRAME,
    INDEX,
    POLARS,
    ROWS,
    TABLES,
    TENSOR,
    VALUES,
)
from torch import nn

from skood import (
    LayerFeatures,
    LayerSelector,
    LinearHead,
)


@pytest.mark.parametrize("table", TABLES)
def test_a_block_is_a_table_of_any_library(table):
    features = LayerFeatures({"conv1": TABLES[table], ("conv2", "max"): VALUES})
    assert features.block("conv1").dtype.kind in "iuf"
    np.testing.assert_array_equal(features.block("conv1"), VALUES)
    np.testing.assert_array_equal(features[3:5].block("conv1"), VALUES[3:5])


BAD_BLOCKS = {
    **{name: X for name, (X, _) in BAD_TABLES.items() if "missing" not in name},
    "objects": VALUES.astype(object),
    "nothing": None,
}


@pytest.mark.parametrize("table", BAD_BLOCKS)
def test_a_block_that_is_no_table_of_numbers_is_refused(table):
    with pytest.raises((TypeError, ValueError), match=r"^block conv1/avg (is a|has) "):
        LayerFeatures({"conv1": BAD_BLOCKS[table]})


EVERY_THIRD = np.arange(ROWS) % 3 == 0
INDICES = {
    "pandas mask": pd.Series(EVERY_THIRD),
    "pandas mask, other index": pd.Series(EVERY_THIRD, index=INDEX),
    "pandas boolean": pd.Series(EVERY_THIRD, dtype="boolean"),
    "polars mask": pl.Series(EVERY_THIRD),
    "tensor mask": torch.tensor(EVERY_THIRD),
    "pandas Int64": pd.Series(np.flatnonzero(EVERY_THIRD), dtype="Int64"),
    "pandas Index": pd.Index(np.flatnonzero(EVERY_THIRD)),
    "polars numbers": pl.Series(np.flatnonzero(EVERY_THIRD)),
    "tensor": torch.tensor(np.flatnonzero(EVERY_THIRD), dtype=torch.int32),
    "list of tensors": list(torch.tensor(np.flatnonzero(EVERY_THIRD))),
}


@pytest.mark.parametrize("key", INDICES.values(), ids=INDICES)
def test_rows_are_chosen_by_columns_and_tensors(key):
    features = LayerFeatures({"conv1": VALUES})
    np.testing.assert_array_equal(np.asarray(features[key]), VALUES[EVERY_THIRD])
    np.testing.assert_array_equal(np.asarray(features.take(key)), VALUES[EVERY_THIRD])


@pytest.mark.parametrize("key", [np.int32(3), np.array(3), torch.tensor(3)], ids=type)
def test_a_single_row_by_a_scalar_of_any_library(key):
    np.testing.assert_array_equal(LayerFeatures({"conv1": VALUES})[key], VALUES[3])


@pytest.mark.parametrize(
    "key",
    [
        True,
        0.5,
        np.float64(1.5),
        None,
        pd.Series([True, pd.NA] * (ROWS // 2), dtype="boolean"),
        pl.Series([None, *EVERY_THIRD[1:].tolist()]),
    ],
    ids=repr,
)
def test_what_chooses_no_rows_is_refused(key):
    with pytest.raises(IndexError):
        LayerFeatures({"conv1": VALUES})[key]


def test_features_as_a_frame():
    features = LayerFeatures({"conv1": VALUES, ("conv1", "max"): VALUES[:, :1]})[5:8]
    frame = features.to_frame()
    assert [*frame] == [*(f"conv1__avg__{i}" for i in range(4)), "conv1__max__0"]
    assert frame.index.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(frame, np.asarray(features))


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("X", [FRAME, POLARS, TENSOR, LayerFeatures({"l": VALUES})])
def test_the_selector_honours_set_output(X, library):
    selector = LayerSelector().set_output(transform=library)
    frame = selector.fit_transform(X)
    assert type(frame).__module__.startswith(library)
    np.testing.assert_array_equal(frame.to_numpy(), VALUES)
    assert [*frame.columns] == [*selector.get_feature_names_out()]


def test_the_selector_keeps_the_index():
    selector = LayerSelector().set_output(transform="pandas")
    frame = TABLES["pandas, text index"]
    pd.testing.assert_frame_equal(selector.fit_transform(frame), frame)


def test_a_head_is_made_of_a_torch_module():
    linear = nn.Linear(4, 3)
    head = LinearHead(linear.weight, linear.bias)
    assert type(head.weight) is np.ndarray
    logits = linear(TENSOR.float())
    # float32: a sum near zero keeps the rounding of its parts
    np.testing.assert_allclose(
        head.logits(TENSOR.float()), logits.detach(), rtol=1e-5, atol=1e-6
    )
    again = LinearHead.from_samples(TENSOR.float().requires_grad_(), logits)
    np.testing.assert_allclose(again.weight, head.weight, atol=1e-5)
