"""Fingerprints of networks: all that they have beside their weights counts."""

from __future__ import annotations

import copy
import functools  # noqa: F401 (in ODD_TEXTS)
import logging
import os
import subprocess
import sys
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from types import MethodType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import test_store_callables
import torch
from test_store_callables import Scale, scaled  # noqa: F401 (in ODD_TEXTS)
from torch import nn
from torch.nn.utils import prune

from skood import LayerFeatureTransformer
from skood.store.identity.network import callable_fingerprint, structure_fingerprint


class Block(nn.Module):
    def __init__(self, scale=1.0, act=torch.relu):
        super().__init__()
        self.linear, self.scale, self.act = nn.Linear(2, 2), scale, act

    def forward(self, x):
        return self.act(self.linear(x)) * self.scale


class Other(Block):
    def forward(self, x):
        return self.act(self.linear(x)) + self.scale


NETWORKS = [
    lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU()),
    lambda: nn.Sequential(nn.Linear(2, 2), nn.Tanh()),
    lambda: nn.Sequential(nn.BatchNorm1d(2)),
    lambda: nn.Sequential(nn.BatchNorm1d(2, eps=1e-3)),
    lambda: Block(),
    lambda: Block(2.0),
    lambda: Block(act=torch.tanh),
    lambda: Block(act=nn.functional.gelu),
    lambda: Other(),
]


def test_structures_differ_where_weights_may_not():
    found = [structure_fingerprint(make()) for make in NETWORKS]
    assert found == [structure_fingerprint(make().eval()) for make in NETWORKS]
    assert len(set(found)) == len(found)


@dataclass
class Config:
    scale: float = 1.0
    shift: Any = None


class Odd(nn.Module):
    """A network with something beside its weights."""

    def __init__(self, value):
        super().__init__()
        self.linear, self.value = nn.Linear(2, 2), value

    def forward(self, x):
        return self.linear(x)


def make_odd(value):
    return nn.Sequential(Odd(value))


def doubled(module, args, output):
    return output * 2


ODD_TEXTS = [
    "torch.ones(3)",
    "torch.zeros(3)",
    "torch.ones(3, dtype=torch.bfloat16)",
    "[torch.ones(3)]",
    "[torch.ones(2)]",
    "torch.eye(2).to_sparse()",
    "torch.complex(torch.ones(2), torch.ones(2)).conj()",
    "torch.complex(torch.ones(2), torch.ones(2))",
    "np.ones(3)",
    "Config(2.0)",
    "Config(3.0)",
    "Config(shift=Config(2.0))",
    "SimpleNamespace(scale=1.0)",
    "SimpleNamespace(scale=2.0)",
    "{'scale': 1.0}",
    "{'scale': 2.0}",
    "{1, 'a', 'b'}",
    "functools.partial(nn.functional.leaky_relu, negative_slope=0.1)",
    "functools.partial(nn.functional.leaky_relu, negative_slope=0.9)",
    "Scale(2.0).method",
    "[nn.ReLU()]",
    "[nn.Tanh()]",
    "Config",
]


def test_whatever_a_network_has_beside_its_weights_counts():
    found = [structure_fingerprint(make_odd(eval(text))) for text in ODD_TEXTS]
    assert found == [structure_fingerprint(make_odd(eval(t)).eval()) for t in ODD_TEXTS]
    assert len(set(found)) == len(found)
    copies = [copy.deepcopy(make_odd(eval(text))) for text in ODD_TEXTS]
    assert found == [structure_fingerprint(network) for network in copies]


IN_PLACE = {
    "a tensor": (torch.ones(3), lambda odd: odd.value.mul_(2)),
    "a list of tensors": ([torch.ones(3)], lambda odd: odd.value[0].mul_(2)),
    "an array": (np.ones(3), lambda odd: np.multiply(odd.value, 2, out=odd.value)),
    "a dictionary": ({"a": 1}, lambda odd: odd.value.update(a=2)),
    "a configuration": (Config(), lambda odd: setattr(odd.value, "scale", 2.0)),
    "a namespace": (SimpleNamespace(a=1), lambda odd: setattr(odd.value, "a", 2)),
    "a hidden network": (
        [nn.Linear(2, 2)],
        lambda odd: odd.value[0].weight.data.mul_(2),
    ),
    "a method": (0, lambda odd: setattr(odd, "forward", MethodType(scaled, odd))),
    "a hook": (0, lambda odd: odd.register_forward_hook(doubled)),
    "a hook within": (0, lambda odd: odd.linear.register_forward_hook(doubled)),
    "a hook before": (0, lambda odd: odd.register_forward_pre_hook(lambda m, x: None)),
}


@pytest.mark.parametrize("what", IN_PLACE)
def test_a_change_in_place_counts(what):
    value, change = IN_PLACE[what]
    network = make_odd(value)
    before = structure_fingerprint(network)
    change(network[0])
    after = structure_fingerprint(network)
    assert after != before
    assert structure_fingerprint(network) == after


def test_a_class_attribute_of_a_network_counts(monkeypatch):
    before = structure_fingerprint(Block())
    monkeypatch.setattr(Block, "power", 2, raising=False)
    assert structure_fingerprint(Block()) != before


def test_a_hook_that_is_removed_does_not_count():
    network = make_odd(0)
    before = structure_fingerprint(network)
    handle = network[0].register_forward_hook(doubled)
    later = make_odd(0)
    assert structure_fingerprint(network) != before
    later[0].register_forward_hook(doubled)
    assert structure_fingerprint(later) == structure_fingerprint(network)
    handle.remove()
    assert structure_fingerprint(network) == before


def test_the_hooks_of_the_extraction_do_not_count():
    class Looking(Odd):
        def forward(self, x):
            self.value.append(structure_fingerprint(self.linear))
            return super().forward(x)

    network, X = Looking([]), np.ones((4, 2), dtype=np.float32)
    before = structure_fingerprint(network.linear)
    LayerFeatureTransformer(network, ["linear", "penultimate"]).fit_transform(X)
    assert len(network.value) > 1
    assert set(network.value) == {before}


def test_what_does_not_decide_what_a_network_does_does_not_count():
    network = make_odd(0)
    before = structure_fingerprint(network)
    network[0].linear.weight.requires_grad_(False)
    network.train()(torch.ones(1, 2)).sum().backward()
    network.double().zero_grad()
    network[0].linear.register_full_backward_hook(lambda *_: None)
    assert structure_fingerprint(network) == before


def test_locks_loggers_and_optimizers_are_no_settings():
    network = make_odd([threading.Lock(), logging.getLogger("odd")])
    network.optimizer = torch.optim.Adam(network.parameters())
    network.parent = weakref.ref(network)
    before = structure_fingerprint(network)
    network(torch.ones(1, 2)).sum().backward()
    network.optimizer.step()
    assert structure_fingerprint(network) == before


def test_an_attribute_that_cannot_be_read_is_told_once():
    network = make_odd({"run": (x for x in ())})
    wanted = "the network's 0 setting 'value' holds a builtins.generator, .*cache_key"
    with pytest.warns(UserWarning, match=wanted) as told:
        found = [structure_fingerprint(network) for _ in range(3)]
    assert len(told) == 1
    assert len(set(found)) == 1
    network.cache_key = "version 1"
    keyed = structure_fingerprint(network)
    network[0].value = 3
    assert structure_fingerprint(network) == keyed != found[0]
    network.cache_key = "version 2"
    assert structure_fingerprint(network) != keyed


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LSTM(2, 2, 2),
        lambda: nn.utils.spectral_norm(nn.Linear(2, 2)),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
        lambda: prune.l1_unstructured(nn.Linear(2, 2), "weight", 0.5),
        lambda: torch.fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2), nn.ReLU())),
    ],
)
def test_running_and_moving_a_network_changes_nothing(make):
    network = make().eval()
    before = structure_fingerprint(network)
    for parameter in network.parameters():
        parameter.data.mul_(2)
    network(torch.ones(1, 2))
    assert structure_fingerprint(network) == before
    network.double().float()
    assert structure_fingerprint(network) == before


def test_a_patched_forward_is_another_network():
    block = Block()
    before = structure_fingerprint(block)
    block.forward = lambda x: x
    assert structure_fingerprint(block) != before


def test_fingerprints_are_the_same_in_another_process():
    names = ["scaled", "Scale(2.0)", "closing_over({4, 'a', 'b'})", "Recursive()"]
    names += ["through_others", "twice", "by_table", "Deeper()", "Unpicklable(2.0)"]
    names += ["closing_over(Scale)", "closing_over(np.abs)"]
    networks = [f"make_odd({value})" for value in ODD_TEXTS]
    code = (
        "from test_store_callables import *; from test_store_structures import *; "
        f"print(*(callable_fingerprint(f) for f in [{', '.join(names)}]), "
        f"*(structure_fingerprint(n) for n in [{', '.join(networks)}]))"
    )
    here = Path(__file__).resolve().parent
    path = os.pathsep.join([str(here), str(here.parent)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "5"}
    command = [sys.executable, "-c", code]
    ran = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    )
    import test_store_structures  # as the other process knows them

    known = {**vars(test_store_callables), **vars(test_store_structures)}
    here = [callable_fingerprint(eval(name, known)) for name in names]
    here += [structure_fingerprint(eval(name, known)) for name in networks]
    assert ran.stdout.split() == here
