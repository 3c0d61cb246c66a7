"""Loaders, data sets with named columns, and streams come to the network as rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from given_rows import (
    Listed,
    expected,
    logits,
)
from torch import nn
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
)

from skood import FeatureStore, LayerFeatureTransformer, list_layers
from skood.extraction.inputs import Inputs, Loaded


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(10, 3))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 2))


# Loaders, and data sets with named columns -------------------------------------------


def padded(items):
    return nn.utils.rnn.pad_sequence([x for x, _ in items], batch_first=True)


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_data_set_of_a_loader_is_taken_in_its_own_order(shuffle, network, X):
    data = TensorDataset(torch.tensor(X), torch.zeros(10))
    loader = DataLoader(data, batch_size=3, shuffle=shuffle, drop_last=True)
    np.testing.assert_allclose(logits(network, loader), expected(network, X), atol=1e-6)
    assert len(list_layers(network, loader)) > 1


def test_rows_that_a_loader_chooses_are_those(network, X):
    data = TensorDataset(torch.tensor(X), torch.zeros(10))
    loader = DataLoader(data, sampler=[7, 2, 9])
    found = logits(network, loader)
    np.testing.assert_allclose(found, expected(network, X[[7, 2, 9]]), atol=1e-6)
    drawn = DataLoader(data, sampler=SubsetRandomSampler(range(9)))
    with pytest.raises(TypeError, match=r"SubsetRandomSampler draws rows by chance"):
        logits(network, drawn)


def test_a_loaders_own_function_makes_the_batches():
    rows = [(torch.ones(n, 3), n) for n in (2, 5, 3)]
    loader = DataLoader(Listed(rows), batch_size=2, collate_fn=padded)
    found = logits(nn.Linear(3, 2), loader, lambda batch: batch.sum(1))
    assert found.shape == (3, 2)
    pairs = DataLoader(Listed(rows), collate_fn=lambda i: (padded(i).sum(1), [0, 1]))
    assert logits(nn.Linear(3, 2), pairs).shape == (3, 2)


class Hub:
    """What counts of a data set of Hugging Face: named columns, and rows by number."""

    features = {"x": "float", "label": "int"}  # noqa: RUF012

    def __init__(self, **columns):
        self.columns = columns
        self.shape = (len(self), len(columns))

    @property
    def column_names(self):
        return [*self.columns]

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, rows):
        if isinstance(rows, str):
            return self.columns[rows]
        if isinstance(rows, int):
            return {name: column[rows] for name, column in self.columns.items()}
        numbers = range(len(self))[rows] if isinstance(rows, slice) else rows
        return {n: [c[i] for i in numbers] for n, c in self.columns.items()}


@pytest.mark.parametrize("cache", [None, "memory"])
@pytest.mark.parametrize(
    "preprocess", [None, "x", lambda rows: np.array(rows["x"]), lambda rows: rows["x"]]
)
def test_a_column_of_a_data_set_is_chosen(preprocess, cache, network, X):
    data = Hub(x=X.tolist(), label=[0] * 10)
    features = LayerFeatureTransformer(
        network, "logits", preprocess=preprocess, batch_size=4, cache=cache
    )
    found = features.fit_transform(data)
    np.testing.assert_allclose(found, expected(network, X), atol=1e-6)
    np.testing.assert_allclose(
        features.transform(data), expected(network, X), atol=1e-6
    )


def test_columns_are_chosen_by_the_user(network, X):
    data = Hub(x=X.tolist(), y=X.tolist(), label=[0] * 10)
    with pytest.raises(TypeError, match=r"columns \['x', 'y', 'label'\]: .*ess='x'"):
        logits(network, data)
    with pytest.raises(ValueError, match=r"preprocess='z' .* \['x', 'y', 'label'\]"):
        logits(network, data, "z")
    with pytest.raises(ValueError, match=r"preprocess='z' .* X has no named columns"):
        logits(network, X, "z")
    np.testing.assert_allclose(
        logits(network, data, "y"), expected(network, X), atol=1e-6
    )


def test_a_data_set_of_the_library_datasets(network, X):
    datasets = pytest.importorskip("datasets", reason="no dependency of skood's")
    data = datasets.Dataset.from_dict({"x": X.tolist(), "label": [0] * 10})
    np.testing.assert_allclose(
        logits(network, data, "x"), expected(network, X), atol=1e-6
    )


# What is gone through once -----------------------------------------------------------


class Streamed(IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


STREAMS = {
    "generator": lambda items: (item for item in items),
    "iterator": iter,
    "IterableDataset": Streamed,
    "loader": lambda items: DataLoader(Streamed(items), batch_size=3),
}


@pytest.mark.parametrize("stream", STREAMS)
def test_streams_go_to_a_store(stream, network, X, tmp_path):
    items = [(torch.tensor(x), n) for n, x in enumerate(X)]
    features = LayerFeatureTransformer(network, "logits", batch_size=4)
    store = FeatureStore(tmp_path)
    found = features.extract_to(store, STREAMS[stream](items), progress=False)
    np.testing.assert_allclose(found, expected(network, X), atol=1e-6)
    np.testing.assert_array_equal(store.labels, np.arange(10))
    again = features.extract_to(store, STREAMS[stream](items[5:]), progress=False)
    np.testing.assert_allclose(again, expected(network, X[5:]), atol=1e-6)
    assert store.stats()["rows"] == 10
    message = r"extract_to\(store, X\); or make a list"
    for call in (features.fit, features.transform):
        with pytest.raises(TypeError, match=message):
            call(STREAMS[stream](items))


def test_items_with_keys_have_them_as_ids(network, X, tmp_path):
    def items():
        for number, x in enumerate(X):
            notes = {"__url__": "shard.tar", "__key__": f"row {number}"}
            yield {**notes, "input": torch.tensor(x)}

    store = FeatureStore(tmp_path)
    features = LayerFeatureTransformer(network, "logits", batch_size=4)
    found = features.extract_to(store, items(), progress=False)
    np.testing.assert_allclose(found, expected(network, X), atol=1e-6)
    assert store.ids.tolist() == [f"row {number}" for number in range(10)]


def test_a_key_stands_for_the_content(network, X, tmp_path):
    features = LayerFeatureTransformer(
        network, "logits", preprocess=lambda batch: batch["x"], batch_size=5
    )
    store = FeatureStore(tmp_path)
    for shift in (0, 1):  # whatever became of the content
        items = ({"id": n, "x": x + shift} for n, x in enumerate(X))
        found = features.extract_to(store, items, keys=lambda item: item["id"])
        np.testing.assert_allclose(found, expected(network, X), atol=1e-6)
    assert store.stats()["rows"] == 12  # with the probe's, by their content
    with pytest.raises(TypeError, match="keys are of an X that is gone through once"):
        features.extract_to(tmp_path, X, keys=str)


def test_labels_and_ids_of_a_stream_are_one_a_row(network, X, tmp_path):
    features = LayerFeatureTransformer(network, "logits")
    with pytest.raises(ValueError, match="y has 3 entries for 10 rows"):
        features.extract_to(tmp_path, iter(list(X)), [1, 2, 3])
    with pytest.raises(ValueError, match="X has 0 rows"):
        features.extract_to(tmp_path, iter(()))


def test_rows_that_cannot_be_told_apart_are_refused(X):
    with pytest.raises(ValueError, match="10 rows of X came with 2 given"):
        Loaded([1, 2], None, Inputs(X))
