"""What a network may be given to read, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tables import (
    BAD_TABLES,
    CLASSES,
    FRAME,
    INDEX,
    LABELS,
    NAMES,
    POLARS,
    ROWS,
    TABLES,
    TENSOR,
    UNNAMED,
)
from torch import nn

from skood import (
    KNN,
    FeatureStore,
    LayerFeatures,
    LayerFeatureTransformer,
    LayerSelector,
)
from skood.numerics.arrays import as_array


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = {"first": nn.Linear(4, 5), "relu": nn.ReLU(), "last": nn.Linear(5, 3)}
    net = nn.Sequential()
    for name, layer in layers.items():
        net.add_module(name, layer)
    return net


def _extractor(network, **options):
    return LayerFeatureTransformer(network, ["first", "logits"], **options)


FLOAT_TABLES = [name for name in TABLES if "int" not in name.lower()]


@pytest.mark.parametrize("cache", [None, "memory"])
@pytest.mark.parametrize("table", FLOAT_TABLES)
def test_a_network_reads_tables_of_any_library(network, table, cache):
    X = TABLES[table]
    if table == "pandas, mixed":
        X = X.astype({"c": float})
    transformer = _extractor(network, cache=cache, batch_size=16)
    features = transformer.fit(X).transform(X)
    expected = _extractor(network).fit_transform(TENSOR)
    np.testing.assert_allclose(features, expected, rtol=1e-5)
    is_named = not table.startswith(UNNAMED)
    assert hasattr(transformer, "feature_names_in_") == is_named


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("sparse matrix", "X is a csr_matrix; wanted is an array"),
        ("sparse tensor", r"sparse tensor.*to_dense\(\)"),
        ("tensor without data", "device 'meta'"),
        ("LazyFrame", r"LazyFrame.*collect\(\)"),
        ("pandas, texts", "not numbers: 'd'.*preprocess"),
        ("polars, texts", "not numbers: 'd'.*preprocess"),
        ("pandas, missing", "NaN or infinity in row"),
        ("polars, missing", "NaN or infinity in row"),
        ("masked", "masked entries"),
    ],
)
def test_what_a_network_cannot_read_is_refused(network, table, text):
    with pytest.raises((TypeError, ValueError), match=text):
        _extractor(network).fit_transform(BAD_TABLES[table][0])


@pytest.mark.parametrize("frame", [FRAME, POLARS], ids=["pandas", "polars"])
def test_columns_of_a_network_are_known_again(network, frame, tmp_path):
    transformer = _extractor(network).fit(frame)
    with pytest.raises(ValueError, match="must be in the same order"):
        transformer.transform(frame[NAMES[::-1]])
    with pytest.raises(ValueError, match="must be in the same order"):
        transformer.extract_to(tmp_path, frame[NAMES[::-1]], progress=False)
    by_name = _extractor(network, preprocess=lambda part: part[NAMES].to_numpy())
    more = frame.assign(e="x") if frame is FRAME else frame.with_columns(e=pl.lit("x"))
    expected = by_name.fit_transform(frame)
    np.testing.assert_array_equal(
        by_name.transform(more[["e", *NAMES[::-1]]]), expected
    )


LETTERS = [f"text {i}" for i in range(ROWS)]
COLUMNS = {
    "list": LETTERS,
    "array": np.array(LETTERS),
    "pandas": pd.Series(LETTERS, index=INDEX),
    "pandas, string": pd.Series(LETTERS, dtype="string"),
    "pandas, category": pd.Series(LETTERS, dtype="category"),
    "pandas, column": pd.DataFrame({"text": LETTERS})["text"],
    "polars": pl.Series(LETTERS),
    "polars, Categorical": pl.Series(LETTERS, dtype=pl.Categorical),
    "polars, column": pl.DataFrame({"text": LETTERS})["text"],
}


@pytest.mark.parametrize("cache", [None, "memory"])
@pytest.mark.parametrize("column", COLUMNS)
def test_preprocess_gets_a_column_as_a_list(network, column, cache):
    def numbers(texts):
        assert type(texts) is list
        return torch.tensor([[float(text.split()[1])] * 4 for text in texts])

    transformer = _extractor(network, preprocess=numbers, cache=cache, batch_size=16)
    features = transformer.fit_transform(COLUMNS[column])
    expected = _extractor(network).fit_transform(np.arange(ROWS)[:, None] + np.zeros(4))
    np.testing.assert_allclose(features, expected, rtol=1e-5)


@pytest.mark.parametrize("labels", LABELS)
def test_a_store_keeps_labels_and_ids_of_any_library(network, labels, tmp_path):
    y = LABELS[labels]
    if np.ndim(y) > 1 or labels[1].startswith("objects"):
        y = as_array(y).ravel().astype(str)
    store = FeatureStore(tmp_path)
    _extractor(network).extract_to(store, FRAME, y, ids=y, progress=False)
    for kept in (store.labels, store.ids):
        np.testing.assert_array_equal(kept, as_array(y).astype(kept.dtype))


@pytest.mark.parametrize("library", ["default", "pandas", "polars"])
def test_set_config_leaves_layer_features_as_they_are(network, library):
    y = np.where(np.arange(ROWS) < 8, -1, CLASSES)
    with sklearn.config_context(transform_output=library):
        assert isinstance(_extractor(network).fit_transform(FRAME), LayerFeatures)
        to_detector = make_pipeline(_extractor(network), KNN(3, layers="first"))
        assert to_detector.fit(FRAME, y).score_samples(FRAME).shape == (ROWS,)
        to_matrix = make_pipeline(
            _extractor(network),
            LayerSelector("first"),
            StandardScaler(),
            IsolationForest(n_estimators=3, random_state=0),
        ).fit(FRAME)
        table = to_matrix[:-1].transform(FRAME)
        assert type(table).__module__.startswith(library.replace("default", "numpy"))
        if library != "default":
            assert to_matrix[-1].feature_names_in_[0] == "first__avg__0"
        beside = ColumnTransformer([("net", _extractor(network), NAMES)])
        assert beside.fit_transform(FRAME).shape == (ROWS, 8)


def test_set_output_of_layer_features_is_refused_with_the_mend(network):
    pipeline = make_pipeline(_extractor(network), LayerSelector("first"))
    with pytest.raises(ValueError, match=r"put LayerSelector\(\) behind it"):
        pipeline.set_output(transform="pandas")
    assert pipeline.set_output(transform="default") is pipeline
    pipeline[1:].set_output(transform="polars")
    frame = pipeline.fit_transform(FRAME)
    assert isinstance(frame, pl.DataFrame)
    assert frame.columns == [f"first__avg__{i}" for i in range(5)]
