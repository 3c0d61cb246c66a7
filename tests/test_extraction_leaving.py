"""Results that leave a device by a stream of their own, played on the CPU."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from networks import Hungry
from torch import nn

from skood import LayerFeatureTransformer
from skood.extraction import forward, leaving
from skood.extraction.inputs import Inputs

BATCH = 10


class Stream:
    """A stream that copies nothing before its event is waited for."""

    def __init__(self, log):
        self.log, self.copies, self.follows = log, [], []

    def wait_stream(self, other):
        self.follows.append(other)

    def record_event(self):
        copies, self.copies = self.copies, []
        return Event(self.log, copies)


class Event:
    def __init__(self, log, copies):
        self.log, self.copies = log, copies

    def synchronize(self):
        self.log.append("waited")
        for copy in self.copies:
            copy()


class Pinned:
    """Memory in which there is nothing yet."""

    def __init__(self, value, stream):
        self.held, self.stream = torch.full_like(value, torch.nan), stream

    def copy_(self, value, non_blocking):
        assert non_blocking
        assert self.stream.follows[-1] == "main"
        self.stream.copies.append(lambda: self.held.copy_(value))

    def numpy(self):
        return self.held.numpy()


@pytest.fixture
def log(monkeypatch):
    """Returns what happens, when all results take the way of those of CUDA."""
    log: list[str] = []
    stream = Stream(log)
    monkeypatch.setattr(forward, "_leaves_later", lambda device: True)
    monkeypatch.setattr(leaving, "_is_on_device", lambda value: True)
    monkeypatch.setattr(leaving, "_side_stream", lambda device: stream)
    monkeypatch.setattr(leaving, "_pinned_like", lambda value: Pinned(value, stream))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "main")
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda value, stream: None)
    return log


class Logged(nn.Module):
    """Says when it runs, and fails at a row of a certain value."""

    def __init__(self, log, fails_at=np.inf):
        super().__init__()
        self.linear, self.log, self.fails_at = nn.Linear(4, 3), log, fails_at

    def forward(self, x):
        self.log.append("forward")
        if (x >= self.fails_at).any():
            raise RuntimeError("by design")
        return self.linear(x)


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(35, 4)).astype(np.float32)


def plain(network, X):
    with torch.no_grad():
        return network(torch.as_tensor(X)).numpy()


def test_the_next_batch_is_computed_before_results_are_waited_for(log, X):
    network = Logged(log)
    features = LayerFeatureTransformer(network, "linear", batch_size=BATCH).fit(X)
    log.clear()
    found = np.asarray(features.transform(X))
    assert log == ["forward", *["forward", "waited"] * 3, "waited"]
    np.testing.assert_allclose(found, plain(network.linear, X), rtol=1e-5, atol=1e-6)


def test_an_error_loses_nothing_that_was_computed_before(log, X):
    X[25] = 100.0
    network, inputs, found = Logged(log, fails_at=50.0), Inputs(X), []
    keys, settings = [("linear", "avg")], forward.Settings(BATCH, "cpu")
    known = forward.probed(network, inputs, keys, settings=settings)[0]
    with pytest.raises(RuntimeError, match="by design"):
        found.extend(forward.extract(network, inputs, keys, known, settings))
    assert [rows for rows, _ in found] == [slice(0, 10), slice(10, 20)]
    values = np.concatenate([values[keys[0]] for _, values in found])
    np.testing.assert_allclose(values, plain(network.linear, X[:20]), atol=1e-5)


def test_batches_are_halved_where_memory_is_scarce(log, X):
    network, X = Hungry(limit=5), X[:30, :3]
    features = LayerFeatureTransformer(network, "logits", batch_size=16).fit(X)
    network.seen.clear()
    found = np.asarray(features.transform(X))
    assert network.seen == [16, 8, 4, 4, 4, 4, 4, 4, 4, 2]
    np.testing.assert_allclose(found, plain(network.fc, X), atol=1e-5)


def test_frozen_networks_send_their_results_likewise(log, X):
    network = Logged(log)
    features = LayerFeatureTransformer(network, "linear", batch_size=BATCH).fit(X)
    with features.frozen():
        log.clear()
        found = np.asarray(features.transform(X[:1]))
    assert log == ["forward", "waited"]
    np.testing.assert_allclose(found, plain(network.linear, X[:1]), atol=1e-5)
