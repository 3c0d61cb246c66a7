"""Layers and networks that put out several tensors, or tensors of other kinds."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence

from skood import MSP, LayerFeatures, LayerFeatureTransformer, layer_names, list_layers
from skood.extraction.entries import entry_name, split_name

Named = namedtuple("Named", ["map", "other"])


@dataclass
class Output:
    map: torch.Tensor
    other: torch.Tensor


class Bare:
    def __init__(self, map, other):
        self.map, self.other = map, other


CONTAINERS = {
    "tuple": lambda a, b: (a, b),
    "list": lambda a, b: [a, b],
    "dict": lambda a, b: {"map": a, "other": b},
    "numbered": lambda a, b: {0: a, 1: b},
    "named tuple": Named,
    "dataclass": Output,
    "namespace": lambda a, b: SimpleNamespace(map=a, other=b),
    "object": Bare,
    "nested": lambda a, b: {"map": [a], "other": (None, {"deep": b})},
}
NAMES = {
    "tuple": ("[0]", "[1]"),
    "list": ("[-2]", "[-1]"),
    "dict": ("['map']", '["other"]'),
    "numbered": ("[0]", "[1]"),
    "named tuple": ("['map']", "[1]"),
    "dataclass": ("['map']", "[-1]"),
    "namespace": ("['map']", "['other']"),
    "object": ("['map']", "['other']"),
    "nested": ("['map'][0]", "['other'][1]['deep']"),
}


class Both(nn.Module):
    """Puts out two maps of its input, in some container."""

    def __init__(self, container):
        super().__init__()
        self.make = CONTAINERS[container]

    def forward(self, x):
        return self.make(2 * x, x[:, :2] ** 2)


class Holding(nn.Module):
    def __init__(self, container):
        super().__init__()
        self.block = Both(container)

    def forward(self, x):
        self.block(x)
        return x.flatten(1)[:, :3]


@pytest.fixture
def X():
    return torch.tensor(np.random.default_rng(0).normal(size=(6, 3, 4, 5))).float()


@pytest.mark.parametrize("container", CONTAINERS)
def test_entries_of_every_container_can_be_named(container, X):
    network = Holding(container)
    first, second = (f"block{name}" for name in NAMES[container])
    found = LayerFeatureTransformer(network, [first, second]).fit_transform(X)
    np.testing.assert_allclose(found.block(first), (2 * X).mean((2, 3)), atol=1e-6)
    expected = (X[:, :2] ** 2).mean((2, 3))
    np.testing.assert_allclose(found.block(second), expected, atol=1e-6)
    assert found.select(second).widths == {(second, "avg"): 2}


@pytest.mark.parametrize("container", CONTAINERS)
def test_entries_are_listed_by_names_that_take_them(container, X):
    table = list_layers(Holding(container), X, batch_size=6)
    names = [name for name in table.index if "[" in name]
    assert [table.loc[name, "output"] for name in names] == [(6, 3, 4, 5), (6, 2, 4, 5)]
    assert table.loc[names[1], "type"] == "entry of block"
    LayerFeatureTransformer(Holding(container), names).fit(X)


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_entry_that_is_taken_unasked_is_named(container, X):
    features = LayerFeatureTransformer(Holding(container), "block")
    with pytest.warns(
        UserWarning, match="layer 'block' puts out several tensors; "
    ) as w:
        found = features.fit_transform(X)
    assert len(w) == 1
    np.testing.assert_allclose(found.block("block"), (2 * X).mean((2, 3)), atol=1e-6)


def test_an_entry_that_is_not_there_is_an_error(X):
    for name, lacking in [("block[2]", "2"), ("block['x']", "'x'"), ("block[0][0]", 0)]:
        features = LayerFeatureTransformer(Holding("tuple"), name)
        message = rf"puts out no entry \[{lacking}\] .* it puts out \[0\], \[1\]"
        with pytest.raises(ValueError, match=message):
            features.fit(X)
    with pytest.raises(ValueError, match=r"the network has no layer 'blok\[0\]'"):
        LayerFeatureTransformer(Holding("tuple"), "blok[0]").fit(X)


def test_names_are_taken_apart_and_put_together():
    for name in ["a", "a.b[0]", "a[-1]['x']", "['x']", "a[b]", "a[0]x"]:
        assert entry_name(*split_name(name)) == name
    assert split_name("a[b]") == ("a[b]", ())


def test_a_module_whose_own_name_has_brackets_is_found():
    network = nn.Sequential(nn.Linear(3, 2))
    network.add_module("x[0]", nn.Linear(2, 4))
    found = LayerFeatureTransformer(network, "x[0]").fit_transform(np.ones((3, 3)))
    assert found.widths == {("x[0]", "avg"): 4}


# The network's output --------------------------------------------------------------


class Heads(nn.Module):
    """Features, logits and more, in an order and a container."""

    def __init__(self, order, container=tuple):
        super().__init__()
        self.a, self.fc = nn.Linear(5, 6), nn.Linear(6, 3)
        self.order, self.container = order, container

    def forward(self, x):
        features = self.a(x).relu()
        parts = {"features": features, "scores": self.fc(features), "ids": x.long()}
        made = {name: parts[name] for name in self.order}
        return made if self.container is dict else self.container(made.values())


@pytest.mark.parametrize("container", [tuple, list, dict])
@pytest.mark.parametrize(
    "order", [("features", "scores"), ("scores", "features"), ("ids", "scores")]
)
def test_logits_are_what_the_last_linear_map_puts_out(order, container, X):
    network, X = Heads(order, container), X.flatten(1)[:, :5]
    features = LayerFeatureTransformer(network, ["penultimate", "logits"])
    if "ids" in order:
        found = features.fit_transform(X)
    else:
        with pytest.warns(UserWarning, match="the network puts out several tensors"):
            found = features.fit_transform(X)
    hidden = network.a(X).relu()
    np.testing.assert_allclose(found.block("penultimate"), hidden.detach(), atol=1e-6)
    expected = network.fc(hidden).detach()
    np.testing.assert_allclose(found.block("logits"), expected, atol=1e-6)
    np.testing.assert_allclose(features.transform(X), found)


def test_an_entry_of_the_output_can_be_named(X):
    network, X = Heads(("features", "scores")), X.flatten(1)[:, :5]
    layers = ["logits[1]", ("[0]", "max")]
    found = LayerFeatureTransformer(network, layers).fit_transform(X)
    hidden = network.a(X).relu().detach()
    np.testing.assert_allclose(found.block("[0]"), hidden, atol=1e-6)
    expected = network.fc(hidden).detach()
    np.testing.assert_allclose(found.block("logits[1]"), expected, atol=1e-6)
    # what reads logits reads the entry that is there
    np.testing.assert_array_equal(found.block("logits"), found.block("logits[1]"))
    assert MSP().fit(found).score_samples(found).shape == (6,)
    whole = LayerFeatures({"logits": expected.numpy()})
    np.testing.assert_allclose(
        MSP().fit(found).score_samples(found), MSP().fit(whole).score_samples(whole)
    )


# Names that mean something ---------------------------------------------------------


class Taken(nn.Module):
    def __init__(self, last):
        super().__init__()
        self.penultimate, self.logits = nn.Linear(5, 6), nn.Linear(6, 3)
        self.last = last

    def forward(self, x):
        z = self.logits(self.penultimate(x).relu())
        return torch.log_softmax(z, 1) if self.last else z


def test_modules_of_reserved_names_can_be_had(X):
    network, X = Taken(last=True), X.flatten(1)[:, :5]
    assert layer_names(network) == [".penultimate", ".logits"]
    table = list_layers(network, X)
    assert {".penultimate", ".logits", "logits"} <= {*table.index}
    with pytest.warns(
        UserWarning, match=r"a module of that name .* '\.logits'"
    ) as told:
        found = LayerFeatureTransformer(network, ["logits"]).fit_transform(X)
    assert len(told) == 1
    np.testing.assert_allclose(found.block("logits"), network(X).detach(), atol=1e-6)
    found = LayerFeatureTransformer(network, [".logits", ".penultimate"]).fit_transform(
        X
    )
    hidden = network.penultimate(X)
    np.testing.assert_allclose(found.block(".penultimate"), hidden.detach(), atol=1e-6)
    expected = network.logits(hidden.relu()).detach()
    np.testing.assert_allclose(found.block(".logits"), expected, atol=1e-6)


def test_a_clash_that_changes_nothing_is_silent(X):
    network, X = Taken(last=False), X.flatten(1)[:, :5]
    LayerFeatureTransformer(network, ["logits"]).fit(X)
    with pytest.warns(UserWarning, match=r"'\.penultimate'"):
        LayerFeatureTransformer(network, ["penultimate"]).fit(X)


def test_a_head_that_is_called_by_keyword_has_its_input(X):
    class Keyword(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.fc = nn.Linear(5, 6), nn.Linear(6, 3)

        def forward(self, x):
            return self.fc(input=self.a(x).relu())

    network, X = Keyword(), X.flatten(1)[:, :5]
    features = LayerFeatureTransformer(network, ["penultimate"])
    expected = network.a(X).relu().detach()
    for found in (features.fit_transform(X), features.transform(X)):
        np.testing.assert_allclose(found.block("penultimate"), expected, atol=1e-6)
    assert "penultimate" in list_layers(network, X).index


# Tensors that are not dense reals --------------------------------------------------


class Applied(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_complex_outputs_are_their_real_and_imaginary_parts(axes, X):
    X = X.flatten(2).flatten(4 - axes) if axes > 1 else X.flatten(1)
    X = X if axes < 3 else X.reshape(6, 3, 4, 5)
    network = nn.Sequential(Applied(lambda x: torch.fft.fft(x)))
    found = LayerFeatureTransformer(network, "0", "flatten").fit_transform(X)
    z = torch.fft.fft(X)
    norms = z.abs().flatten(1).norm(dim=1)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), norms, rtol=1e-5)
    with pytest.raises(ValueError, match="complex numbers, which are no logits"):
        LayerFeatureTransformer(network, "logits").fit(X.flatten(1))


def test_sparse_outputs_and_buffers_are_read(X):
    network = nn.Sequential(Applied(lambda x: x.to_sparse()))
    network.register_buffer("graph", torch.eye(3).to_sparse())
    found = LayerFeatureTransformer(network, "0", cache="memory").fit_transform(X)
    np.testing.assert_allclose(found.block("0"), X.mean((2, 3)), atol=1e-6)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantised_outputs_are_their_values(X):
    def quantised(x):
        return torch.quantize_per_tensor(x, 0.1, 10, torch.quint8)

    network = nn.Sequential(Applied(quantised))
    found = LayerFeatureTransformer(network, "0").fit_transform(X)
    expected = quantised(X).dequantize().mean((2, 3))
    np.testing.assert_allclose(found.block("0"), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused():
    network = nn.Sequential(Applied(lambda x: torch.nested.nested_tensor([*x])))
    with pytest.raises(ValueError, match="puts out a nested tensor"):
        LayerFeatureTransformer(network, "0").fit(np.ones((3, 2, 2)))


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(5, 4, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x, lengths=None):
        if lengths is not None:
            x = pack_padded_sequence(
                x, lengths.cpu(), batch_first=True, enforce_sorted=False
            )
        _, (state, _) = self.rnn(x)
        return self.head(state[-1])


@pytest.mark.parametrize("form", ["padded", "packed"])
def test_packed_sequences_are_pooled_over_their_own_steps(form):
    torch.manual_seed(0)
    rows = [torch.randn(n, 5) for n in (3, 7, 1, 5, 2)]

    def padded(rows):
        longest = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return longest, torch.tensor([len(row) for row in rows])

    def packed(rows):
        return pack_sequence(rows, enforce_sorted=False)

    network = Packed()
    statistics = ["avg", "max", "std", "first", "last"]
    features = LayerFeatureTransformer(
        network,
        ["rnn", "logits"],
        statistics,
        preprocess=padded if form == "padded" else packed,
        batch_size=2,
    )
    found = features.fit_transform(rows)
    with torch.no_grad():
        steps = [network.rnn(row[None])[0][0] for row in rows]
    expected = {
        "avg": [s.mean(0) for s in steps],
        "max": [s.amax(0) for s in steps],
        "std": [s.std(0, correction=0) for s in steps],
        "first": [s[0] for s in steps],
        "last": [s[-1] for s in steps],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(
            found.block("rnn", name), torch.stack(values), atol=1e-5, err_msg=name
        )
    np.testing.assert_allclose(
        found.block("logits"), network.head(expected_last(steps)).detach(), atol=1e-5
    )


def expected_last(steps):
    return torch.stack([s[-1] for s in steps])
