"""Keys and fingerprints: the same for the same, another for anything else."""

from __future__ import annotations

import functools
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from skood.extraction.store.fingerprint import (
    callable_fingerprint,
    structure_fingerprint,
)
from skood.extraction.store.row_keys import numbered_keys, row_keys


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
    code = (
        "import test_store_keys as t; from test_store_keys import *; "
        f"print(*(t.callable_fingerprint(f) for f in [{', '.join(names)}]))"
    )
    here = Path(__file__).resolve().parent
    path = os.pathsep.join([str(here), str(here.parent)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "5"}
    command = [sys.executable, "-c", code]
    ran = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    )
    import test_store_keys as module

    functions = [
        module.scaled,
        module.Scale(2.0),
        module.closing_over({4, "a", "b"}),
        module.Recursive(),
    ]
    assert ran.stdout.split() == list(map(callable_fingerprint, functions))


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


def test_a_patched_forward_is_another_network():
    block = Block()
    before = structure_fingerprint(block)
    block.forward = lambda x: x
    assert structure_fingerprint(block) != before
