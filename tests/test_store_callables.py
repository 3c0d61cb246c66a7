"""Fingerprints of callables: all that they read by name counts."""

from __future__ import annotations

import functools
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from skood.store.identity.network import (
    callable_fingerprint,
)


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
