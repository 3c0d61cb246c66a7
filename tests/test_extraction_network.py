"""The network is looked at and nothing else: modes, hooks, memory, clones, files."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from networks import Convolutional, Fragile, SharedActivation, Tokens, convolutional
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skood import LayerFeatureTransformer, _version, layer_names
from skood.extraction.borrow import borrowed
from skood.extraction.network import in_file
from skood.features import LOGITS
from skood.store.identity.weights import weights_digest

HOOKS = [name for name in vars(nn.Module()) if "hooks" in name]


def state_of(module):
    """Everything that a pass could leave behind."""
    parts = {
        name: (part.training, [dict(getattr(part, hooks)) for hooks in HOOKS])
        for name, part in module.named_modules()
    }
    tensors = {
        name: (id(t), t.data_ptr(), t._version, t.device, t.requires_grad, t.clone())
        for name, t in [*module.named_parameters(), *module.named_buffers()]
    }
    grads = {
        name: None if p.grad is None else (id(p.grad), p.grad.data_ptr())
        for name, p in module.named_parameters()
    }
    return parts, tensors, grads


def assert_same_state(before, after):
    assert before[0] == after[0]
    assert before[2] == after[2]
    assert before[1].keys() == after[1].keys()
    for name, (*facts, values) in before[1].items():
        assert facts == list(after[1][name][:-1]), name
        assert torch.equal(values, after[1][name][-1]), name


def lived_in(network, X):
    """A network in the middle of its life: mixed modes, gradients, hooks, frozen."""
    network.train()
    out = network(X)
    out.sum().backward()
    next(network.children()).eval()
    next(network.parameters()).requires_grad_(False)
    for part in network.children():
        part.register_forward_hook(lambda module, args, output: None)
        part.register_forward_pre_hook(lambda module, args: None)
    return network


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


# What may be given as a network ----------------------------------------------------


def test_layers_are_listed_by_their_names():
    names = layer_names(convolutional())
    assert names[:4] == ["conv1", "bn1", "relu1", "block"]
    assert "block.0" in names
    assert "" not in names


def test_every_name_of_a_shared_module_is_good():
    linear = nn.Linear(3, 3)
    network = nn.ModuleDict({"a": linear, "b": linear})
    network.forward = lambda x: linear(x)
    assert layer_names(network) == ["a", "b"]
    found = LayerFeatureTransformer(network, ["a", "b"]).fit_transform(np.ones((2, 3)))
    np.testing.assert_array_equal(found.block("a"), found.block("b"))


def test_a_factory_is_called_when_first_needed_and_once(X):
    made = []

    def factory():
        made.append(convolutional())
        return made[-1]

    features = LayerFeatureTransformer(factory, ["block", "logits"])
    assert made == []
    found = features.fit_transform(X)
    clone(features).fit(X).transform(X)
    assert len(made) == 1
    direct = LayerFeatureTransformer(made[0], ["block", "logits"]).fit_transform(X)
    np.testing.assert_array_equal(found, direct)


def test_a_fitted_skorch_net_is_a_network():
    skorch = pytest.importorskip("skorch")
    X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    y = np.arange(20) % 2
    net = skorch.NeuralNetClassifier(
        SharedActivation, criterion=nn.CrossEntropyLoss, max_epochs=1, verbose=0
    )
    features = LayerFeatureTransformer(net, ["act", "logits"])
    with pytest.raises(ValueError, match="NeuralNetClassifier that is not fitted"):
        features.fit(X)
    found = features.set_params(network=net.fit(X, y)).fit_transform(X)
    np.testing.assert_allclose(found.block(LOGITS), net.forward(X), atol=1e-6)
    assert clone(features).network is net
    loaded = pickle.loads(pickle.dumps(features))
    assert isinstance(loaded.network, SharedActivation)
    np.testing.assert_array_equal(loaded.transform(X), found)


def test_wrappers_are_seen_through(X):
    network = convolutional()
    plain = LayerFeatureTransformer(network, ["block", "logits"]).fit_transform(X)
    for wrapped in (
        nn.DataParallel(network),
        torch.compile(network, backend="eager"),
        torch.compile(nn.DataParallel(network), backend="eager"),
    ):
        features = LayerFeatureTransformer(wrapped, ["block", "logits"])
        np.testing.assert_array_equal(features.fit_transform(X), plain)
        assert pickle.loads(pickle.dumps(features)).network.conv1 is not None


def test_compiled_parts_are_seen_into(X):
    if not hasattr(torch.compiler, "set_stance"):
        pytest.skip("this torch cannot run compiled modules as Python")
    network = convolutional()
    expected = LayerFeatureTransformer(network, "block.0").fit_transform(X)
    network.block = torch.compile(network.block, backend="eager")
    network.conv2.compile(backend="eager")
    features = LayerFeatureTransformer(network, ["block._orig_mod.0", "conv2"])
    found = features.fit_transform(X)
    np.testing.assert_array_equal(found.block("block._orig_mod.0"), expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_scripted_network_is_an_error(X):
    traced = torch.jit.trace(convolutional().eval(), X)
    with pytest.raises(TypeError, match="TorchScript module, whose parts cannot be"):
        LayerFeatureTransformer(traced, "conv1").fit(X)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (3, "network is a int; wanted is a torch.nn.Module, a fitted skorch net"),
        (lambda: 3, "function given as network returned a int"),
    ],
)
def test_what_is_no_network_is_an_error(network, message, X):
    with pytest.raises(TypeError, match=message):
        LayerFeatureTransformer(network, "conv1").fit(X)


# Digests ---------------------------------------------------------------------------


def test_the_digest_is_of_the_weights_and_nothing_else():
    network = convolutional()
    digest = weights_digest(network)
    assert digest == weights_digest(copy.deepcopy(network))
    assert digest == weights_digest(convolutional().eval())
    assert digest != weights_digest(Convolutional())
    for change in ("conv1.weight", "fc.bias", "bn1.running_var"):
        changed = copy.deepcopy(network)
        with torch.no_grad():
            changed.state_dict()[change].view(-1)[0] += 1e-3
        assert weights_digest(changed) != digest, change


def test_the_digest_sees_every_way_of_training():
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    seen = {weights_digest(network)}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(torch.randn(4, 3)).square().sum().backward()
    seen.add(weights_digest(network))  # running statistics
    optimizer.step()
    seen.add(weights_digest(network))
    network.load_state_dict(
        nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).state_dict()
    )
    seen.add(weights_digest(network))
    network[0].weight = nn.Parameter(torch.zeros(3, 3))
    seen.add(weights_digest(network))
    assert len(seen) == 5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_type_have_a_digest(dtype):
    network = nn.Linear(2, 2).to(dtype)
    network.register_buffer("scalar", torch.tensor(3))
    network.register_buffer("empty", torch.zeros(0))
    network.register_buffer("strided", torch.zeros(4, 4).t())
    assert weights_digest(network) == weights_digest(copy.deepcopy(network))


def test_a_network_trained_on_after_fit_is_refused(X):
    network = convolutional()
    features = LayerFeatureTransformer(network, "block").fit(X)
    features.transform(X)
    with torch.no_grad():
        network.conv1.weight.mul_(2)
    with pytest.raises(ValueError, match="weights are not those seen in fit"):
        features.transform(X)
    features.fit_transform(X)


# Clones ----------------------------------------------------------------------------


def test_a_clone_shares_the_network_and_nothing_fitted(X):
    network = convolutional()
    features = LayerFeatureTransformer(network, ["block"], verbose=0)
    features._sklearn_output_config = {"transform": "default"}
    features.fit(X)
    cloned = clone(features)
    assert cloned.network is network
    assert cloned.layers == ["block"]
    assert cloned.layers is not features.layers
    assert not hasattr(cloned, "layers_")
    assert cloned._sklearn_output_config == features._sklearn_output_config
    piped = clone(make_pipeline(features, StandardScaler()))
    assert piped[0].network is network


def test_a_clone_of_a_subclass_is_one():
    class Own(LayerFeatureTransformer):
        pass

    assert type(clone(Own(convolutional(), "block"))) is Own


# Files -----------------------------------------------------------------------------


@pytest.mark.parametrize("with_joblib", [False, True])
def test_a_file_keeps_the_network(with_joblib, X, tmp_path):
    network = lived_in(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), X)
    for part in network.children():  # a file of one's own hooks is no business of ours
        part._forward_hooks.clear()
        part._forward_pre_hooks.clear()
    features = LayerFeatureTransformer(network, ["1", "logits"])
    found = features.fit_transform(X)
    if with_joblib:
        joblib.dump(make_pipeline(features), tmp_path / "it.joblib")
        loaded = joblib.load(tmp_path / "it.joblib")[0]
    else:
        loaded = pickle.loads(pickle.dumps(features))
    assert loaded.network is not network
    np.testing.assert_array_equal(loaded.transform(X), found)
    np.testing.assert_array_equal(loaded.head_.weight, features.head_.weight)


def test_a_file_can_leave_the_network_out(X):
    network = convolutional()
    features = LayerFeatureTransformer(network, "block", store_network=False)
    found = features.fit_transform(X)
    file = pickle.dumps(features)
    assert features.network is network
    assert len(file) < 2000
    loaded = pickle.loads(file)
    with pytest.raises(
        ValueError, match=r"without its network\. .*set_params\(network="
    ):
        loaded.transform(X)
    with pytest.raises(ValueError, match="weights are not those seen in fit"):
        loaded.set_params(network=Convolutional()).transform(X)
    loaded.set_params(network=convolutional())
    np.testing.assert_array_equal(loaded.transform(X), found)


def test_a_newer_file_is_refused(X, monkeypatch):
    features = LayerFeatureTransformer(convolutional(), "block").fit(X)
    monkeypatch.setattr(_version, "__version__", "99.0.0")
    file = pickle.dumps(features)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"saved by skood 99\.0\.0, newer than"):
        pickle.loads(file)


def test_tensors_elsewhere_are_copied_to_the_cpu_for_the_file(monkeypatch):
    """Another device is played by a subclass of tensors that says it is there."""

    class There(torch.Tensor):
        @property
        def device(self):
            return torch.device("cuda")

        def cpu(self):
            return self.as_subclass(torch.Tensor).clone()

    network = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3))
    network[1].weight.grad = torch.ones(3, 3)
    network[1].tied = network[1].weight
    network[0].running_mean = network[0].running_mean.as_subclass(There)
    network[0].loose = torch.arange(3).as_subclass(There)
    before = state_of(network[1])
    copied = in_file(network)
    assert copied is not network
    assert type(copied[0].running_mean) is torch.Tensor
    assert type(copied[0].loose) is torch.Tensor
    assert isinstance(copied[1].weight, nn.Parameter)
    assert copied[1].tied is copied[1].weight
    assert copied[1].weight.grad is None
    assert weights_digest(copied) == weights_digest(network)
    assert_same_state(before, state_of(network[1]))
    assert type(network[0].running_mean) is There


def test_networks_of_the_main_script_go_through_files_and_workers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import io, joblib, numpy as np, torch\n"
        "from skood import LayerFeatureTransformer\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.fc = torch.nn.Linear(3, 2)\n"
        "    def forward(self, x):\n"
        "        return self.fc(x)\n"
        "def run(features, X):\n"
        "    return np.asarray(features.transform(X))\n"
        "if __name__ == '__main__':\n"
        "    X = np.ones((4, 3))\n"
        "    features = LayerFeatureTransformer(Net(), 'fc').fit(X)\n"
        "    jobs = [joblib.delayed(run)(features, X)] * 2\n"
        "    found = joblib.Parallel(n_jobs=2)(jobs)\n"
        "    assert all((one == run(features, X)).all() for one in found)\n"
        "    file = io.BytesIO()\n"
        "    joblib.dump(features, file)\n"
        "    file.seek(0)\n"
        "    assert (run(joblib.load(file), X) == found[0]).all()\n"
        "    print('same everywhere')\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[1],
        env={**__import__("os").environ, "PYTHONPATH": "."},
        timeout=120,
    )
    assert done.stdout == "same everywhere\n", done.stderr


def test_tokens_come_back_from_a_file():
    def batch(rows):
        return {"input_ids": rows, "attention_mask": torch.ones_like(rows)}

    ids = torch.randint(0, 20, (4, 6))
    features = LayerFeatureTransformer(Tokens(), "feed", "cls", preprocess=batch)
    found = features.fit_transform(ids)
    file = io.BytesIO()
    features.set_params(preprocess=None)
    joblib.dump(features, file)
    file.seek(0)
    loaded = joblib.load(file).set_params(preprocess=batch)
    np.testing.assert_array_equal(loaded.transform(ids), found)
