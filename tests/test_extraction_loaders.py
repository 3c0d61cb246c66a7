"""Loaders, data sets with named columns, and streams come to the network as rows."""

from __future__ import annotations

import threading

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
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
)

from skood import FeatureStore, LayerFeatureTransformer, list_layers
from skood.extraction.cached import keys_of, windows
from skood.extraction.inputs import Inputs, Loaded
from skood.extraction.memory import read


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


# Memory that is written to again ------------------------------------------------------


class Reusing(Dataset):
    """Decodes each item into one of a few buffers, in turn."""

    def __init__(self, X, n_buffers, form):
        self.X, self.form, self.reads = X, form, 0
        self.buffers = torch.empty(n_buffers, X.shape[1])

    def __len__(self):
        return len(self.X)

    def __getitem__(self, row):
        buffer = self.buffers[self.reads % len(self.buffers)]
        self.reads += 1
        buffer[:] = torch.tensor(self.X[row])
        return self.form(buffer)


FORMS = {
    "tensor": lambda buffer: buffer,
    "array": lambda buffer: buffer.numpy(),
    "sample": lambda buffer: (buffer, 0),
    "mapping": lambda buffer: {"input": buffer},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n_buffers", [1, 3, 5])
@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("cached", [False, True])
def test_a_data_set_may_use_its_memory_again(
    cached, batch_size, n_buffers, form, network, X, tmp_path
):
    cache = tmp_path if cached else None
    extractor = LayerFeatureTransformer(
        network, "logits", batch_size=batch_size, cache=cache
    )
    want = expected(network, X)
    for _ in range(2):
        found = extractor.fit_transform(Reusing(X, n_buffers, FORMS[form]))
        np.testing.assert_allclose(found.block("logits"), want, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_stream_may_use_its_memory_again(batch_size, network, X, tmp_path):
    def rows():
        buffer = np.empty(3)
        for row in X:
            buffer[:] = row
            yield {"input": buffer}

    extractor = LayerFeatureTransformer(network, "logits", batch_size=batch_size)
    found = extractor.extract_to(tmp_path, rows(), progress=False)
    np.testing.assert_allclose(found.block("logits"), expected(network, X), atol=1e-6)


def test_items_are_read_once_where_each_has_its_memory(X):
    data, numbers = Reusing(X, len(X), FORMS["tensor"]), range(len(X))
    items, copied = read(data.__getitem__, numbers)
    assert not copied
    assert data.reads == len(X)
    assert items[0].data_ptr() == data.buffers.data_ptr()


class Bound:
    """An item that minds in which thread it is looked at."""

    def __init__(self, row):
        self.row, self.home = row, threading.get_ident()

    @property
    def cache_key(self):
        assert threading.get_ident() == self.home
        return str(self.row)


def test_code_of_items_runs_in_the_thread_that_read_them(network, X):
    inputs = Inputs(Listed([Bound(row) for row in X]))
    found = np.concatenate([keys_of(loaded) for loaded in windows(inputs, 4)])
    assert len({key.tobytes() for key in found}) == len(X)


class Breaking(Reusing):
    """Cannot read row 6."""

    def __getitem__(self, row):
        if row == 6:
            raise OSError("no such file")
        return super().__getitem__(row)


def test_what_was_read_before_an_error_is_kept(network, X, tmp_path):
    extractor = LayerFeatureTransformer(network, "logits", batch_size=2)
    with pytest.raises(OSError, match="no such file"):
        extractor.extract_to(tmp_path, Breaking(X, 10, FORMS["tensor"]), progress=False)
    assert FeatureStore(tmp_path).stats()["rows"] == 6


# Loaders that say what a batch is -----------------------------------------------------


def test_the_order_of_a_loaders_batches_is_kept(network, X):
    data = TensorDataset(torch.tensor(X))
    loader = DataLoader(data, batch_sampler=[[8, 9], [3], [0, 1, 5]])
    want = expected(network, X[[8, 9, 3, 0, 1, 5]])
    np.testing.assert_allclose(logits(network, loader), want, atol=1e-6)
    inner = DataLoader(data, batch_sampler=BatchSampler([7, 2], 2, False))
    want = expected(network, X[[7, 2]])
    np.testing.assert_allclose(logits(network, inner), want, atol=1e-6)


class Drawing:
    """Batches of two of some rows, in another order each time."""

    def __init__(self, n_rows):
        self.n_rows, self.random = n_rows, np.random.default_rng(0)

    def __iter__(self):
        yield from self.random.permutation(10)[: self.n_rows].reshape(-1, 2).tolist()


def test_a_loader_that_shuffles_batches_has_its_data_sets_order(network, X):
    data = TensorDataset(torch.tensor(X))
    found = logits(network, DataLoader(data, batch_sampler=Drawing(10)))
    np.testing.assert_allclose(found, expected(network, X), atol=1e-6)
    with pytest.raises(TypeError, match="Drawing draws rows by chance"):
        logits(network, DataLoader(data, batch_sampler=Drawing(8)))


def test_a_streams_loader_makes_the_batches(network, X, tmp_path):
    def doubled(rows):
        return torch.stack([torch.as_tensor(row) for row, _ in rows]) * 2

    loader = DataLoader(Streamed([(x, 0) for x in X]), 3, collate_fn=doubled)
    extractor = LayerFeatureTransformer(network, "logits", batch_size=4)
    found = extractor.extract_to(tmp_path, loader, progress=False)
    want = expected(network, 2 * X)
    np.testing.assert_allclose(found.block("logits"), want, atol=1e-6)


def test_a_tuple_of_one_array_is_one_input(network, X):
    found = logits(network, (X,))
    np.testing.assert_allclose(found, expected(network, X), atol=1e-6)
