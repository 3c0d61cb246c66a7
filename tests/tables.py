"""The same rows, labels and sources as every library holds them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import torch
from scipy.sparse import csr_array, csr_matrix

from skood import (
    AnchoredClassifier,
)
from skood.neural.mlp import MLP

ROWS = 40
NAMES = ["a", "b", "c", "d"]
CLASSES = np.arange(ROWS) % 2
VALUES = (
    np.random.default_rng(0).integers(-8, 9, size=(ROWS, 4)) + 5.0 * CLASSES[:, None]
)
"""Whole numbers, which every type holds exactly."""

FRAME = pd.DataFrame(VALUES, columns=NAMES)
POLARS = pl.DataFrame(VALUES, schema=NAMES)
TENSOR = torch.tensor(VALUES)

TABLES = {
    "float32": VALUES.astype(np.float32),
    "float16": VALUES.astype(np.float16),
    "int": VALUES.astype(int),
    "list": VALUES.tolist(),
    "pandas": FRAME,
    "pandas, text index": FRAME.set_axis([f"row {i}" for i in range(ROWS)]),
    "pandas, other index": FRAME.set_axis(np.arange(ROWS)[::-1] + 7),
    "pandas, float32": FRAME.astype(np.float32),
    "pandas, Float64": FRAME.astype("Float64"),
    "pandas, Int64": FRAME.astype("Int64"),
    "pandas, mixed": FRAME.astype({"a": "Int64", "b": np.float32, "c": "category"}),
    "pandas, numbered columns": pd.DataFrame(VALUES),
    "polars": POLARS,
    "polars, float32": POLARS.cast(pl.Float32),
    "polars, mixed": POLARS.cast({"a": pl.Int8, "b": pl.Float32}),
    "tensor": TENSOR,
    "tensor, float32": TENSOR.float(),
    "tensor, float16": TENSOR.half(),
    "tensor, bfloat16": TENSOR.bfloat16(),
    "tensor, int": TENSOR.long(),
    "tensor with a gradient": TENSOR.clone().requires_grad_(),
    "tensor, transposed": torch.tensor(VALUES.T.copy()).T,
    "tensor, negated view": torch._neg_view(-TENSOR),
    "list of tensors": list(TENSOR),
}
UNNAMED = ("float", "int", "list", "pandas, numbered", "tensor")
IN_FLOAT32 = ("float32", "bfloat16")

BAD_TABLES = {
    "sparse matrix": (csr_matrix(VALUES), "parse"),
    "sparse array": (csr_array(VALUES), "parse"),
    "sparse tensor": (TENSOR.to_sparse(), "sparse tensor"),
    "tensor without data": (TENSOR.to("meta"), "device 'meta'"),
    "LazyFrame": (POLARS.lazy(), r"LazyFrame.*collect\(\)"),
    "pandas, texts": (FRAME.assign(d="x"), r"not numbers: 'd' \((str|object)\)"),
    "pandas, dates": (FRAME.assign(d=pd.Timestamp("2026-01-01")), "'d' .datetime64"),
    "polars, dates": (
        POLARS.with_columns(d=pl.lit(1).cast(pl.Date)),
        r"not numbers: 'd' \(Date",
    ),
    "polars, dates only": (
        POLARS.select(pl.all().cast(pl.Int64).cast(pl.Datetime)),
        "not numbers: 'a'",
    ),
    "polars, arrays": (
        POLARS.with_columns(d=pl.lit([1.0, 2.0]).cast(pl.Array(pl.Float64, 2))),
        r"not numbers: 'd' \(Array",
    ),
    "polars, texts": (POLARS.with_columns(d=pl.lit("x")), r"not numbers: 'd' \(String"),
    "pandas, missing": (FRAME.astype("Int64").replace(0, pd.NA), "NaN"),
    "polars, missing": (
        POLARS.with_columns(pl.when(pl.col("a") > 0).then(pl.col("a"))),
        "NaN",
    ),
    "masked": (np.ma.masked_less(VALUES, 0), r"masked entries.*filled"),
    "complex": (VALUES + 1j, "Complex data not supported"),
    "pandas Series": (FRAME["a"], "2-dimensional"),
    "polars Series": (POLARS["a"], "2D array"),
}

MARKED = np.where(np.arange(ROWS) < 6, -1, CLASSES)
TEXTS = np.where(MARKED == -1, "-1", np.where(CLASSES, "dog", "cat"))
INDEX = np.arange(ROWS)[::-1] + 7

NUMBERS_AS = {
    "list": MARKED.tolist(),
    "int8": MARKED.astype(np.int8),
    "float": MARKED.astype(float),
    "objects": MARKED.astype(object),
    "column": MARKED[:, None],
    "pandas": pd.Series(MARKED, index=INDEX),
    "pandas, Int64": pd.Series(MARKED, dtype="Int64"),
    "pandas, Float64": pd.Series(MARKED, dtype="Float64"),
    "pandas, category": pd.Series(MARKED, dtype="category"),
    "pandas frame": pd.DataFrame({"y": MARKED}),
    "polars": pl.Series(MARKED),
    "polars frame": pl.DataFrame({"y": MARKED}),
    "tensor": torch.tensor(MARKED),
    "tensor, bfloat16": torch.tensor(MARKED).bfloat16(),
    "tensor with a gradient": torch.tensor(MARKED).float().requires_grad_(),
    "list of tensors": list(torch.tensor(MARKED)),
}
TEXTS_AS = {
    "list": TEXTS.tolist(),
    "array": TEXTS,
    "objects": TEXTS.astype(object),
    "objects with -1": np.array([v if v != "-1" else -1 for v in TEXTS], dtype=object),
    "pandas": pd.Series(TEXTS, index=INDEX),
    "pandas, string": pd.Series(TEXTS, dtype="string"),
    "pandas, category": pd.Series(TEXTS, dtype="category"),
    "polars": pl.Series(TEXTS.tolist()),
    "polars, Categorical": pl.Series(TEXTS.tolist(), dtype=pl.Categorical),
    "polars, Enum": pl.Series(TEXTS.tolist(), dtype=pl.Enum(["-1", "cat", "dog"])),
}
LABELS = {
    **{("numbers", name): y for name, y in NUMBERS_AS.items()},
    **{("texts", name): y for name, y in TEXTS_AS.items()},
}
SOURCES = np.where(np.arange(ROWS) < 3, "near", "far")


def classifier(kind=AnchoredClassifier):
    return kind(
        MLP,
        module__n_features=4,
        module__n_classes=2,
        max_epochs=1,
        train_split=None,
        random_state=0,
    )
