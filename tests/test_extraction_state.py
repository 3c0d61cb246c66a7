"""Networks that do more than compute: in their modes, in their forwards, in threads."""

from __future__ import annotations

import copy
import pickle
import threading
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from skood import LayerFeatureTransformer, list_layers
from skood.extraction.again import unlike_before
from skood.extraction.borrow import borrowed
from skood.extraction.kept import KeptTensors


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)


def facts(network):
    """Modes, tensors with their places and versions, and plain attributes."""
    tensors = {
        name: (id(t), t.data_ptr(), t.clone())
        for name, t in [*network.named_parameters(), *network.named_buffers()]
    }
    plain = {
        f"{name}.{key}": copy.copy(value)
        for name, part in network.named_modules()
        for key, value in vars(part).items()
        if isinstance(value, (bool, int, list, str, nn.Module, dict))
        and not key.startswith("_")
    }
    return [part.training for part in network.modules()], tensors, plain


def assert_left_as_it_was(before, network):
    modes, tensors, plain = facts(network)
    assert modes == before[0]
    assert plain == before[2]
    assert tensors.keys() == before[1].keys()
    for name, (identity, place, values) in before[1].items():
        assert tensors[name][:2] == (identity, place), name
        assert torch.equal(tensors[name][2], values), name


# Modes that are more than a flag ---------------------------------------------------


class Merging(nn.Module):
    """Folds an adapter into its weight in eval(), and takes it out in train()."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(5, 4)
        self.adapter = nn.Parameter(torch.randn(4, 5) / 3)
        self.merged = False

    def train(self, mode=True):
        if self.merged == mode:
            self.base.weight.data += -self.adapter.data if mode else self.adapter.data
            self.merged = not mode
        return super().train(mode)

    def forward(self, x):
        adapted = 0 if self.merged else x @ self.adapter.T
        return self.base(x) + adapted


class Swapping(nn.Module):
    """Runs one part in training, another in evaluation, as reparametrised nets do."""

    def __init__(self):
        super().__init__()
        self.slow, self.fast = nn.Linear(5, 4), None
        self.active = self.slow

    def train(self, mode=True):
        super().train(mode)
        if not mode and self.fast is None:
            self.fast = copy.deepcopy(self.slow)
        if mode:
            self.fast = None
        self.active = self.slow if mode else self.fast
        return self

    def forward(self, x):
        return self.active(x)


class Emptying(nn.Module):
    """Keeps a list and a dictionary, which every change of mode empties."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(5, 4)
        self.seen, self.cache = [1, 2], {"key": torch.ones(2)}

    def train(self, mode=True):
        self.seen.clear()
        self.cache.clear()
        return super().train(mode)

    def forward(self, x):
        return self.a(x)


class Frozen(nn.Module):
    """Has a batch norm that train() leaves in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.Linear(5, 4), nn.BatchNorm1d(4)

    def train(self, mode=True):
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, x):
        return self.norm(self.a(x))


class Evaluating(nn.Module):
    """Overrides eval() alone."""

    def __init__(self):
        super().__init__()
        self.a, self.state = nn.Linear(5, 4), "training"

    def eval(self):
        self.state = "evaluation"
        self.a.weight.data.mul_(3)
        return super().eval()

    def forward(self, x):
        return self.a(x)


MODES = [Merging, Swapping, Emptying, Frozen, Evaluating]


@pytest.mark.parametrize("training", [True, False, "mixed", "thawed"])
@pytest.mark.parametrize("kind", MODES)
def test_modes_that_do_more_are_undone(kind, training, X):
    torch.manual_seed(0)
    network = nn.Sequential(kind(), nn.ReLU(), nn.Linear(4, 3)).train()
    if training is False:
        network.eval()
    if training == "mixed":
        network[0].eval()
    if training == "thawed":
        for part in network.modules():
            part.training = True
    before = facts(network)
    features = LayerFeatureTransformer(network, ["0", "2"])
    features.fit(X)
    assert_left_as_it_was(before, network)
    features.transform(X)
    assert_left_as_it_was(before, network)
    expected = copy.deepcopy(network).eval()(torch.tensor(X)).detach()
    found = features.transform(X).block("2")
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_modes_are_given_back_after_an_error():
    network = nn.Sequential(Merging(), nn.Linear(4, 3)).train()
    before = facts(network)
    with pytest.raises(RuntimeError), borrowed(network):
        raise RuntimeError
    assert_left_as_it_was(before, network)


@pytest.mark.parametrize("norm", [spectral_norm, weight_norm])
@pytest.mark.parametrize("training", [True, False])
def test_a_head_that_is_computed_is_read_in_evaluation_mode(norm, training, X):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), norm(nn.Linear(6, 3)))
    network.train(training)
    before = facts(network)
    features = LayerFeatureTransformer(network, ["penultimate", "logits"])
    found = features.fit_transform(X)
    list_layers(network, X)
    assert_left_as_it_was(before, network)
    logits = found.head.logits(found.block("penultimate"))
    np.testing.assert_allclose(logits, found.block("logits"), atol=1e-5)


# Forwards that write ---------------------------------------------------------------


class Writing(nn.Module):
    """A linear layer; what its forward writes to is up to the subclass."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(5, 4)
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("lowest", torch.zeros(0))
        self.done, self.loose = False, torch.zeros(2)

    def forward(self, x):
        with torch.no_grad():
            self.write(x)
        return self.a(x) - self.mean


class Statistics(Writing):
    names = ("0.mean",)

    def write(self, x):
        self.mean.lerp_(self.a(x).mean(0), 0.5)


class Replacing(Writing):
    names = ("0.mean",)

    def write(self, x):
        self.mean = self.mean / 2 + self.a(x).mean(0)


class Counting(Writing):
    names = ("0.calls",)

    def write(self, x):
        self.calls += 1


class Observing(Writing):
    names = ("0.lowest",)

    def write(self, x):
        self.lowest.resize_(4).copy_(self.a(x).amin(0))


class Rescaling(Writing):
    """Divides weights in its first forward in evaluation, and notes that it did."""

    names = ("0.a.weight", "0.done")

    def write(self, x):
        if not self.done and not self.training:
            self.a.weight.data.div_(4)
            self.done = True


class Registering(Writing):
    names = ("0.made",)

    def write(self, x):
        if not hasattr(self, "made"):
            self.register_buffer("made", torch.ones(3))


class Loose(Writing):
    names = ("0.loose",)

    def write(self, x):
        self.loose.add_(1)


WRITERS = [Statistics, Replacing, Counting, Observing, Rescaling, Registering, Loose]


@pytest.mark.parametrize("cache", [None, "a folder"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", WRITERS)
def test_what_a_forward_writes_is_put_back_and_named_once(
    kind, training, cache, X, tmp_path
):
    torch.manual_seed(0)
    network = nn.Sequential(kind(), nn.ReLU(), nn.Linear(4, 3)).train(training)
    before, loose = facts(network), network[0].loose.clone()
    cache = cache and tmp_path
    features = LayerFeatureTransformer(network, ["0"], batch_size=8, cache=cache)
    with pytest.warns(UserWarning, match="writes to itself in evaluation") as told:
        features.fit(X)
    assert len(told) == 1
    for name in kind.names:
        assert repr(name) in str(told[0].message)
    assert_left_as_it_was(before, network)
    found = features.transform(X).block("0")
    assert_left_as_it_was(before, network)
    assert torch.equal(network[0].loose, loose)
    fresh = copy.deepcopy(network).eval()
    expected = [copy.deepcopy(fresh)[0](x).detach() for x in torch.tensor(X).split(8)]
    if cache is None:
        np.testing.assert_allclose(found, torch.cat(expected), atol=1e-6)


@pytest.mark.filterwarnings("ignore:the network writes to itself")
@pytest.mark.parametrize("cache", [None, "a folder"])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_forward_of_the_users_own_changes_no_feature(kind, cache, X, tmp_path):
    assert_equal = partial(np.testing.assert_allclose, atol=1e-6)
    torch.manual_seed(0)
    network = nn.Sequential(kind(), nn.ReLU(), nn.Linear(4, 3)).eval()
    cache = cache and tmp_path
    features = LayerFeatureTransformer(network, ["0"], batch_size=8, cache=cache)
    expected = features.fit(X[:8]).transform(X).block("0")
    network(10 + 3 * torch.tensor(X))
    own, loose = copy.deepcopy(network).state_dict(), network[0].loose.clone()
    for _ in range(2):
        assert_equal(features.transform(X).block("0"), expected)
        torch.testing.assert_close(network.state_dict(), own, rtol=0, atol=0)
        assert torch.equal(network[0].loose, loose)
    with features.frozen():
        frozen = features.transform(X).block("0")
    assert_equal(frozen, expected)
    torch.testing.assert_close(network.state_dict(), own, rtol=0, atol=0)
    again = pickle.loads(pickle.dumps(features))
    assert_equal(again.transform(X).block("0"), expected)
    with torch.no_grad():
        network[2].weight += 1
    with pytest.raises(ValueError, match="not those seen in fit"):
        features.transform(X)


def test_a_network_that_writes_can_be_listed(X):
    network = nn.Sequential(Statistics(), nn.Linear(4, 3)).eval()
    before = facts(network)
    with pytest.warns(UserWarning, match="writes to itself"):
        list_layers(network, X)
    assert_left_as_it_was(before, network)


def test_a_memory_that_is_no_tensor_of_the_network_is_its_own_affair(X):
    class Remembering(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.last, self.calls, self.ran = nn.Linear(5, 4), None, 0, False

        def forward(self, x):
            self.last, self.ran = self.a(x), True
            self.calls += 1
            return self.last

    network = nn.Sequential(Remembering()).eval()
    LayerFeatureTransformer(network, "0", batch_size=10).fit_transform(X)
    assert (network[0].calls, network[0].ran) == (3, True)
    assert torch.equal(network[0].last, network[0].a(torch.tensor(X[10:])))


@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_tensors_of_every_layout_are_kept_and_put_back():
    network = nn.Module()
    network.register_buffer("coo", torch.eye(3).to_sparse())
    network.register_buffer("csr", torch.eye(3).to_sparse_csr())
    network.register_buffer("nan", torch.tensor([float("nan"), 1.0]))
    quantised = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    network.register_buffer("quantised", quantised)
    kept = KeptTensors(network)
    assert kept.put_back() == []
    network.coo._values().mul_(2)
    network.nan[1] = 2
    network.quantised.copy_(
        torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)
    )
    assert kept.put_back() == ["coo", "nan", "quantised"]
    assert torch.equal(network.coo.to_dense(), torch.eye(3))
    assert torch.equal(network.quantised.dequantize(), quantised.dequantize())
    assert network.nan[0].isnan()
    assert network.nan[1] == 1


# Hooks of one pass -----------------------------------------------------------------


def test_forwards_of_other_threads_notice_nothing(X):
    network = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    features = LayerFeatureTransformer(network, ["0"], batch_size=4).fit(X)
    with torch.no_grad():
        expected = network[0](torch.tensor(X)).numpy()
        whole = network(torch.ones(7, 5))
    stop, wrong = threading.Event(), []

    def user():
        while not stop.is_set():
            try:
                with torch.no_grad():
                    if not torch.equal(network(torch.ones(7, 5)), whole):
                        wrong.append("output")
            except BaseException as error:
                wrong.append(type(error).__name__)

    thread = threading.Thread(target=user)
    thread.start()
    try:
        for _ in range(30):
            found = features.transform(X).block("0")
            np.testing.assert_allclose(found, expected, atol=1e-6)
            features.fit(X)
            list_layers(network, X, repeats=1)
    finally:
        stop.set()
        thread.join()
    assert wrong == []


def test_forwards_between_two_batches_notice_nothing(X):
    network = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 5)).eval()

    def through(rows):  # the same network prepares its own input
        with torch.no_grad():
            return network(torch.as_tensor(rows))

    features = LayerFeatureTransformer(network, "0", preprocess=through, batch_size=4)
    found = features.fit_transform(X).block("0")
    with torch.no_grad():
        expected = network[0](network(torch.tensor(X)))
    np.testing.assert_allclose(found, expected, atol=1e-6)


# Rows that come twice --------------------------------------------------------------


class Chance(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5, training=True)


class Neighbours(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class PlainMemory(nn.Module):
    factor = 1.0

    def forward(self, x):
        self.factor *= 0.7
        return x * self.factor


@pytest.mark.parametrize("kind", [Chance, Neighbours, PlainMemory])
def test_features_that_are_others_the_second_time_are_told(kind, X):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 4), kind())
    features = LayerFeatureTransformer(network, ["0", "1"])
    with pytest.warns(UserWarning, match=r"other features the second time \(1/avg: by"):
        features.fit_transform(X)
    early = LayerFeatureTransformer(network, ["0"])
    early.fit_transform(X)  # which has not been through it
    half = LayerFeatureTransformer(nn.Linear(5, 4), ["logits"], autocast="bfloat16")
    half.fit_transform(X)


def test_values_that_are_no_numbers_both_times_are_the_same():
    key, other = ("a", "avg"), [[np.nan, np.inf, 1.0], [-np.inf, 2.0, np.nan]]
    before = np.array(other)
    assert unlike_before({key: before}, {key: np.vstack([before, before])}) is None
    now = np.where(np.isnan(before), 3.0, before)
    assert "a/avg: by inf%" in unlike_before({key: before}, {key: now})
    assert unlike_before({key: np.zeros((2, 3))}, {key: np.zeros((5, 3))}) is None
