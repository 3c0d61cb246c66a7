"""What makes networks the same: not how code is written, nor what a forward keeps."""

from __future__ import annotations

import ast
import importlib
import linecache
import os
import subprocess
import sys
import textwrap
import types
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from skood import FeatureStore, LayerFeatureTransformer
from skood.store.identity import code as code_module
from skood.store.identity.network import (
    callable_fingerprint,
    structure_fingerprint,
)
from skood.store.identity.trees import tree_text
from skood.store.identity.weights import weights_digest

WRITTEN = """
import torch
from torch import nn

FACTOR = 2.0


def half(x, by=2.0):
    return x / by * FACTOR


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x):
        return self.linear(x) + 1
"""

AS_WELL = {
    "comments": lambda text: text.replace("* FACTOR", "* FACTOR  # why"),
    "a docstring": lambda text: text.replace(
        "    return x", '    """Halve."""\n    return x'
    ),
    "a class's docstring": lambda text: text.replace(
        "Small(nn.Module):", 'Small(nn.Module):\n    """A network."""\n'
    ),
    "formatting": lambda text: text.replace(
        "return x / by * FACTOR", "return (\n        x / by\n    ) * FACTOR"
    ),
    "its place in the file": lambda text: f"import os\n\n{text}",
}

OTHERWISE = {
    "a number": lambda text: text.replace("by=2.0", "by=3.0"),
    "an operation": lambda text: text.replace("x / by", "x * by"),
    "a forward": lambda text: text.replace("(x) + 1", "(x) - 1"),
    "what is read by name": lambda text: text.replace("FACTOR = 2.0", "FACTOR = 3.0"),
}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Returns the fingerprints of a function and a network in a file with some text."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def fingerprints(text):
        (tmp_path / "users_own.py").write_text(text)
        sys.modules.pop("users_own", None)
        importlib.invalidate_caches()
        module = importlib.import_module("users_own")
        network = structure_fingerprint(module.Small())
        return callable_fingerprint(module.half), network

    yield fingerprints
    sys.modules.pop("users_own", None)


@pytest.mark.parametrize("how", AS_WELL)
def test_the_same_code_written_otherwise_is_the_same(written, how):
    before = written(WRITTEN)
    other = AS_WELL[how](WRITTEN)
    assert other != WRITTEN
    assert written(other) == before


@pytest.mark.parametrize("what", OTHERWISE)
def test_other_code_is_not(written, what):
    before, after = written(WRITTEN), written(OTHERWISE[what](WRITTEN))
    assert before != after
    assert written(WRITTEN) == before


def test_code_that_was_edited_since_it_was_read_is_what_runs(tmp_path, written):
    before = written(WRITTEN)[0]
    module = sys.modules["users_own"]
    edited = WRITTEN.replace("x / by", "x * by")
    (tmp_path / "users_own.py").write_text(edited)
    linecache.checkcache()
    running = callable_fingerprint(module.half)
    assert running != written(edited)[0]
    assert written(WRITTEN)[0] == before


SYNTAX = '''
def f(a, /, b: int = 3, *c, d=1_000, **e) -> "x":
    """doc"""
    x = f"{a!r:>{b}} and {b=} {c[0]:.2f}" "more" f"{'nested'}"
    y = [i async for i in a] if a else {**e, "k": u"text"}
    match a:
        case [1, *rest] | {"k": 1j}: pass
        case _: return -0.0
    try: pass
    except (A, B) as err: raise C from err
    with a as b, c: return lambda q, *, r=...: (yield)
class K(B, metaclass=M):
    z: int = 1e300
'''


def test_trees_say_what_the_program_says():
    texts = {tree_text(ast.parse(text)) for text in (SYNTAX, WRITTEN, "")}
    assert len(texts) == 3
    docstring = SYNTAX.replace('    """doc"""\n', "    # no doc\n")
    assert tree_text(ast.parse(docstring)) == tree_text(ast.parse(SYNTAX))
    for one, other in (("1", "1.0"), ("'a'", "b'a'"), ("f''", "''"), ("a", "b")):
        assert tree_text(ast.parse(one)) == tree_text(ast.parse(other)) or one != other
        trees = [tree_text(ast.parse(f"x = {text}")) for text in (one, other)]
        assert trees[0] != trees[1]


def other_pythons():
    folders = os.environ.get("PATH", "").split(os.pathsep)
    pattern = "python3.[0-9]*[0-9]"
    found = {p.name: p for f in folders for p in Path(f or ".").glob(pattern)}
    return [path for name, path in sorted(found.items()) if name.count(".") == 1]


def test_trees_are_the_same_under_other_versions_of_python(tmp_path):
    import skood.store.identity.trees as trees

    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import ast, hashlib, importlib.util, sys
        if sys.version_info < (3, 10):
            raise SystemExit(3)
        spec = importlib.util.spec_from_file_location("trees", {trees.__file__!r})
        trees = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(trees)
        text = trees.tree_text(ast.parse({SYNTAX!r}))
        print(hashlib.sha256(text.encode()).hexdigest())
        """)
    )
    runs = [
        subprocess.run([str(python), str(script)], capture_output=True, text=True)
        for python in [sys.executable, *other_pythons()]
    ]
    digests = {run.stdout for run in runs if run.returncode == 0}
    assert len(digests) == 1  # of one version at least: this one


# Packages --------------------------------------------------------------------------


def test_code_of_a_package_counts_by_its_version(monkeypatch):
    package = code_module.package_of
    before = structure_fingerprint(nn.Linear(2, 2)), callable_fingerprint(np.sqrt)
    monkeypatch.setattr(torch, "__version__", "1.0+cpu")
    package.cache_clear()
    other = structure_fingerprint(nn.Linear(2, 2)), callable_fingerprint(np.sqrt)
    monkeypatch.setattr(torch, "__version__", "1.0+cu121")
    package.cache_clear()
    same = structure_fingerprint(nn.Linear(2, 2)), callable_fingerprint(np.sqrt)
    monkeypatch.undo()
    package.cache_clear()
    assert other == same
    assert other[0] != before[0]
    assert other[1] == before[1]


def test_the_home_of_code():
    assert code_module.package_of("torch.nn.modules").startswith("torch ")
    assert code_module.package_of("sklearn.base").startswith("sklearn ")
    assert code_module.package_of("functools") == "Python"
    assert code_module.package_of("__main__") is None
    assert code_module.package_of(__name__) is None
    assert code_module.package_of(None) is None


# What a forward changes ------------------------------------------------------------


class Keeping(nn.Module):
    """Keeps its last activations, counts, and takes notes in several ways."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(5, 8), nn.Linear(8, 3)
        self.last, self.rows, self.notes, self.scale = None, 0, [], 1.0
        self.by_name = {"last": None}

    def forward(self, x):
        self.rows += len(x)
        self.notes.append(len(x))
        self.last = self.by_name["last"] = self.first(x).relu()
        self.made_here = self.last.mean()
        return self.second(self.last) * self.scale


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)


@pytest.mark.parametrize("inside", [False, True])
def test_a_network_that_keeps_what_it_computed_is_found_again(tmp_path, X, inside):
    keeping = Keeping()
    network = nn.Sequential(keeping, nn.ReLU()) if inside else keeping
    cached = LayerFeatureTransformer(network, "logits", cache=tmp_path)
    names = ("by_name", "last", "made_here", "notes", "rows")
    with pytest.warns(UserWarning, match=".*".join(names)) as told:
        found = [clone(cached).fit_transform(X) for _ in range(3)]
    assert len([w for w in told if "changes what it holds" in str(w.message)]) <= 1
    assert keeping.rows == len(X)
    bare = clone(cached).set_params(cache=None).fit_transform(X)
    for features in found:
        np.testing.assert_allclose(np.asarray(features), np.asarray(bare), rtol=1e-5)


def test_another_process_knows_what_a_forward_changes(tmp_path, X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        LayerFeatureTransformer(Keeping(), "logits", cache=tmp_path).fit_transform(X)
        again = Keeping()  # as another process would make it
        cached = LayerFeatureTransformer(again, "logits", cache=tmp_path)
        cached.fit_transform(X)
        assert again.rows == 0
        again.scale = 2.0  # which is a configuration
        cached.fit_transform(X)
    assert again.rows == len(X)


def test_what_only_a_later_batch_changes_is_left_out(tmp_path, X):
    rows = SimpleNamespace(cache_key="counter", seen=0)

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.linear, self.largest = nn.Linear(5, 3), None

        def forward(self, x):
            rows.seen += len(x)
            if len(x) > 2:  # more than it is looked at with
                self.largest = len(x)
            return self.linear(x)

    cached = LayerFeatureTransformer(Counting(), "linear", cache=tmp_path)
    with pytest.warns(UserWarning, match="changes what it holds .*'largest'"):
        first = cached.fit_transform(X)
    again = clone(cached)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (np.asarray(again.fit_transform(X)) == np.asarray(first)).all()
        assert rows.seen == len(X)
        another = Counting()  # as another process would make it
        LayerFeatureTransformer(another, "linear", cache=tmp_path).fit_transform(X)
    assert rows.seen == len(X)


def test_a_note_that_says_something_else_is_passed_over(tmp_path, X):
    store = FeatureStore(tmp_path)
    network = nn.Sequential(nn.Linear(5, 3))
    from skood.store.identity.network import code_fingerprint

    name = f"changing {code_fingerprint(network)}"
    for about in ({}, {"text": "{"}, {"text": "3"}, {"text": "[[1]]"}):
        store.opened.add("note", {}, {"name": name, **about})
    LayerFeatureTransformer(network, "0", cache=store).fit_transform(X)


# Weights ---------------------------------------------------------------------------


def test_changes_that_make_up_for_one_another_are_seen():
    network = nn.Linear(2, 5000)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([1.0, -1.0]))
    for change in (
        lambda: network.weight.data.neg_(),
        lambda: network.weight.data.copy_(network.weight.data.flip(1)),
        lambda: network.weight.detach().numpy()[:2].__imul__(-1),
    ):
        network.weight.data[:, 0] = 1.5
        before = weights_digest(network)
        change()
        assert weights_digest(network) != before


COUNTED = """
from torch import nn

CALLS, FACTOR = [0], 2.0


def counted(x):
    CALLS[0] += 1
    return x * FACTOR


class Counted(nn.Module):
    total = 0

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 4)

    def forward(self, x):
        type(self).total += len(x)
        return counted(self.linear(x))
"""


@pytest.mark.filterwarnings("ignore:a forward of Counted changes")
@pytest.mark.parametrize(("before", "after"), [("2.0", "3.0"), ("x * F", "x + F")])
def test_code_counts_beside_the_globals_that_a_forward_changes(
    tmp_path, X, before, after
):
    def network(text):
        module = types.ModuleType("users_counting")
        name = str(tmp_path / f"{abs(hash(text))}.py")
        Path(name).write_text(text)
        module.__file__ = name
        sys.modules[module.__name__] = module
        exec(compile(text, name, "exec"), module.__dict__)
        torch.manual_seed(0)
        return module.Counted().eval()

    try:
        for text in (COUNTED, COUNTED.replace(before, after)):
            counting = network(text)
            features = LayerFeatureTransformer(
                counting, "logits", cache=tmp_path / "cache"
            )
            for _ in range(3):
                found = features.fit_transform(X).block("logits")
                np.testing.assert_allclose(found, expected_of(counting, X), atol=1e-6)
            assert counting.total == 4 * len(X)  # three of them beside the cache
    finally:
        del sys.modules["users_counting"]


def expected_of(network, X):
    with torch.no_grad():
        return network(torch.tensor(X, dtype=torch.float32)).numpy()
