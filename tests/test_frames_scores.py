"""Outliers made of frames, and scores in the types of any library."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy.sparse import csr_matrix
from tables import (
    FRAME,
    INDEX,
    MARKED,
    POLARS,
    ROWS,
    SOURCES,
    TABLES,
    TEXTS,
    VALUES,
)

from skood import (
    auroc,
    conformal_p_values,
    discoveries,
    make_pseudo_outliers,
    ood_report,
)
from skood.numerics.arrays import as_array
from skood.plotting import DetDisplay, RocDisplay, ScoreHistogramDisplay


@pytest.mark.parametrize("kind", ["permute_columns", "extrapolate"])
@pytest.mark.parametrize("table", [t for t in TABLES if t.startswith(("pan", "pol"))])
def test_a_frame_stays_one_with_outliers_below(table, kind):
    X = TABLES[table]
    if table == "pandas, mixed":
        X = X.astype({"c": float})
    made, y = make_pseudo_outliers(X, kind=kind, n_outliers=5, random_state=0)
    assert type(made) is type(X)
    assert [*made.columns] == [*X.columns]
    assert [*made.dtypes] == [*X.dtypes]
    assert (y[-5:] == -1).all()
    np.testing.assert_array_equal(as_array(made)[:ROWS], VALUES)
    assert np.isfinite(as_array(made)).all()


def test_outliers_of_whole_numbers_are_rounded_and_kept_in_range():
    frame = pd.DataFrame({"a": np.array([-128, -100, 127], np.int8), "b": [0.0, 2, 4]})
    for X in (frame, pl.DataFrame(frame)):
        made, _ = make_pseudo_outliers(X, kind="extrapolate", factor=2.5)
        assert made["a"].to_list()[3:] == [-128, -128, 127]
        assert made["b"].to_list()[3:] == [-3.0, 2.0, 7.0]


def test_columns_of_texts_are_permuted_and_not_extrapolated():
    pandas = FRAME.assign(d=pd.Categorical(TEXTS), c=pd.Series(TEXTS))
    polars = POLARS.with_columns(d=pl.Series(TEXTS.tolist()))
    holed = POLARS.with_columns(a=pl.Series([None, *[1] * (ROWS - 1)]))
    for X in (pandas, polars, holed):
        made, _ = make_pseudo_outliers(X, kind="permute_columns", random_state=0)
        assert [*made.dtypes] == [*X.dtypes]
        assert set(made["d"]) == set(X["d"])
    assert made["a"].null_count() >= 1
    assert not made["a"].cast(pl.Float64).is_nan().any()
    for X in (pandas, polars):
        with pytest.raises(ValueError, match="needs numbers"):
            make_pseudo_outliers(X, kind="extrapolate")


def test_outliers_of_tensors_are_arrays():
    images = torch.rand(6, 1, 5, 5).requires_grad_()
    for X, dtype in ((images, np.float32), (images.bfloat16(), np.float32)):
        made, _ = make_pseudo_outliers(X, kind="invert")
        assert type(made) is np.ndarray
        assert made.dtype == dtype
        assert made.shape == (12, 1, 5, 5)
    with pytest.raises(TypeError, match="sparse csr_matrix"):
        make_pseudo_outliers(csr_matrix(VALUES), kind="extrapolate")


SCORES = VALUES[:, 0]
SCORES_AS = {
    "list": SCORES.tolist(),
    "pandas": pd.Series(SCORES, index=INDEX),
    "pandas, Float64": pd.Series(SCORES, dtype="Float64"),
    "polars": pl.Series(SCORES),
    "tensor, bfloat16": torch.tensor(SCORES).bfloat16(),
    "tensor with a gradient": torch.tensor(SCORES, requires_grad=True),
}


@pytest.mark.parametrize("scores", SCORES_AS.values(), ids=SCORES_AS)
def test_scores_of_any_library_are_the_array(scores):
    y = pd.Series(MARKED, index=INDEX)
    assert auroc(y, scores) == auroc(MARKED, SCORES)
    table = ood_report(y, {"one": scores}, sources=pl.Series(SOURCES), n_bootstrap=0)
    expected = ood_report(MARKED, {"one": SCORES}, sources=SOURCES, n_bootstrap=0)
    pd.testing.assert_frame_equal(table, expected)
    p_values = conformal_p_values(scores, scores)
    np.testing.assert_array_equal(p_values, conformal_p_values(SCORES, SCORES))
    assert discoveries(torch.tensor(p_values), 0.1).shape == (ROWS,)
    for display in (RocDisplay, DetDisplay, ScoreHistogramDisplay):
        assert display.from_predictions(y, scores).ax_ is not None


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_a_frame_of_scores_compares_detectors(library):
    scores = {"one": SCORES, "two": -SCORES}
    table = ood_report(MARKED, library(scores), n_bootstrap=0)
    pd.testing.assert_frame_equal(table, ood_report(MARKED, scores, n_bootstrap=0))


def test_a_missing_source_is_refused():
    sources = pd.Series(SOURCES, dtype="string").mask(np.arange(ROWS) == 2)
    with pytest.raises(ValueError, match="sources has 1 missing names"):
        ood_report(MARKED, SCORES, sources=sources, n_bootstrap=0)
