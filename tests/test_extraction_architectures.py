"""Networks as torchvision and timm build them, and every way to wrap one."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES, ConvNeXt, ResNet, Swin
from torch import nn
from torch.nn.utils import parametrizations

from skood import LayerFeatureTransformer, list_layers
from skood.features import LOGITS
from skood.store.identity.weights import weights_digest

LAYERS = ["layer1", "penultimate", "logits"]


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(9, 3, 32, 32)).astype("float32")


def built(kind):
    """A network in training mode, whose batch norms have seen something."""
    torch.manual_seed(0)
    network = kind()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.1, 0.1)
            part.running_var.uniform_(0.5, 2)
    return network


def outputs_by_hand(network, X):
    """What each part puts out in evaluation, without any in-place operation."""
    network, outputs = copy.deepcopy(network).eval(), {}
    for name, part in network.named_modules():
        if hasattr(part, "inplace"):
            part.inplace = False
        part.register_forward_hook(
            lambda _part, _args, out, name=name: outputs.update({name: out.clone()})
        )
    with torch.no_grad():
        network(torch.tensor(X))
    return outputs


def has_channels_last(name, network, output):
    """The truth about these networks, by the names of their parts."""
    if output.ndim == 3:
        return True
    inner = name.split(".")[-1]
    if isinstance(network, ConvNeXt):
        block = name.startswith(("stages.0", "stages.2"))
        return block and inner in ("norm", "fc1", "act", "fc2")
    return isinstance(network, Swin) and name.startswith(("layers", "norm"))


def mean_over_positions(name, network, output):
    if output.ndim < 3:
        return output
    if has_channels_last(name, network, output):
        return output.flatten(1, -2).mean(1)
    return output.flatten(2).mean(2)


# Architectures ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_layer_is_what_the_network_computes(kind, X):
    network = built(ARCHITECTURES[kind])
    expected = outputs_by_hand(network, X)
    table = list_layers(network, X)
    names = [
        name for name in expected if name and len(expected[name]) == len(X)
    ]  # a row each: not so inside windows
    features = LayerFeatureTransformer(network, [*names, "logits"], batch_size=4)
    found = features.fit_transform(X)
    for name in names:
        by_hand = mean_over_positions(name, network, expected[name])
        np.testing.assert_allclose(
            found.block(name), by_hand, rtol=1e-4, atol=1e-5, err_msg=name
        )
    np.testing.assert_allclose(found.block(LOGITS), expected[""], atol=1e-5)
    assert set(expected) - {""} == set(table.index[table["runs"] > 0]) - {
        "logits",
        "penultimate",
    }
    assert network.training


@pytest.mark.parametrize("kind", [k for k in ARCHITECTURES if k != "Distilled"])
def test_the_head_is_found_behind_any_name(kind, X):
    network = built(ARCHITECTURES[kind])
    features = LayerFeatureTransformer(network, ["penultimate", "logits"])
    found = features.fit_transform(X)
    logits = found.head.logits(found.block("penultimate"))
    np.testing.assert_allclose(logits, found.block(LOGITS), atol=1e-5)


def test_two_heads_are_no_head(X):
    network = built(ARCHITECTURES["Distilled"])
    assert LayerFeatureTransformer(network, "logits").fit(X).head_ is None
    with pytest.raises(ValueError, match=r"no torch\.nn\.Linear of this network gives"):
        LayerFeatureTransformer(network, "penultimate").fit(X)


def test_the_inside_of_windows_has_no_rows(X):
    message = r"'layers.0.attn' puts out .*Where it works on windows .* around it"
    with pytest.raises(ValueError, match=message):
        LayerFeatureTransformer(built(Swin), "layers.0.attn").fit_transform(X)


def test_linear_maps_of_square_maps_have_their_channels_last():
    """Where the shape fits both ways, what a module is decides."""
    network = nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 5))
    X = torch.rand(4, 5, 5, 5)
    found = LayerFeatureTransformer(network, ["0", "1"]).fit_transform(X)
    with torch.no_grad():
        first = network[0](X)
        np.testing.assert_allclose(found.block("0"), first.mean((1, 2)), atol=1e-6)
        second = network[1](first).mean((1, 2))
    np.testing.assert_allclose(found.block("1"), second, atol=1e-6)


# Wrappers and other forms ----------------------------------------------------------


class Lightning(nn.Module):
    """A module that holds the network, as training loops do."""

    def __init__(self, network):
        super().__init__()
        self.model = network

    def forward(self, x):
        return self.model(x)


def compiled(network, X):
    network = torch.compile(network, backend="eager")
    network(torch.tensor(X))
    return network


def compiled_in_place(network, X):
    network.compile(backend="eager")
    network(torch.tensor(X))
    return network


def with_compiled_forward(network, X):
    network.forward = torch.compile(network.forward, backend="eager")
    network(torch.tensor(X))
    return network


def unflattened(network, X):
    rows = {0: torch.export.Dim("rows", min=1, max=64)}
    program = torch.export.export(network, (torch.tensor(X),), dynamic_shapes=(rows,))
    return torch.export.unflatten(program)


def with_normed_weights(network, X):
    parametrizations.weight_norm(network.fc)
    return network


def pruned(network, X):
    from torch.nn.utils import prune

    prune.l1_unstructured(network.fc, "weight", 0.0)
    return network


FORMS = {
    "DataParallel": lambda network, X: nn.DataParallel(network),
    "compiled": compiled,
    "compiled in place": compiled_in_place,
    "compiled forward": with_compiled_forward,
    "factory": lambda network, X: lambda: network,
    "weight_norm": with_normed_weights,
    "pruned": pruned,
    "channels_last memory": lambda network, X: network.to(
        memory_format=torch.channels_last
    ),
}


@pytest.fixture
def expected(X):
    return LayerFeatureTransformer(built(ResNet), LAYERS).fit_transform(X)


@pytest.mark.parametrize("form", FORMS)
def test_other_forms_of_a_network_give_the_same(form, X, expected):
    if "compiled" in form and not hasattr(torch.compiler, "set_stance"):
        pytest.skip("this torch cannot run compiled modules as Python")
    network = FORMS[form](built(ResNet).eval(), X)
    found = LayerFeatureTransformer(network, LAYERS).fit_transform(X)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("wrap", "prefix"),
    [(torch.optim.swa_utils.AveragedModel, "module."), (Lightning, "model.")],
)
def test_a_network_held_by_another_module_has_a_prefix(wrap, prefix, X, expected):
    layers = [f"{prefix}layer1", "penultimate", "logits"]
    found = LayerFeatureTransformer(wrap(built(ResNet)), layers).fit_transform(X)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(ValueError, match=f"Did you mean '{prefix}layer1'"):
        LayerFeatureTransformer(wrap(built(ResNet)), LAYERS).fit(X)


def test_a_graph_of_torch_fx_runs_its_leaves(X):
    graph = torch.fx.symbolic_trace(built(ResNet).eval())
    layers = ["layer1.1.relu", "penultimate", "logits"]
    found = LayerFeatureTransformer(graph, layers).fit_transform(X)
    plain = LayerFeatureTransformer(built(ResNet), layers).fit_transform(X)
    np.testing.assert_allclose(found, plain, atol=1e-6)
    message = r"'layer1' did not run .* only holds other layers .* torch\.fx graph"
    with pytest.raises(ValueError, match=message):
        LayerFeatureTransformer(graph, "layer1").fit(X)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_exported_program_is_an_error_and_unflattened_is_none(X, expected):
    program = torch.export.export(built(ResNet).eval(), (torch.tensor(X),))
    for network in (program, program.module()):
        with pytest.raises(TypeError, match=r"torch\.export\.unflatten\(program\)"):
            LayerFeatureTransformer(network, LAYERS).fit(X)
    network = unflattened(built(ResNet).eval(), X)
    found = LayerFeatureTransformer(network, ["layer1", "logits"]).fit_transform(X)
    for layer, statistic in found.block_names:
        by_plain = expected.block(layer, statistic)
        np.testing.assert_allclose(found.block(layer, statistic), by_plain, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_scripted_part_is_passed_by(X, expected):
    network = built(ResNet).eval()
    network.layer1 = torch.jit.script(network.layer1)
    layers = ["layer2", "penultimate", "logits"]
    found = LayerFeatureTransformer(network, layers).fit_transform(X)
    np.testing.assert_allclose(
        found.block("penultimate"), expected.block("penultimate"), atol=1e-6
    )
    assert list_layers(network, X).loc["layer1", "runs"] == 0
    for layer in ("layer1", "layer1.0"):
        with pytest.raises(ValueError, match=f"'{layer}' is a TorchScript module"):
            LayerFeatureTransformer(network, layer).fit(X)


def quantised(network):
    return torch.ao.quantization.quantize_dynamic(
        network, {nn.Linear}, dtype=torch.qint8
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_quantised_network_is_known_again(X, expected):
    torch.backends.quantized.engine = torch.backends.quantized.supported_engines[-1]
    network, again = quantised(built(ResNet).eval()), quantised(built(ResNet).eval())
    assert weights_digest(network) == weights_digest(again)
    other = built(ResNet).eval()
    with torch.no_grad():
        other.fc.weight.neg_()
    assert weights_digest(network) != weights_digest(quantised(other))
    features = LayerFeatureTransformer(network, ["layer1", "logits"])
    found = features.fit_transform(X)
    np.testing.assert_array_equal(found.block("layer1"), expected.block("layer1"))
    np.testing.assert_allclose(found.block(LOGITS), expected.block(LOGITS), atol=0.05)
    loaded = pickle.loads(pickle.dumps(features))
    np.testing.assert_array_equal(loaded.transform(X), found)
    with pytest.raises(ValueError, match="layers has 'penultimate'"):
        LayerFeatureTransformer(network, "penultimate").fit(X)


def test_tied_weights():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(11, 6)
            self.out = nn.Linear(6, 11, bias=False)
            self.out.weight = self.embed.weight

        def forward(self, ids):
            return self.out(self.embed(ids).mean(1))

    network, ids = Tied(), torch.randint(0, 11, (5, 4))
    found = LayerFeatureTransformer(network, ["embed", "logits"]).fit_transform(ids)
    logits = found.head.logits(found.block("embed"))
    np.testing.assert_allclose(logits, found.block(LOGITS), atol=1e-6)
    assert network.out.weight is network.embed.weight


SPREAD = """
import os, sys, numpy as np, torch, torch.distributed as dist
import test_extraction_architectures as t
from torch.distributed import fsdp

os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
store = dist.HashStore()
dist.init_process_group("gloo", store=store, rank=0, world_size=1)
X = np.random.default_rng(0).normal(size=(9, 3, 32, 32)).astype("float32")
make = lambda: t.built(t.ResNet)
plain = t.LayerFeatureTransformer(make(), t.LAYERS).fit_transform(X)
wrapped = torch.nn.parallel.DistributedDataParallel(make())
found = t.LayerFeatureTransformer(wrapped, t.LAYERS).fit_transform(X)
np.testing.assert_array_equal(found, plain)
for name in sys.argv[1:]:
    given = {"device_id": torch.device("cpu")} if name[0] == "F" else {}
    try:
        spread = getattr(fsdp, name)(make(), **given)
        t.LayerFeatureTransformer(spread, t.LAYERS).fit(X)
    except TypeError as error:
        assert "gather them" in str(error), error
    else:
        raise AssertionError("weights that are spread went through")
dist.destroy_process_group()
print("all as it should be")
"""


@pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch has no distributed part"
)
@pytest.mark.slow
def test_networks_of_distributed_training():
    here = Path(__file__).resolve().parent
    path = os.pathsep.join([str(here), str(here.parent)])
    ways = ["FullyShardedDataParallel"]
    ways += ["fully_shard"] * (torch.__version__ >= "2.6")  # which brought it
    done = subprocess.run(
        [sys.executable, "-c", SPREAD, *ways],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        timeout=240,
    )
    assert "all as it should be" in done.stdout, done.stderr


# Refusals --------------------------------------------------------------------------


def test_weights_without_values_are_an_error(X):
    with pytest.raises(ValueError, match=r"'conv1\.weight' is on the device 'meta'"):
        LayerFeatureTransformer(ResNet().to("meta"), "layer1").fit(X)
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))
    with pytest.raises(ValueError, match=r"'1\.weight' has no shape yet: run the"):
        LayerFeatureTransformer(lazy, "1").fit(X)
    assert isinstance(lazy[1], nn.LazyLinear)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (ResNet().state_dict(), r"a OrderedDict; .*Weights alone are no network"),
        ("resnet.pt", r"a str; .*Weights alone are no network"),
        (lambda x: x, r"a function that needs arguments .*Give the module"),
    ],
)
def test_what_is_no_network_says_what_to_give(network, message, X):
    with pytest.raises(TypeError, match=message):
        LayerFeatureTransformer(network, "layer1").fit(X)
