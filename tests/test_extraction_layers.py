"""The listing of a network's layers: right names, shapes, shares and no trace."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from network_state import assert_same_state, lived_in, state_of
from networks import Convolutional, Fragile, SharedActivation, Tokens, convolutional
from torch import nn

from skood import LayerFeatureTransformer, layer_names, list_layers


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype("float32")


class Slow(nn.Module):
    """Does nothing for a while."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def forward(self, x):
        time.sleep(self.seconds)
        return x


def test_one_row_a_layer_in_the_order_in_which_they_end(X):
    table = list_layers(convolutional(), X)
    assert table.index.name == "layer"
    assert [*table.index] == [
        *("conv1", "bn1", "relu1", "block.0", "block.1", "block.2", "block"),
        *("conv2", "pool", "dropout", "penultimate", "fc", "logits"),
    ]
    assert table.loc["bn1", "type"] == "BatchNorm2d"
    assert table.loc["block", "type"] == "Sequential"
    assert table.loc["penultimate", "type"] == "input of fc"
    assert table.loc["logits", "type"] == "Convolutional"
    assert (table["runs"] == 1).all()


def test_shapes_and_parameters_are_those_of_the_network(X):
    network = convolutional()
    table = list_layers(network, X, batch_size=3)
    stages = network.eval().stages(torch.tensor(X[:3]))
    for name, values in stages.items():
        assert table.loc[name, "output"] == tuple(values.shape), name
    for name in layer_names(network):
        size = sum(p.numel() for p in network.get_submodule(name).parameters())
        assert table.loc[name, "parameters"] == size, name
    assert table.loc["logits", "parameters"] == sum(
        p.numel() for p in network.parameters()
    )


def test_every_name_that_runs_is_one_that_the_transformer_takes(X):
    network = convolutional()
    table = list_layers(network, X)
    features = LayerFeatureTransformer(network, [*table.index]).fit_transform(X)
    assert set(features.layers) == set(table.index)


@pytest.mark.parametrize(
    ("network", "rows"),
    [
        (convolutional(), torch.rand(4, 3, 8, 8)),
        (SharedActivation(), torch.rand(4, 4)),
        (nn.Linear(4, 2), torch.rand(4, 4)),
    ],
    ids=["convolutional", "shared", "one layer"],
)
def test_shares_of_time_add_to_one_and_savings_fall(network, rows):
    table = list_layers(network, rows, repeats=3)
    assert table["time"].sum() == pytest.approx(1.0)
    assert (table["time"] >= 0).all()
    ran = table[table["runs"] > 0]
    assert (ran["saved"].diff().dropna() <= 0).all()
    assert ran["saved"].iloc[-1] == 0.0
    assert ran["saved"].between(0, 1).all()


def test_time_is_given_to_the_layer_that_takes_it():
    network = nn.Sequential(
        nn.Sequential(Slow(0.01), nn.Linear(3, 3)), Slow(0.03), nn.Linear(3, 2)
    )
    table = list_layers(network, np.ones((2, 3)), repeats=3)
    assert table["time"].idxmax() == "1"
    assert table.loc["0.0", "time"] > table.loc["0", "time"]
    assert table.loc["0", "saved"] > 0.5 > table.loc["1", "saved"]


def test_layers_that_run_several_times_or_never_say_so():
    table = list_layers(SharedActivation(3), torch.rand(4, 4))
    assert table.loc["act", "runs"] == 3
    assert table.index[-1] == "maps"
    assert table.loc["maps", ["runs", "time"]].tolist() == [0, 0]
    assert table.loc["maps", "output"] is None
    assert np.isnan(table.loc["maps", "saved"])
    # the last run counts, and everything but the head lies before it
    assert table.loc["act", "saved"] < table.loc["maps.2", "saved"]


def test_other_names_of_a_shared_layer_have_no_time_of_their_own():
    linear = nn.Linear(3, 3)
    network = nn.ModuleDict({"a": linear, "b": linear})
    network.forward = lambda x: linear(x)
    table = list_layers(network, np.ones((2, 3)))
    assert table.loc["b", "type"] == "Linear, the same as a"
    assert table.loc["b", "time"] == 0
    assert table.loc["b", "output"] == table.loc["a", "output"] == (2, 3)
    assert table["time"].sum() == pytest.approx(1.0)


def test_an_output_that_is_no_vector_is_not_called_logits(X):
    table = list_layers(nn.Sequential(nn.Conv2d(3, 2, 3)), X)
    assert [*table.index] == ["0", ""]
    assert "penultimate" not in table.index


def test_texts_go_through_preprocess():
    def batch(texts):
        ids = torch.tensor([[len(text), 1, 0] for text in texts])
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}

    table = list_layers(Tokens(), ["a", "bcd"], preprocess=batch)
    assert table.loc["embed", "output"] == (2, 3, 8)
    assert table.loc["logits", "output"] == (2, 3)


def test_a_part_that_raises_inside_a_careful_parent():
    class Careful(nn.Module):
        def __init__(self):
            super().__init__()
            self.bad, self.good = Fragile(), nn.Linear(3, 2)

        def forward(self, x):
            try:
                return self.bad(x + 1000)
            except ArithmeticError:
                return self.good(x)

    table = list_layers(Careful(), np.ones((2, 3)))
    assert table.loc["bad.first", "runs"] == 1
    assert table.loc["bad", "runs"] == 0
    assert table["time"].sum() == pytest.approx(1.0)


def test_nothing_is_left_on_the_network(X):
    network = lived_in(Convolutional(), torch.tensor(X))
    before, given = state_of(network), X.copy()
    list_layers(network, X, repeats=1)
    assert_same_state(before, state_of(network))
    np.testing.assert_array_equal(X, given)

    network = lived_in(Fragile(), torch.ones(2, 3))
    before = state_of(network)
    with pytest.raises(ArithmeticError):
        list_layers(network, np.full((2, 3), 1000.0))
    assert_same_state(before, state_of(network))


@pytest.mark.parametrize("name", ["repeats", "batch_size"])
def test_numbers_below_one_are_errors(name, X):
    with pytest.raises(ValueError, match=f"{name}=0: a minimum of 1 is required"):
        list_layers(convolutional(), X, **{name: 0})


def test_a_wrong_layer_name_says_how_to_list_them(X):
    with pytest.raises(ValueError, match=r"skood\.list_layers\(network, X\) shows"):
        LayerFeatureTransformer(convolutional(), "conv9").fit(X)


@pytest.mark.parametrize("value", ["a", 1.5, None])
@pytest.mark.parametrize("name", ["repeats", "batch_size"])
def test_what_is_no_whole_number_is_an_error(name, value, X):
    with pytest.raises(TypeError, match=f"{name}={value!r}: wanted is an integer"):
        list_layers(convolutional(), X, **{name: value})


def test_a_preprocess_that_cannot_be_called_is_an_error(X):
    with pytest.raises(TypeError, match="preprocess=3: wanted is a function"):
        list_layers(convolutional(), X, preprocess=3)


def test_pandas_is_needed_only_when_a_table_is_made():
    code = "import sys; sys.modules['pandas'] = None; import skood.extraction.layers"
    subprocess.run([sys.executable, "-c", code], check=True)
