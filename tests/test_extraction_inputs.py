"""Whatever is given as X comes to the network as the same rows."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from given_rows import (
    HOLDERS,
    KINDS,
    Listed,
    Plain,
    expected,
    logits,
    seen_by_preprocess,
)
from torch import nn
from torch.utils.data import (
    TensorDataset,
)

from skood import LayerFeatureTransformer
from skood.extraction.inputs import Inputs


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(10, 3))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 2))


FORMS = {
    "float64": lambda X: X,
    "float32": lambda X: X.astype(np.float32),
    "float16": lambda X: X.astype(np.float16),
    "big-endian": lambda X: X.astype(">f8"),
    "fortran": np.asfortranarray,
    "reversed": lambda X: X[::-1].copy()[::-1],
    "tensor": torch.tensor,
    "list": lambda X: X.tolist(),
    "list of arrays": list,
    "list of tensors": lambda X: [torch.tensor(row) for row in X],
    "list of a Dataset's items": lambda X: [(torch.tensor(row), 7) for row in X],
    "frame": pd.DataFrame,
    "Dataset": Plain,
    "Dataset with labels": lambda X: TensorDataset(
        torch.tensor(X), torch.zeros(len(X))
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_features(form, network, X):
    tolerance = 1e-2 if form == "float16" else 1e-6
    found = logits(network, FORMS[form](X))
    np.testing.assert_allclose(found, expected(network, X), atol=tolerance)


@pytest.mark.parametrize(
    ("form", "preprocess"),
    [
        ("float64", lambda rows: torch.tensor(rows) / 2),
        ("float64", lambda rows: rows / 2),
        ("tensor", lambda rows: rows / 2),
        ("frame", lambda rows: rows.to_numpy() / 2),
        ("list", lambda rows: [[v / 2 for v in row] for row in rows]),
        ("Dataset with labels", lambda rows: rows / 2),
        ("list of a Dataset's items", lambda rows: (rows / 2,)),
        ("list of arrays", lambda rows: {"input": np.stack(rows) / 2}),
    ],
)
def test_preprocess_gets_some_rows_of_the_kind_given(form, preprocess, network, X):
    found = logits(network, FORMS[form](X), preprocess)
    np.testing.assert_allclose(found, expected(network, X / 2), atol=1e-6)


def test_texts_come_to_preprocess_as_a_list(network):
    texts = ["a", "bcd", "ef"]

    def lengths(rows):
        assert isinstance(rows, list)
        return torch.tensor([[len(text)] * 3 for text in rows]).float()

    forms = [texts, np.array(texts), np.array(texts, object), pd.Series(texts)]
    for form in forms:
        found = logits(network, form, lengths, batch_size=2)
        np.testing.assert_allclose(
            found, expected(network, [[1] * 3, [3] * 3, [2] * 3])
        )


def test_items_that_make_no_batch_come_to_preprocess_as_a_list(network):
    class Picture:
        def __init__(self, value):
            self.value = value

    class Pictures(Plain):
        def __getitem__(self, row):
            return Picture(self.X[row]), 0

    def stacked(pictures):
        return np.stack([picture.value for picture in pictures])

    X = np.ones((5, 3))
    found = logits(network, Pictures(X), stacked)
    np.testing.assert_allclose(found, expected(network, X))
    message = r"rows of X \(Picture\) do not make one tensor .*give preprocess="
    with pytest.raises(TypeError, match=message):
        logits(network, Pictures(X))


def test_a_dataset_of_dicts_gives_keyword_arguments(network, X):
    class Dicts(Plain):
        def __getitem__(self, row):
            return {"input": torch.tensor(self.X[row])}

    found = logits(network, Dicts(X))
    np.testing.assert_allclose(found, expected(network, X), atol=1e-6)


def test_the_networks_in_place_operations_leave_X_alone(network, X):
    given = X.astype(np.float32)
    tensor = torch.tensor(given)
    before = given.copy()
    logits(network, given)
    logits(network, tensor)
    logits(network, given, torch.from_numpy)
    np.testing.assert_array_equal(given, before)
    np.testing.assert_array_equal(tensor, before)


def test_a_memory_map_is_read_by_the_batch(network, X, tmp_path):
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    seen = []

    def watched(rows):
        seen.append((type(rows), len(rows), np.shares_memory(rows, mapped)))
        return np.array(rows)

    found = logits(network, mapped, watched)
    assert {(kind, shared) for kind, _, shared in seen} == {(np.memmap, True)}
    assert max(length for _, length, _ in seen) == 4
    np.testing.assert_allclose(found, expected(network, X), atol=1e-6)
    np.testing.assert_allclose(logits(network, mapped), found)


def test_integers_stay_integers():
    network = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(8, 2))
    X = np.arange(6).reshape(3, 2)
    assert logits(network, X).shape == (3, 2)


def test_inputs_are_cast_to_the_type_of_the_weights(X):
    for dtype in (torch.float64, torch.bfloat16):
        network = nn.Sequential(nn.Linear(3, 2)).to(dtype)
        for given in (X, X.astype(np.float32), torch.tensor(X)):
            assert logits(network, given).shape == (10, 2)


def test_inputs_of_a_network_of_several_types_are_left_alone():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 3).double()
            self.b = nn.Linear(3, 2)

        def forward(self, x):
            return self.b(self.a(x).float())

    assert logits(Mixed(), np.ones((4, 3))).shape == (4, 2)


def test_rows_can_be_taken_and_keep_their_numbers(X):
    inputs = Inputs(X).take(np.array([7, 2, 9]))
    assert len(inputs) == 3
    np.testing.assert_array_equal(inputs[slice(1, 3)].args[0], X[[2, 9]])
    again = inputs.take(np.array([2, 0]))
    np.testing.assert_array_equal(again.numbers(slice(None)), [9, 7])
    listed = Inputs(X.tolist()).take(np.array([7, 2]))
    np.testing.assert_array_equal(listed[slice(0, 2)].args[0], X[[7, 2]])


# Items that hold more than one input, or of several lengths -------------------------


class Pair(nn.Module):
    """Takes two inputs, of which the second may be left out."""

    def __init__(self, required=False):
        super().__init__()
        self.fc = nn.Linear(3, 2)
        if required:
            self.forward = self.both

    def forward(self, x, shift=None):
        return self.fc(x if shift is None else x + shift)

    def both(self, x, shift):
        return self.fc(x + shift)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("holder", HOLDERS)
def test_rows_of_several_lengths_come_as_a_list(kind, holder):
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(n, 3)).astype(np.float32) for n in (3, 7, 2, 5, 4)]
    given = HOLDERS[holder]([KINDS[kind](row) for row in rows])

    def means(items):
        return torch.stack([torch.as_tensor(item).mean(0) for item in items])

    seen, found = seen_by_preprocess(given, means)
    # one row alone makes a batch of a Dataset
    assert all(isinstance(part, list) for part in seen if len(part) > 1)
    torch.manual_seed(0)
    expected = nn.Linear(3, 2)(means(rows)).detach()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    message = "do not make one tensor .*: give preprocess=.*pad_sequence"
    with pytest.raises(TypeError, match=message):
        logits(nn.Linear(3, 2), given)


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_comes_as_a_list_and_samples_as_a_batch(kind, X):
    rows = [KINDS[kind](row) for row in X.astype(np.float32)]
    seen, _ = seen_by_preprocess(rows, np.stack)
    assert all(isinstance(part, list) for part in seen)
    seen, _ = seen_by_preprocess([(row, 1) for row in rows])
    assert all(isinstance(part, torch.Tensor) for part in seen)
    seen, _ = seen_by_preprocess(Listed([(row, 1) for row in rows]))
    assert all(isinstance(part, torch.Tensor) for part in seen)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("holder", [*HOLDERS, "TensorDataset", "tuple"])
def test_two_inputs_of_an_item_are_taken_or_asked_about(kind, holder, X):
    torch.manual_seed(0)
    X = X.astype(np.float32)
    other = X[::-1].copy()
    pairs = [(KINDS[kind](a), KINDS[kind](b)) for a, b in zip(X, other, strict=True)]
    given = {
        "TensorDataset": TensorDataset(torch.tensor(X), torch.tensor(other)),
        "tuple": (KINDS[kind](X), KINDS[kind](other)),
    }.get(holder) or HOLDERS[holder](pairs)
    for network in (Pair(), Pair(required=True)):
        expected = network.fc(torch.tensor(X + other)).detach()
        found = logits(network, given, lambda parts: parts)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        by_name = logits(
            network, given, lambda parts: {"x": parts[0], "shift": parts[1]}
        )
        np.testing.assert_allclose(by_name, expected, atol=1e-6)
        if holder == "tuple" or "forward" in vars(network):
            np.testing.assert_allclose(logits(network, given), expected, atol=1e-6)
        else:
            message = r"2 parts that may be inputs .* preprocess=lambda parts: parts\[0"
            with pytest.raises(TypeError, match=message):
                logits(network, given)
    first = logits(Pair(), given, lambda parts: parts[0])
    assert first.shape == (10, 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("holder", HOLDERS)
def test_targets_of_a_network_with_one_input_are_no_inputs(kind, holder, network, X):
    masks = np.ones((10, 2, 2))
    pairs = zip(X, masks, strict=True)
    given = HOLDERS[holder]([(KINDS[kind](a), KINDS[kind](b)) for a, b in pairs])
    found = logits(network, given)
    np.testing.assert_allclose(found, expected(network, X), atol=1e-6)
    found = logits(network, given, lambda rows: rows / 2)
    np.testing.assert_allclose(found, expected(network, X / 2), atol=1e-6)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="errors take notes from 3.11 on")
def test_a_preprocess_that_gets_two_inputs_is_told(X):
    pairs = TensorDataset(torch.tensor(X), torch.tensor(X))
    with pytest.raises(TypeError) as caught:
        logits(Pair(), pairs, lambda rows: rows / 2)
    assert "a tuple of 2 parts" in "\n".join(getattr(caught.value, "__notes__", [""]))


def test_a_tuple_of_tables_has_as_many_rows_each(X):
    with pytest.raises(ValueError, match="a tuple of arrays with 10, 9 rows"):
        logits(Pair(), (X, X[:9]))


@pytest.mark.parametrize("kind", KINDS)
def test_dictionaries_in_a_list_are_named_inputs(kind, X):
    torch.manual_seed(0)
    X = X.astype(np.float32)
    rows = [{"x": KINDS[kind](row), "shift": KINDS[kind](row)} for row in X]
    network = Pair()
    found = logits(network, rows)
    want = network.fc(2 * torch.tensor(X)).detach()
    np.testing.assert_allclose(found, want, atol=1e-6)
    seen, _ = seen_by_preprocess(
        rows, lambda items: np.stack([item["x"] for item in items])
    )
    assert all(isinstance(part, list) for part in seen)


def test_a_data_set_with_a_shape_is_none(X):
    class Columns(Listed):
        shape = (10, 2)

    rows = Columns([{"x": row, "label": 0} for row in X.astype(np.float32)])
    for cache in (None, "memory"):
        features = LayerFeatureTransformer(
            nn.Linear(3, 2), "logits", preprocess=lambda b: b["x"], cache=cache
        )
        assert features.fit_transform(rows).shape == (10, 2)
