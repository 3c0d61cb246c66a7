"""What may be given as a network, how it is known again, cloned and kept in files."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from network_state import assert_same_state, lived_in, state_of
from networks import Convolutional, SharedActivation, Tokens, convolutional
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skood import LayerFeatureTransformer, _version, layer_names
from skood.extraction.network import in_file
from skood.features import LOGITS
from skood.store.identity.weights import weights_digest


@pytest.fixture
def X():
    return torch.randn(9, 3, 8, 8)


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
        timeout=240,  # other processes may want the cores, too
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
