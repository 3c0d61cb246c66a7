"""Whatever is given as X comes to the network as the same rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from networks import Fragile
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from skood import LayerFeatureTransformer, list_layers
from skood.extraction.inputs import Inputs
from skood.features import LOGITS


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(10, 3))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 2))


def logits(network, X, preprocess=None, batch_size=4):
    features = LayerFeatureTransformer(
        network, "logits", preprocess=preprocess, batch_size=batch_size
    )
    return features.fit_transform(X).block(LOGITS)


def expected(network, X):
    with torch.no_grad():
        return network(torch.tensor(X, dtype=torch.float32)).numpy()


class Plain(Dataset):
    """Items without labels."""

    def __init__(self, X):
        self.X = X

    def __len__(self):
        return len(self.X)

    def __getitem__(self, row):
        return torch.tensor(self.X[row])


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


# Refusals --------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_values_are_errors_that_name_their_rows(bad, network, X):
    finite = X.copy()
    X[[5, 8], 1] = bad
    with pytest.raises(ValueError, match=r"X has NaN or infinity in row 8: remove"):
        logits(network, X[[0, 1, 2, 3, 4, 6, 7, 9, 8]], batch_size=4)
    with pytest.raises(ValueError, match="X has NaN or infinity in rows 5, 8"):
        logits(network, X, batch_size=10)
    X[:] = bad
    with pytest.raises(ValueError, match="rows 0, 1, 2, 3, 4 and 5 more of the batch"):
        LayerFeatureTransformer(network, "logits").fit(finite).transform(X)


def test_large_finite_values_are_no_infinity():
    X = torch.full((4, 3), 3e38)
    assert torch.equal(Inputs(X)[slice(0, 4)].args[0], X)


def test_bad_values_made_by_preprocess_are_found_too(network, X):
    with pytest.raises(ValueError, match="input has NaN or infinity in rows 0, 1"):
        logits(network, X, lambda rows: {"input": rows * np.nan})


def test_infinity_in_an_additive_mask_is_meant():
    class Masked(nn.Module):
        def forward(self, x, bias_mask):
            return (x[:, None] + bias_mask).exp().sum(1)

    def masked(rows):
        return {"x": rows, "bias_mask": np.full((len(rows), 2, 3), -np.inf)}

    assert not logits(Masked(), np.ones((4, 3)), masked).any()


@pytest.mark.parametrize(
    "X",
    [np.ones((0, 3)), [], torch.ones(0, 3), TensorDataset(torch.ones(0, 3))],
    ids=["array", "list", "tensor", "Dataset"],
)
def test_no_rows_are_an_error(X, network):
    with pytest.raises(ValueError, match=r"X has 0 rows.*: a minimum of 1"):
        LayerFeatureTransformer(network, "logits").fit(X)


class Endless(IterableDataset):
    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(
    "X", ["text", {"x": [1]}, 3, np.float64(3), None, Endless(), iter([1])]
)
def test_what_has_no_rows_to_cut_is_an_error(X, network):
    with pytest.raises(
        TypeError, match="wanted is an array or tensor whose first axis"
    ):
        LayerFeatureTransformer(network, "logits").fit(X)


def test_texts_without_preprocess_are_an_error(network):
    for texts in (["a", "b"], np.array(["a", "b"], dtype=object)):
        with pytest.raises(TypeError, match=r"rows of X \(str\) .* give preprocess="):
            LayerFeatureTransformer(network, "logits").fit(texts)
    with pytest.raises(TypeError, match=r"rows of preprocess \(str\) .* must do that"):
        logits(network, ["a", "b"], list)


@pytest.mark.parametrize("X", [["a", "b"], [{"input_ids": [1]}, {"input_ids": [2]}]])
def test_the_tokenizer_of_texts_belongs_to_preprocess(network, X):
    for look in (list_layers, LayerFeatureTransformer(network, "1").fit):
        with pytest.raises(
            TypeError, match=r"preprocess=functools\.partial\(tokenizer"
        ):
            look(*((network, X) if look is list_layers else (X,)))


def test_what_a_tokenizer_made_is_no_X(network):
    with pytest.raises(TypeError, match="give the texts as X and the tokenizer as pre"):
        LayerFeatureTransformer(network, "1").fit({"input_ids": torch.ones(2, 3)})


def test_a_loader_is_no_X(network, X):
    loader = DataLoader(TensorDataset(torch.tensor(X)), batch_size=2)
    with pytest.raises(TypeError, match=r"DataLoader, .*: give loader\.dataset"):
        LayerFeatureTransformer(network, "1").fit(loader)
    with pytest.raises(TypeError, match=r"DataLoader, .*: give loader\.dataset"):
        list_layers(network, loader)


def test_preprocess_keeps_the_number_of_rows(network, X):
    message = r"preprocess made X of shape \(1, 3\) from 2 rows: the first axis"
    with pytest.raises(ValueError, match=message):
        logits(network, X, lambda rows: rows[:1])


def test_a_mask_that_keeps_nothing_is_an_error():
    class Pooled(nn.Module):
        def forward(self, x, attention_mask):
            return x

    def masked(rows):
        return {"x": rows, "attention_mask": torch.tensor([[1, 1], [0, 0]])}

    with pytest.raises(ValueError, match="attention_mask keeps no token in row 1"):
        logits(Pooled(), np.ones((2, 2)), masked)


def test_the_networks_own_error_says_where_and_of_what_type():
    network = nn.Sequential(nn.Conv2d(3, 2, 1))
    X = np.ones((6, 3, 4, 4), dtype=np.uint8)
    with pytest.raises(RuntimeError) as caught:
        LayerFeatureTransformer(network, "0").fit(X)
    told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "The network ran on rows 0 to 1 of X." in told
    assert "Its input is X: torch.uint8 of shape (2, 3, 4, 4)." in told
    assert "Its weights are torch.float32; floating inputs are cast" in told


def test_the_networks_own_error_says_what_shape_came(network):
    network = nn.Sequential(nn.Conv2d(3, 2, 1))
    for X in (np.ones((3, 8, 8)), np.ones((5, 1, 8, 8))):
        with pytest.raises(RuntimeError) as caught:
            LayerFeatureTransformer(network, "0").fit(X)
        told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
        shape = (2, *X.shape[1:])
        assert f"Its input is X: torch.float64 of shape {shape}." not in told
        assert f"Its input is X: torch.float32 of shape {shape}." in told


@pytest.mark.parametrize("name", ["x", "pixel_values"])
def test_arguments_that_the_network_does_not_take_by_name_are_told(name):
    class Positional(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, features, **_):
            return self.fc(features)

    with pytest.raises(TypeError, match="missing 1 required positional") as caught:
        LayerFeatureTransformer(
            Positional(), "fc", preprocess=lambda rows: {name: rows}
        ).fit(np.ones((4, 3)))
    told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert f"given as keyword arguments ['{name}']; a tuple that preprocess" in told


def test_an_error_in_the_forward_says_with_which_rows():
    X = np.ones((10, 3))
    X[7] = 1000
    features = LayerFeatureTransformer(Fragile(), "last", batch_size=3).fit(X)
    with pytest.raises(ArithmeticError, match="the network broke") as caught:
        features.transform(X)
    told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "The network ran on rows 6 to 8 of X." in told
