"""Inputs read by other processes: the same rows in the same order, errors by row."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from skood import FeatureStore, LayerFeatureTransformer
from skood.extraction.batch import as_batch
from skood.extraction.feeding import Feeding, fed, portions
from skood.extraction.inputs import Inputs
from skood.store.row_keys import row_keys

N = 70


class Files(Dataset):
    """Items that are made when they are asked for, some of which cannot be."""

    def __init__(self, bad=None, error=FileNotFoundError):
        self.bad, self.error = bad, error
        self.X = np.random.default_rng(0).normal(size=(N, 3, 6, 6)).astype(np.float32)

    def __len__(self):
        return N

    def __getitem__(self, number):
        if number == self.bad and self.error is None:
            os._exit(3)
        if number == self.bad and self.error is ValueError:
            return torch.full((3, 6, 6), torch.nan), 0
        if number == self.bad:
            raise self.error(2, "no such image")
        return torch.tensor(self.X[number]), number % 3


class Refused(Exception):
    def __init__(self, code, text):
        super().__init__(code, text)


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    return nn.Sequential(*layers).eval()


def transformer(network, **parameters):
    return LayerFeatureTransformer(
        network, ["1", "logits"], batch_size=16, **parameters
    )


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("cached", [False, True])
def test_rows_are_those_of_one_process_in_order(network, tmp_path, workers, cached):
    expected = np.asarray(transformer(network).fit_transform(Files()))
    state = torch.get_rng_state()
    fed_by = transformer(
        network, num_workers=workers, cache=tmp_path / "a" if cached else None
    )
    for _ in range(2):
        np.testing.assert_allclose(
            np.asarray(fed_by.fit_transform(Files())), expected, atol=1e-6
        )
    assert torch.equal(torch.get_rng_state(), state)
    if cached:
        store = FeatureStore(tmp_path / "a")
        assert store.stats()["misses"] == N
        alone = transformer(network, cache=store)
        alone.fit_transform(Files())
        assert store.stats()["misses"] == N  # known by the same keys


def test_labels_come_along(network, tmp_path):
    transformer(network, num_workers=2).extract_to(tmp_path, Files(), progress=False)
    labels = FeatureStore(tmp_path).labels
    np.testing.assert_array_equal(labels, np.arange(N) % 3)


def test_some_rows_are_there_already(network, tmp_path):
    cached = transformer(network, cache=tmp_path, num_workers=2)
    cached.fit_transform(torch.utils.data.Subset(Files(), [*range(0, 40, 3)]))
    found = cached.fit_transform(Files())
    expected = transformer(network).fit_transform(Files())
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=1e-6)
    assert FeatureStore(tmp_path).stats()["misses"] == N


def test_preprocess_runs_with_the_readers(network):
    def preprocess(rows):
        return torch.stack([torch.full((3, 6, 6), float(len(row))) for row in rows])

    texts = ["x" * n for n in range(1, 60)]
    found = transformer(network, preprocess=preprocess, num_workers=2)
    expected = transformer(network, preprocess=preprocess)
    same = np.asarray(expected.fit_transform(texts))
    np.testing.assert_allclose(np.asarray(found.fit_transform(texts)), same)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (FileNotFoundError, FileNotFoundError, "row 41 of X could not be read.*image"),
        (KeyError, KeyError, "row 41 of X could not be read: KeyError"),
        (Refused, RuntimeError, "row 41 of X could not be read: Refused"),
        (ValueError, ValueError, "NaN or infinity in row 41"),
        (None, RuntimeError, "died over one of the rows .* of X.*num_workers=0"),
    ],
)
def test_errors_name_the_row(network, error, kind, message):
    with pytest.raises(kind, match=message):
        transformer(network, num_workers=2).fit_transform(Files(41, error))


def test_arrays_and_few_rows_are_read_in_this_process(network, monkeypatch):
    import skood.extraction.feeding as feeding

    def refused(*_, **__):
        raise AssertionError

    monkeypatch.setattr(feeding, "DataLoader", refused)
    found = transformer(network, num_workers=2)
    found.fit_transform(Files().X)
    found.transform([row for row, _ in (Files()[n] for n in range(9))])


def test_portions_are_the_rows():
    inputs = Inputs(Files())
    inputs.feeding = Feeding(1, 3)
    starts, parts = zip(*portions(inputs, 16), strict=True)
    assert starts == (0, 16, 32, 48, 64)
    whole = torch.cat([part[slice(None)].args[0] for part in parts])
    assert torch.equal(whole, torch.as_tensor(Files().X))
    keys = np.concatenate([loaded.keys for loaded in fed(inputs, 16)])
    np.testing.assert_array_equal(keys, row_keys([*torch.as_tensor(Files().X)]))


def test_rows_are_picked_from_a_batch_where_they_can_be():
    X = np.arange(12.0).reshape(4, 3)
    numbers = np.arange(4)
    given = [
        (X, [X]),
        ((X, X + 1), [X, X + 1]),
        ({"a": X, "b": X[0:, 0]}, [X, X[:, 0]]),
    ]
    for part, wholes in given:
        picked = as_batch(part, numbers, False).picked(np.array([3, 1]))
        values = [*picked.args, *picked.kwargs.values()]
        for value, whole in zip(values, wholes, strict=True):
            np.testing.assert_array_equal(value, whole[[3, 1]])
        assert picked.n_rows == 2
    setting = as_batch({"a": X, "deep": True}, numbers, False)
    assert setting.picked(np.array([1])) is None
    assert setting.picked(numbers) is setting
