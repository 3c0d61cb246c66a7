"""Keys and fingerprints: the same for the same, another for anything else."""

from __future__ import annotations

import copy
import functools
import itertools
import logging
import os
import re
import subprocess
import sys
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from types import MethodType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from skood import LayerFeatureTransformer
from skood.store.identity.checksum import checksum
from skood.store.identity.network import (
    callable_fingerprint,
    structure_fingerprint,
)
from skood.store.row_keys import numbered_keys, row_keys


class Image:
    """What row_keys knows an image by."""

    mode, size = "RGB", (2, 1)

    def __init__(self, data):
        self.data = data

    def tobytes(self):
        return self.data

    def getpalette(self):
        return None


class Named:
    def __init__(self, key):
        self.cache_key = key


# Row keys --------------------------------------------------------------------------


def test_rows_are_known_by_bytes_type_and_shape():
    x = np.arange(12.0).reshape(3, 4)
    assert (row_keys(x) == row_keys(x.copy())).all()
    assert (row_keys(x[1:]) == row_keys(x)[1:]).all()
    assert (row_keys(x[::-1]) == row_keys(x)[::-1]).all()
    for other in (x + 1e-9, x.astype(np.float32), x.reshape(3, 2, 2)):
        assert not (row_keys(x) == row_keys(other)).all(axis=1).any()


def test_large_rows_have_the_keys_of_small_ones():
    x = np.random.default_rng(0).normal(size=(70, 3, 60, 60))
    assert (row_keys(x) == np.concatenate([row_keys(row[None]) for row in x])).all()


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool]
)
def test_tensors(dtype):
    x = torch.arange(6).reshape(3, 2).to(dtype)
    assert (row_keys(x) == row_keys(x.clone())).all()
    assert len(np.unique(row_keys(x), axis=0)) == len(np.unique(x.float(), axis=0))


def test_different_items_have_different_keys(tmp_path):
    (tmp_path / "a").write_text("a")
    items = [
        "a",
        "b",
        b"a",
        1,
        1.0,
        True,
        None,
        ("a", "b"),
        ["a", "b"],
        ("ab",),
        {"a": 1},
        {"a": 2},
        np.array([1.0]),
        np.array([1]),
        np.array(["a"], dtype=object),
        torch.tensor([1.0]),
        np.float32(1),
        tmp_path / "a",
        Image(b"123456"),
        Image(b"123457"),
        Named("x"),
        Named("y"),
    ]
    keys = row_keys(items)
    assert len(np.unique(keys, axis=0)) == len(items)
    assert (row_keys(items) == keys).all()


def test_a_changed_file_has_another_key(tmp_path):
    path = tmp_path / "image"
    path.write_text("one")
    before = row_keys([path])
    path.write_text("other")
    assert (row_keys([path]) != before).any()


def test_frames_are_known_by_columns_and_values():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})
    assert (row_keys(frame) == row_keys(frame.copy())).all()
    renamed = frame.rename(columns={"a": "c"})
    assert not (row_keys(frame) == row_keys(renamed)).all(axis=1).any()
    assert (row_keys(frame["b"]) == row_keys(["x", "y"])).all()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_are_known_by_the_types_of_their_columns(library):
    frames = pytest.importorskip(library)
    values = {"a": np.array([1, 250], dtype=np.uint8)}
    small, same = frames.DataFrame(values), frames.DataFrame(values)
    large = frames.DataFrame({"a": values["a"].astype(np.int64)})
    assert (row_keys(small) == row_keys(same)).all()
    assert not (row_keys(small) == row_keys(large)).all(axis=1).any()


def test_numbered_keys_tell_the_same_row_apart():
    keys = row_keys(np.zeros((3, 2)))
    assert len(np.unique(numbered_keys(keys, np.arange(3)), axis=0)) == 3
    again = numbered_keys(keys[:1], np.array([2]))
    assert (again == numbered_keys(keys, np.arange(3))[2]).all()


def test_unknown_items_are_an_error():
    with pytest.raises(TypeError, match="of type object cannot be told apart"):
        row_keys([object()])


# Callables -------------------------------------------------------------------------


def scaled(x, factor=2.0):
    return x * factor


class Scale:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return x * self.factor

    def method(self, x):
        return x / self.factor


class Shift(Scale):
    def __call__(self, x):
        return x + self.factor


class Recursive(Scale):
    def __init__(self):
        super().__init__(1)
        self.itself = self


def closing_over(value):
    return lambda x: x * value


FACTOR = 2.0
TABLE = {"by": [1.0, torch.ones(2)]}
NETWORK = nn.Linear(2, 2)
RUNNING = (x for x in ())


def by_name(x):
    return x * FACTOR


def through_others(x):
    return [by_name(part) for part in x]


def twice(x):
    return twice(x[1:]) if len(x) else by_name(x)


def by_table(x):
    return x * TABLE["by"][1]


def by_network(x):
    return NETWORK(x)


def by_attribute(x):
    return x * by_attribute.factor


by_attribute.factor = 1.0


class Classy:
    factor = 1.0

    def __call__(self, x):
        return x * self.factor * FACTOR


class Deeper(Classy):
    pass


class Unpicklable:
    """Nothing but attributes, though pickle is refused."""

    def __init__(self, factor):
        self.factor = factor

    def __reduce_ex__(self, protocol):
        raise TypeError("no")


CALLABLES = [
    lambda: None,
    lambda: scaled,
    lambda: functools.partial(scaled, factor=3.0),
    lambda: functools.partial(scaled, factor=4.0),
    lambda: Scale(2.0),
    lambda: Scale(3.0),
    lambda: Shift(2.0),
    lambda: Scale(2.0).method,
    lambda: Recursive(),
    lambda: closing_over(1),
    lambda: closing_over(np.arange(3)),
    lambda: closing_over(np.arange(4)),
    lambda: closing_over({"a": [1, (2, 3)], "b": {4, 5}}),
    lambda: closing_over(torch.float32),
    lambda: closing_over(re.compile("a+")),
    lambda: closing_over(Path("here")),
    lambda: closing_over(np.random.default_rng(3)),
    lambda: closing_over(Scale),
    lambda: nn.Sequential(nn.Flatten(), nn.ReLU()),
    lambda: nn.Sequential(nn.Flatten(), nn.GELU()),
    lambda: np.sqrt,
    lambda: torch.relu,
    lambda: len,
    lambda: torch.as_tensor,
]


def test_fingerprints_are_stable_and_differ():
    found = [callable_fingerprint(make()) for make in CALLABLES]
    assert found == [callable_fingerprint(make()) for make in CALLABLES]
    for one, other in itertools.combinations(range(len(found)), 2):
        assert found[one] != found[other], (one, other)


def test_fingerprints_are_the_same_in_another_process():
    names = ["scaled", "Scale(2.0)", "closing_over({4, 'a', 'b'})", "Recursive()"]
    names += ["through_others", "twice", "by_table", "Deeper()", "Unpicklable(2.0)"]
    names += ["closing_over(Scale)", "closing_over(np.abs)"]
    networks = [f"make_odd({value})" for value in ODD_TEXTS]
    code = (
        "import test_store_keys as t; from test_store_keys import *; "
        f"print(*(t.callable_fingerprint(f) for f in [{', '.join(names)}]), "
        f"*(t.structure_fingerprint(n) for n in [{', '.join(networks)}]))"
    )
    here = Path(__file__).resolve().parent
    path = os.pathsep.join([str(here), str(here.parent)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "5"}
    command = [sys.executable, "-c", code]
    ran = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    )
    import test_store_keys as module

    here = [callable_fingerprint(eval(name, vars(module))) for name in names]
    here += [structure_fingerprint(eval(name, vars(module))) for name in networks]
    assert ran.stdout.split() == here


CHANGES = {
    "a number": (lambda: by_name, lambda p: p.setitem(globals(), "FACTOR", 3.0)),
    "of another": (lambda: through_others, lambda p: p.setitem(globals(), "FACTOR", 3)),
    "of itself": (lambda: twice, lambda p: p.setitem(globals(), "FACTOR", 3.0)),
    "another": (lambda: through_others, lambda p: p.setitem(globals(), "by_name", abs)),
    "a tensor": (
        lambda: by_table,
        lambda p: p.setitem(TABLE, "by", [1, torch.ones(3)]),
    ),
    "a network": (lambda: by_network, lambda p: p.setattr(NETWORK, "in_features", 3)),
    "of the function": (
        lambda: by_attribute,
        lambda p: p.setattr(by_attribute, "factor", 2),
    ),
    "of the class": (Classy, lambda p: p.setattr(Classy, "factor", 2.0)),
    "of its base": (Deeper, lambda p: p.setattr(Classy, "factor", 2.0)),
    "a method": (Deeper, lambda p: p.setattr(Classy, "__call__", lambda self, x: x)),
    "by a method": (Deeper, lambda p: p.setitem(globals(), "FACTOR", 3.0)),
    "nested": (
        lambda: lambda x: [by_name(y) for y in x],
        lambda p: p.setitem(globals(), "FACTOR", 3.0),
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_read_by_name_counts(what, monkeypatch):
    make, change = CHANGES[what]
    before = callable_fingerprint(make())
    assert callable_fingerprint(make()) == before
    change(monkeypatch)
    assert callable_fingerprint(make()) != before
    monkeypatch.undo()
    assert callable_fingerprint(make()) == before


def test_the_weights_of_a_network_that_is_read_count():
    before = callable_fingerprint(by_network)
    NETWORK.weight.data.mul_(2)
    assert callable_fingerprint(by_network) != before


def test_a_name_that_is_no_global_does_not_count(monkeypatch):
    def preprocess(x):
        return x.FACTOR

    before = callable_fingerprint(preprocess)
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert callable_fingerprint(preprocess) == before


def test_another_module_of_the_user_is_looked_into(tmp_path, monkeypatch):
    (tmp_path / "users_settings.py").write_text("FACTOR, UNUSED = 2.0, 1.0")
    monkeypatch.syspath_prepend(str(tmp_path))
    import users_settings

    monkeypatch.setitem(globals(), "users_settings", users_settings)
    reads = eval("lambda x: x * users_settings.FACTOR", globals())
    before = callable_fingerprint(reads)
    users_settings.UNUSED = 2.0
    assert callable_fingerprint(reads) == before
    users_settings.FACTOR = 3.0
    assert callable_fingerprint(reads) != before


def test_a_global_that_cannot_be_read_is_told_once():
    def preprocess(x):
        return x, RUNNING

    with pytest.warns(UserWarning, match="'RUNNING', read by .*cache_key") as told:
        found = [callable_fingerprint(preprocess) for _ in range(3)]
    assert len(told) == 1
    assert len(set(found)) == 1


def test_attributes_are_read_where_pickle_is_refused():
    one, same, other = map(callable_fingerprint, map(Unpicklable, (1.0, 1.0, 2.0)))
    assert one == same != other


def test_a_cache_key_says_what_a_callable_is():
    one, other = Scale(1.0), Shift(2.0)
    one.cache_key = other.cache_key = "version 1"
    assert callable_fingerprint(one) == callable_fingerprint(other)
    other.cache_key = "version 2"
    assert callable_fingerprint(one) != callable_fingerprint(other)


def test_content_that_cannot_be_read_is_an_error():
    with pytest.raises(TypeError, match=r"holds a builtins\.generator.*cache_key"):
        callable_fingerprint(closing_over(x for x in ()))


# Networks --------------------------------------------------------------------------


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


# Weights ---------------------------------------------------------------------------

KINDS = [torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.int8]


@pytest.mark.parametrize("dtype", [*KINDS, torch.bool])
@pytest.mark.parametrize("shape", [(), (3,), (5, 3), (4, 3, 3, 3), (0, 2)])
def test_checksums_see_every_number(dtype, shape):
    tensor = torch.zeros(shape, dtype=dtype)
    found = {checksum([tensor])}
    for number in range(tensor.numel()):
        changed = tensor.clone()
        changed.view(-1)[number] = 1
        assert checksum([changed]) == checksum([changed.clone()]) != checksum([tensor])
        found.add(checksum([changed]))
    rows = len(tensor) if tensor.ndim else 1
    assert len(found) >= 1 + (rows if tensor.numel() else 0)


def test_checksums_see_numbers_in_any_order_of_memory():
    tensor = torch.randn(4, 3, 5, 5)
    last = tensor.to(memory_format=torch.channels_last)
    for view in (last, tensor.transpose(0, 2), tensor[1:, :, ::2], tensor[:, 1:2]):
        before = checksum([view])
        view.data[1, 0, 2, 1] += 1
        assert checksum([view]) != before


def test_checksums_pass_over_what_is_no_plain_memory():
    sparse = torch.eye(3).to_sparse()
    assert checksum([sparse]) == checksum([])
    assert checksum([sparse, torch.ones(2)]) == checksum([torch.ones(2)])
