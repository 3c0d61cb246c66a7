"""The network is looked at and nothing else: modes, hooks, memory, where it stops."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
import torch
from network_state import assert_same_state, lived_in, state_of
from networks import Convolutional, Fragile, SharedActivation, convolutional
from sklearn.base import clone
from torch import nn

from skood import LayerFeatureTransformer, layer_names
from skood.extraction.borrow import borrowed


@pytest.fixture
def X():
    return torch.randn(9, 3, 8, 8)


# Leaving no trace ------------------------------------------------------------------


def test_a_pass_leaves_no_trace(X):
    network = lived_in(convolutional(), X)
    before, grad_mode = state_of(network), torch.is_grad_enabled()
    features = LayerFeatureTransformer(
        network, ["conv1", "penultimate", "logits"], ["avg", "gram"], batch_size=4
    )
    features.fit(X).transform(X)
    assert_same_state(before, state_of(network))
    assert torch.is_grad_enabled() == grad_mode


def test_a_pass_stopped_early_leaves_no_trace(X):
    network = lived_in(convolutional(), X)
    before = state_of(network)
    LayerFeatureTransformer(network, "conv1").fit_transform(X)
    assert_same_state(before, state_of(network))


def test_a_forward_that_raises_leaves_no_trace():
    X = np.ones((10, 3))
    network = lived_in(Fragile(), torch.ones(2, 3))
    features = LayerFeatureTransformer(network, ["first", "last"], batch_size=3).fit(X)
    before = state_of(network)
    X[7] = 1000
    with pytest.raises(ArithmeticError):
        features.transform(X)
    assert_same_state(before, state_of(network))
    with pytest.raises(ArithmeticError):
        features.fit(X[7:])
    assert_same_state(before, state_of(network))


def test_a_network_that_was_moved_comes_back_in_its_own_memory(X):
    """The meta device loses all values, so nothing but the originals can come back."""
    network = lived_in(convolutional(), X)
    before = state_of(network)
    with borrowed(network, "meta"):
        assert {p.device.type for p in network.parameters()} == {"meta"}
        assert {p.grad.device.type for p in network.parameters() if p.grad is not None}
        assert {b.device.type for b in network.buffers()} == {"meta"}
        network.register_buffer("made_on_the_way", torch.ones(2))
    assert network.made_on_the_way.device.type == "cpu"
    del network.made_on_the_way
    assert_same_state(before, state_of(network))

    features = LayerFeatureTransformer(network, "conv1", device="meta")
    with pytest.raises((RuntimeError, NotImplementedError)):
        features.fit_transform(X)
    assert_same_state(before, state_of(network))


def test_what_a_module_keeps_from_its_first_forward_can_be_trained_with():
    class Cached(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)
            self.code = None

        def forward(self, x):
            if self.code is None:
                self.code = torch.arange(3.0).to(x.device)
            return self.fc(x * self.code)

    network = Cached()
    LayerFeatureTransformer(network, "logits").fit_transform(np.ones((2, 3)))
    network(torch.ones(2, 3, requires_grad=True)).sum().backward()
    assert network.fc.weight.grad is not None


def test_nothing_keeps_the_transformer_or_the_network_alive(X):
    network = Convolutional()
    features = LayerFeatureTransformer(network, ["conv1", "logits"])
    features.fit_transform(X)
    gone = weakref.ref(features), weakref.ref(network)
    gc.disable()
    try:
        del features, network
        assert [reference() for reference in gone] == [None, None]
    finally:
        gc.enable()


def test_threads_that_share_a_network_do_not_mix_their_rows():
    network = SharedActivation().train()
    inputs = [np.full((40, 4), float(number)) for number in range(4)]
    features = LayerFeatureTransformer(network, ["maps.0", "logits"], batch_size=3)
    features.fit(inputs[0])
    expected = [np.asarray(features.transform(X)) for X in inputs]
    found: dict[int, np.ndarray] = {}

    def work(number):
        own = clone(features).fit(inputs[number])
        found[number] = np.asarray(own.transform(inputs[number]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert network.training
    for number in range(4):
        np.testing.assert_array_equal(found[number], expected[number])


# Stopping early, and shared modules ------------------------------------------------


def calls_of(network, layers, X):
    """How often each part ran in a transform, after the fit."""
    features = LayerFeatureTransformer(network, layers, batch_size=len(X)).fit(X)
    calls = dict.fromkeys(layer_names(network), 0)

    def count(name):
        def hook(module, args):
            calls[name] += 1

        return hook

    handles = [
        part.register_forward_pre_hook(count(name))
        for name, part in network.named_modules()
        if name
    ]
    features.transform(X)
    for handle in handles:
        handle.remove()
    return calls


def test_the_forward_stops_after_the_deepest_wanted_layer(X):
    calls = calls_of(convolutional(), ["relu1", "conv1"], X)
    ran = [name for name, count in calls.items() if count]
    assert ran == ["conv1", "bn1", "relu1"]
    calls = calls_of(convolutional(), ["conv1", "logits"], X)
    assert set(calls.values()) == {1}


def test_the_head_itself_does_not_run_for_its_input(X):
    network = convolutional()
    features = LayerFeatureTransformer(network, "penultimate").fit(X)
    ran = []
    network.fc.forward = lambda x: ran.append(x)
    features.transform(X)
    assert ran == []


def test_a_network_that_catches_its_errors_still_stops():
    class Careful(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x):
            try:
                x = self.a(x)
            except Exception:  # as real networks do
                x = x * 0
            return self.b(x)

    assert calls_of(Careful(), ["a"], np.ones((4, 3)))["b"] == 0


def test_a_module_that_runs_several_times_counts_for_its_last_run():
    torch.manual_seed(0)
    network = SharedActivation(3)
    X = torch.randn(5, 4)
    features = LayerFeatureTransformer(network, ["act", "penultimate"])
    found = features.fit_transform(X)
    np.testing.assert_array_equal(found.block("act"), found.block("penultimate"))
    # which run is the last one is known at the end only
    assert calls_of(network, ["act"], X)["head"] == 1
    assert calls_of(network, ["maps.1"], X)["maps.2"] == 0


class Loop(nn.Module):
    """A cell that runs once a step, however many there are."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRUCell(4, 5), nn.Linear(5, 2)

    def forward(self, x):
        state = torch.zeros(len(x), 5)
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        return self.head(state)

    def last_state(self, x):
        seen = []
        handle = self.cell.register_forward_hook(lambda *args: seen.append(args[2]))
        with torch.no_grad():
            self(x)
        handle.remove()
        return seen[-1]


@pytest.mark.parametrize("probed_steps", [1, 3, 9])
def test_a_loop_over_more_or_fewer_steps_than_probed_runs_to_its_end(probed_steps):
    torch.manual_seed(0)
    network = Loop()
    features = LayerFeatureTransformer(network, "cell", batch_size=4)
    features.fit(torch.randn(4, probed_steps, 4))
    for steps in (6, 1, 6, 3):
        X = torch.randn(10, steps, 4)
        found = features.transform(X).block("cell")
        np.testing.assert_allclose(found, network.last_state(X), atol=1e-6)


@pytest.mark.parametrize("cache", [None, "folder"])
def test_a_loop_over_inputs_of_several_lengths_runs_to_its_end(cache, tmp_path):
    torch.manual_seed(0)
    network = Loop()
    lengths = [1, 1, 2, 5, 5, 3, 1, 1]
    X = [torch.randn(length, 4).tolist() for length in lengths]

    def padded(rows):
        longest = max(map(len, rows))
        return torch.tensor([[[0.0] * 4] * (longest - len(r)) + r for r in rows])

    features = LayerFeatureTransformer(
        network, "cell", preprocess=padded, batch_size=2, cache=cache and tmp_path
    )
    parts = [network.last_state(padded(X[k : k + 2])) for k in range(0, 8, 2)]
    found = features.fit_transform(X).block("cell")
    np.testing.assert_allclose(found, torch.cat(parts), atol=1e-6)


def test_a_batch_of_another_shape_is_stopped_early_once_one_like_it_ran():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv1d(2, 3, 1), nn.Linear(3, 2)

        def forward(self, x):
            return self.last(self.first(x).mean(2))

    network, ran = Pooled(), []
    network.last.register_forward_hook(lambda _, args, __: ran.append(len(args[0])))
    features = LayerFeatureTransformer(network, "first", batch_size=4)
    features.fit(torch.randn(6, 2, 7))
    features.transform(torch.randn(6, 2, 7))
    assert ran == [2]  # the probe
    features.transform(torch.randn(6, 2, 9)[:, :, :8])
    features.transform(torch.randn(5, 2, 8))
    assert ran == [2, 4]


def test_a_network_that_runs_less_often_than_probed_runs_to_its_end():
    network = SharedActivation(3)
    X = torch.randn(5, 4)
    features = LayerFeatureTransformer(network, "act").fit(X)
    network.depth = 1
    with torch.no_grad():
        expected = network.act(network.maps[0](X))
    np.testing.assert_allclose(features.transform(X).block("act"), expected)
    network.depth = 0
    with pytest.raises(ValueError, match="layer 'act' did not run"):
        features.transform(X)
