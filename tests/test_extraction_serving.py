"""A mode for serving: the same features, and checks that are paid once."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from torch import nn

from skood import LayerFeatureTransformer, Mahalanobis
from skood.extraction import runs
from skood.extraction.serving import Versions


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3)
    return nn.Sequential(*layers)


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(40, 3, 6, 6)).astype(np.float32)


@pytest.fixture
def fitted(network, X):
    return LayerFeatureTransformer(network.train(), ["1", "logits"]).fit(X)


def test_features_are_the_same(fitted, network, X):
    expected = np.asarray(fitted.transform(X))
    with fitted.frozen():
        assert not network.training
        for rows in (slice(0, 1), slice(3, 9), slice(0, 40)):
            found = np.asarray(fitted.transform(X[rows]))
            np.testing.assert_allclose(found, expected[rows], atol=1e-6)
    assert all(part.training for part in network.modules())
    assert not any(part._forward_hooks for part in network.modules())
    np.testing.assert_array_equal(np.asarray(fitted.transform(X)), expected)


def test_the_digest_is_taken_once(fitted, X, monkeypatch):
    calls = []

    def counted(module, **options):
        calls.append(1)
        return digest(module, **options)

    digest = runs.weights_digest
    monkeypatch.setattr(runs, "weights_digest", counted)
    with fitted.frozen():
        for row in range(20):
            fitted.transform(X[row : row + 1])
    assert len(calls) == 1


def test_weights_that_change_are_noticed(fitted, network, X):
    with fitted.frozen():
        weight = network[0].weight.detach().clone()
        with torch.no_grad():
            network[0].weight.mul_(2)
        with pytest.raises(ValueError, match="weights are not those seen in fit"):
            fitted.transform(X[:1])
        with torch.no_grad():
            network[0].weight.copy_(weight)  # counted, but the same numbers
        fitted.transform(X[:1])
        network[3] = nn.Linear(64, 3)
        with pytest.raises(ValueError, match="weights are not those seen in fit"):
            fitted.transform(X[:1])


def test_versions_see_what_torch_counts(network):
    changes = {
        "a weight": lambda: network[0].weight.data.detach() is None,
        "in place": lambda: network[0].weight.detach().add_(1),
        "a buffer": lambda: network[1].running_mean.add_(1),
        "another one": lambda: setattr(network[0], "bias", nn.Parameter(torch.ones(4))),
        "a part": lambda: network.append(nn.ReLU()),
        "a new buffer": lambda: network[2].register_buffer("new", torch.ones(1)),
    }
    for name, change in changes.items():
        versions = Versions(network)
        assert versions.unchanged()
        change()
        assert versions.unchanged() == (name == "a weight"), name


def test_threads_serve_together(fitted, X):
    expected = np.asarray(fitted.transform(X))
    with fitted.frozen(), ThreadPoolExecutor(4) as threads:
        rows = [slice(n, n + 1) for n in range(40)] * 3
        found = threads.map(lambda part: np.asarray(fitted.transform(X[part])), rows)
        for part, features in zip(rows, found, strict=True):
            np.testing.assert_allclose(features, expected[part], atol=1e-6)


def test_what_has_to_wait(fitted, X):
    with fitted.frozen():
        with pytest.raises(ValueError, match="frozen for serving: leave"):
            fitted.fit(X)
        with pytest.raises(ValueError, match="frozen for serving"):
            fitted.set_params(batch_size=3)
        with pytest.raises(ValueError, match="frozen for serving"), fitted.frozen():
            pass
        with pytest.raises(ValueError, match="frozen for serving"):
            pickle.dumps(fitted)
        copied = clone(fitted)
    loaded = pickle.loads(pickle.dumps(fitted))
    for other in (loaded, copied.fit(X), fitted):
        other.set_params(batch_size=3)
        other.transform(X)


def test_an_error_leaves_the_mode(fitted, network, X):
    with pytest.raises(ZeroDivisionError), fitted.frozen():
        raise ZeroDivisionError
    assert network.training
    fitted.fit(X)


def test_errors_in_the_mode_are_told_as_ever(fitted, X):
    with fitted.frozen():
        spoiled = X[:2].copy()
        spoiled[1] = np.nan
        with pytest.raises(ValueError, match="NaN or infinity in row 1"):
            fitted.transform(spoiled)
        fitted.transform(X[:2])


def test_with_a_cache(network, X, tmp_path):
    cached = LayerFeatureTransformer(network, ["1"], cache=tmp_path)
    pipeline = make_pipeline(cached, Mahalanobis()).fit(X)
    expected = pipeline.score_samples(X)
    more = np.random.default_rng(1).normal(size=(3, 3, 6, 6)).astype(np.float32)
    with pipeline[0].frozen():
        np.testing.assert_allclose(pipeline.score_samples(X), expected, rtol=1e-5)
        scores = [pipeline.score_samples(more[row : row + 1])[0] for row in range(3)]
    np.testing.assert_allclose(scores, pipeline.score_samples(more), rtol=1e-4)
