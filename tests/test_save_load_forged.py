"""Folders that are damaged, forged, half written or in the way."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import shutil
import sys
import warnings
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from networks import Convolutional, convolutional
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import skood
from skood import (
    KNN,
    LSGM,
    AnchoredClassifier,
    LayerFeatureTransformer,
    Mahalanobis,
)
from skood.persistence import LoadError, folder
from skood.persistence.arrays import array_of
from skood.persistence.decoding import READERS, names_in
from skood.persistence.document import document_text, parsed_document
from skood.persistence.names import is_restorable
from skood.persistence.tensors import Tensor, tensors_in

ROWS = np.random.default_rng(0).normal(size=(40, 4))
NETWORK = Convolutional()
FILES = ("arrays.safetensors", "estimator.json", "network.safetensors")

# What Python itself reports of the process while a folder is loaded ------------------

_events: list[tuple[str, tuple]] | None = None
SUSPECT = ("compile", "ctypes", "exec", "ftplib", "import", "marshal", "os.", "pickle")
SUSPECT += (
    "shutil",
    "socket",
    "subprocess",
    "open",
    "tempfile",
    "urllib",
    "webbrowser",
)
HARMLESS = ("os.listdir", "os.scandir", "os.walk")


def _hook(event, args):
    if _events is not None and event.startswith(SUSPECT) and event not in HARMLESS:
        _events.append((event, args))


sys.addaudithook(_hook)


def watched_load(path, **how):
    """Load, and assert that files in the folder were read and nothing else was done."""
    global _events
    _events = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return skood.load(path, **how)
    finally:
        events, _events = _events, None
        for event, args in events:
            assert event == "open", (event, args)
            assert Path(os.fsdecode(args[0])).parent == Path(path), args
            assert args[1] in ("r", "rb", None), args
            assert not args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT), args


def pipeline():
    features = LayerFeatureTransformer(convolutional(), ["relu1", "logits"])
    images = np.random.default_rng(0).normal(size=(9, 3, 8, 8)).astype("float32")
    return Pipeline([("features", features), ("detector", KNN(3))]).fit(images)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "saved"
    skood.save(pipeline(), path)
    watched_load(path, network=NETWORK)  # what has to be imported, is
    skood.load(path, network=Convolutional)
    return path


@pytest.fixture
def path(original, tmp_path):
    shutil.copytree(original, tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def small(tmp_path):
    skood.save(make_pipeline(StandardScaler(), KNN(3)).fit(ROWS), tmp_path / "small")
    skood.load(tmp_path / "small")
    return tmp_path / "small"


def content_of(path):
    content = json.loads((path / "estimator.json").read_bytes())
    del content["digest"]
    return content


def forge(path, content):
    """Write a text of any content, with the right digests."""
    files = {name for name in FILES if name != "estimator.json"}
    digests = {
        name: hashlib.sha256((path / name).read_bytes()).hexdigest()
        for name in files
        if (path / name).exists()
    }
    if "files" in content:
        content = {**content, "files": digests}
    (path / "estimator.json").write_bytes(document_text(content))


def write_signed(path, body):
    digest = hashlib.sha256(body).hexdigest()
    tail = f',\n "digest": "{digest}"\n}}\n'.encode()
    (path / "estimator.json").write_bytes(body + tail)


def state_of(content):
    return content["estimator"]["object"]["state"]


# Damage ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused(name, path):
    whole = (path / name).read_bytes()
    lengths = {0, 1, 7, 8, 9, 63, 64, 65, len(whole) - 1, len(whole) - 2}
    lengths |= set(random.Random(0).sample(range(len(whole)), 60))
    for length in lengths:
        (path / name).write_bytes(whole[:length])
        with pytest.raises(LoadError):
            watched_load(path, network=NETWORK)
    (path / name).write_bytes(whole + b"\n")
    with pytest.raises(LoadError):
        watched_load(path, network=NETWORK)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_refused(name, path):
    whole = (path / name).read_bytes()
    rng = random.Random(1)
    for position in {*range(80), *rng.sample(range(len(whole)), 150)}:
        changed = bytearray(whole)
        changed[position] ^= 1 << rng.randrange(8)
        (path / name).write_bytes(changed)
        with pytest.raises(LoadError):
            skood.load(path, network=NETWORK)
    (path / name).write_bytes(whole)
    skood.load(path, network=NETWORK)


def test_every_byte_of_the_text_counts(path):
    whole = (path / "estimator.json").read_bytes()
    rng = random.Random(3)
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= rng.randrange(1, 256)
        with pytest.raises(LoadError):
            parsed_document(bytes(changed), path)
    assert parsed_document(whole, path)["schema"] == 1


def test_files_that_are_missing_or_do_not_belong(path, small, tmp_path):
    for name in FILES:
        (path / name).rename(tmp_path / name)
        with pytest.raises(LoadError, match=name):
            watched_load(path, network=NETWORK)
        (path / name).mkdir()
        with pytest.raises(LoadError, match=name):
            watched_load(path, network=NETWORK)
        (path / name).rmdir()
        if hasattr(os, "mkfifo"):
            os.mkfifo(path / name)
            with pytest.raises(LoadError, match=name):
                watched_load(path, network=NETWORK)
            (path / name).unlink()
        (path / name).symlink_to(tmp_path / name)  # as in a cache of a hub
        watched_load(path, network=NETWORK)
    shutil.copy(path / "network.safetensors", small)
    with pytest.raises(LoadError, match="does not belong"):
        watched_load(small)
    (path / "README.md").write_text("read by nobody")
    watched_load(path, network=NETWORK)


def test_what_is_no_saved_estimator(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        skood.load(tmp_path / "nothing")
    with pytest.raises(LoadError, match=r"no saved estimator: there is no estimator"):
        skood.load(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(LoadError, match="no saved estimator"):
        skood.load(tmp_path / "file")
    for text in ("", "{}", "[]", "null", '{"format": "skood estimator"}'):
        (tmp_path / "estimator.json").write_text(text)
        with pytest.raises(LoadError):
            skood.load(tmp_path)


# Forged texts ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, r"newer than this one: update skood"),
        ({"schema": 0}, "never was"),
        ({"schema": "1"}, "does not say"),
        ({"schema": True}, "does not say"),
        ({"versions": {"skood": "99.0"}}, r"written by skood 99.0 .*update skood"),
        ({"versions": None}, "does not say"),
        ({"format": "skood features"}, "not what skood.save writes"),
        ({"more": 1}, "other entries"),
        ({"files": None}, "not as skood|names files"),
        ({"networks": None}, ""),
        ({"networks": [1]}, ""),
        ({"networks": []}, "network has 1 networks"),
        ({"estimator": 3}, "is no object"),
        ({"estimator": {"list": []}}, "is no object"),
        ({"estimator": {"object": 3}}, ""),
        ({"estimator": {"object": {"class": "skood.detectors.knn:KNN"}}}, "state"),
    ],
    ids=str,
)
def test_another_version_or_form(change, message, path):
    content = {**content_of(path), **change}
    head = {"format": "skood estimator", **content}
    text = document_text({k: v for k, v in head.items() if k not in ("format",)})
    if "format" in change:
        text = text.replace(b"skood estimator", change["format"].encode())
    (path / "estimator.json").write_bytes(text)
    with pytest.raises(LoadError, match=message or None):
        watched_load(path, network=NETWORK)


@pytest.mark.parametrize(
    "text",
    [
        '"x": 1, "x": 2',
        '"estimator": ' + "[" * 100_000 + "]" * 100_000,
        '"estimator": ' + '{"list": ' * 5000 + "1" + "}" * 5000,
        '"estimator": NaN',
        '"estimator": -Infinity',
        '"estimator": ' + "9" * 10_000,
        '"estimator": "\\ud800"',
        '"estimator": 1e999',
        '"estimator": }',
    ],
    ids=lambda text: text[:24],
)
def test_text_that_is_hard_to_read(text, small):
    body = b'{\n "format": "skood estimator",\n "schema": 1,\n ' + text.encode()
    write_signed(small, body)
    with pytest.raises(LoadError):
        watched_load(small)


def test_entries_that_stand_twice_are_refused(small):
    content = {k: v for k, v in content_of(small).items() if k not in "format schema"}
    text = document_text(content)[: -len(',\n "digest": ""\n}\n') - 64]
    state = b'"verbose": false'
    assert text.count(state) == 1
    write_signed(small, text)
    watched_load(small)
    write_signed(small, text.replace(state, state + b", " + state))
    with pytest.raises(LoadError, match="stands there twice"):
        watched_load(small)


def test_classes_with_a_foreign_setstate_are_not_restored():
    class Foreign:
        def __setstate__(self, state):
            raise AssertionError

    own = type("Own", (Foreign, BaseEstimator), {"__module__": "skood.detectors"})
    safe = type("Own", (BaseEstimator,), {"__module__": "skood.detectors"})
    assert is_restorable(safe)
    assert not is_restorable(own)


def test_deep_nodes_are_refused(small):
    content = content_of(small)
    state_of(content)["verbose"] = "here"
    text = document_text(content)[: -len(',\n "digest": ""\n}\n') - 64]
    for first, last in ((b"[", b"]"), (b'{"tuple": [', b"]}")):
        nodes = first * 900 + last * 900
        write_signed(small, text.replace(b'"here"', nodes))
        with pytest.raises(LoadError, match=r"(?i)recursion|not as skood"):
            watched_load(small)


NAMES = [
    "os:system",
    "builtins:eval",
    "builtins:exec",
    "subprocess:Popen",
    "posix:system",
    "sklearn.utils:os",
    "sklearn.utils.os:system",
    "sklearn.base:warnings",
    "sklearn.base:BaseEstimator.__setstate__",
    "sklearn.base:BaseEstimator.get_params.__globals__",
    "sklearn.preprocessing._data:np",
    "sklearn.conftest:pytest",
    "sklearn.datasets._base:load_files",
    "sklearn.experimental.enable_halving_search_cv:model_selection",
    "sklearn.externals:array_api_compat",
    "sklearn.utils._param_validation:Interval",
    "sklearn.pipeline:joblib",
    "sklearn.utils.parallel:Parallel",
    "joblib.memory:Memory",
    "skood:load",
    "skood:__getattr__",
    "skood._version:is_newer",
    "skood._seeds:check_random_state",
    "skood._state:InPickle",
    "skood.detectors.knn:np",
    "skood.detectors.knn:KNN.fit",
    "skood.detectors.knn:__builtins__",
    "skood.detectors.knn:LayerFeatures",
    "skood.store.feature_store:FeatureStore",
    "skood.store.atomic:write_text",
    "skood.features.stored:StoredArray",
    "skood.neural.mlp:MLP",
    "skood.persistence.api:load",
    "skood.persistence.errors:LoadError",
    "skood.nowhere:Thing",
    "skood.detectors.knn:Nothing",
    "torch:load",
    "torch.hub:load",
    "torch.nn.modules.linear:Linear",
    "torch.optim.adam:Adam",
    "pickle:loads",
    "danger:Danger",
    "danger:run",
    "skood",
    "skood:",
    ":KNN",
    "",
    "skood.detectors.knn:KNN:fit",
    "skood..detectors:KNN",
    "skood.detectors/../knn:KNN",
    "../../danger:run",
    "/etc/passwd:x",
    "skoodx:KNN",
    "sklearn_extra:KNN",
]

MAY_BE_NAMED = [name for name in NAMES if name.endswith((":MLP", ":Linear", ":Adam"))]
"""These may be named, to train a network, but objects of them are not restored."""


@pytest.fixture
def danger(tmp_path, monkeypatch):
    """Modules that leave a trace when they are imported, and by what they define."""
    trace = tmp_path / "trace"
    (tmp_path / "lib").mkdir()
    code = (
        "from pathlib import Path\n"
        f"TRACE = Path({str(trace)!r})\n"
        "TRACE.write_text('imported')\n"
        "def run(*args): TRACE.write_text('ran')\n"
        "class Danger:\n"
        "    def __setstate__(self, state): run()\n"
    )
    for name in ("danger", "skoodx", "sklearn_extra"):
        (tmp_path / "lib" / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    yield trace
    sys.modules.pop("danger", None)


@pytest.mark.parametrize(
    "name", [*NAMES, None, 3, ["os:system"], {"name": "os:system"}]
)
def test_nothing_but_what_is_allowed_is_named(name, small, danger):
    original = content_of(small)
    body = {"class": name, "state": {"a": 1}}
    nodes = [
        {"object": body},
        {"object": {**body, "slots": {"a": 1}}},
        {"name": name},
        {"namedtuple": {"class": name, "values": [1, 2]}},
        {"compiled": body},
        {"around": name},
        {"pairs": [[{"name": name}, 1]]},
        {"OrderedDict": [[1, {"name": name}]]},
        {"Bunch": {"dict": {"a": {"name": name}}}},
        {"partial": {"func": {"name": name}, "args": [], "keywords": {}}},
        {"objects": {"shape": [1], "items": [{"object": body}]}},
    ]
    if name in MAY_BE_NAMED:
        nodes = [node for node in nodes if '"name"' not in json.dumps(node)]
    before = set(sys.modules)
    for node in nodes:
        content = json.loads(json.dumps(original))
        state_of(content)["verbose"] = node
        forge(small, content)
        for how in ({}, {"mmap": True}, {"trusted": ["danger.other", "os.path.join"]}):
            with pytest.raises(LoadError):
                skood.load(small, **how)
    content = json.loads(json.dumps(original))
    content["estimator"] = {"object": body}
    forge(small, content)
    with pytest.raises(LoadError):
        skood.load(small)
    new = {m for m in set(sys.modules) - before if m.split(".")[0] not in ("skood",)}
    assert not {m for m in new if "danger" in m or "conftest" in m or "enable_" in m}
    assert not danger.exists()


_LISTS = ("tuple", "set", "frozenset", "slice", "masked")


@pytest.mark.parametrize("kind", sorted(READERS))
def test_names_are_found_wherever_values_are_read(kind):
    """The values that a kind reads of its node are among those that are looked at."""
    inner = {"name": "os:system"}
    bodies = {
        **{kind: [1, 2, inner] for kind in _LISTS},
        **{kind: [[inner, inner]] for kind in ("pairs", "OrderedDict")},
        **{kind: {"dict": inner} for kind in ("dict", "RandomState", "Generator")},
        "Bunch": {"dict": {"a": inner}},
        "partial": {"func": inner, "args": [inner], "keywords": {"name": inner}},
        "objects": {"shape": [1], "items": [inner]},
        "compiled": {"class": "Tree", "state": {"name": inner}},
        "namedtuple": {"class": "a:B", "values": [inner]},
        "object": {"class": "a:B", "state": {"name": inner}, "slots": {"x": inner}},
        "name": "os:system",
    }
    found = sorted(names_in([{kind: bodies.get(kind)}]))
    count = json.dumps(bodies.get(kind)).count("os:system")
    classes = ["a:B"] if kind in ("object", "namedtuple") else []
    assert found == classes + ["os:system"] * count
    assert bool(count) == (kind not in ("array", "around", "network"))


def test_only_metrics_of_scikit_learn_are_named_untrusted(small):
    content = content_of(small)
    for name, fits in (
        ("sklearn.metrics._ranking:roc_auc_score", True),
        ("sklearn.metrics._ranking:_binary_uninterpolated_average_precision", False),
        ("sklearn.metrics._ranking:column_or_1d", False),
        ("sklearn.utils.validation:column_or_1d", False),
        ("sklearn.metrics:roc_auc_score", False),
    ):
        state_of(content)["verbose"] = {"name": name}
        forge(small, content)
        if fits:
            assert watched_load(small).verbose is roc_auc_score
        else:
            with pytest.raises(LoadError, match=r"no class of its module|not found"):
                watched_load(small)


def test_no_import_is_tried_where_a_name_is_not_trusted(small):
    for name in NAMES:
        content = content_of(small)
        if name.startswith(("skood.", "skood:", "torch.", "sklearn.")):
            continue  # these are imported already, or by their own package
        state_of(content)["verbose"] = {"name": name}
        forge(small, content)
        with pytest.raises(LoadError):
            watched_load(small)


def test_trust_reaches_no_further_than_the_name(small, danger):
    content = content_of(small)
    state_of(content)["verbose"] = {"name": "danger:run"}
    forge(small, content)
    for trusted in ("danger", "danger.run.x", "danger.*", ".run", "run", "*"):
        with pytest.raises(LoadError, match=r"danger.run"):
            skood.load(small, trusted=[trusted])
        assert not danger.exists()
    assert callable(skood.load(small, trusted=["danger.run"]).verbose)
    assert danger.read_text() == "imported"


class Payload:
    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


def test_no_state_reaches_an_unpickler(tmp_path):
    net = AnchoredClassifier(skood.neural.mlp.MLP)
    path = tmp_path / "net"
    skood.save(net, path)
    skood.load(path)
    payload = pickle.dumps(Payload(tmp_path / "trace"))
    original = content_of(path)
    for node in (
        {"bytes": payload.hex()},
        {"scalar": {"dtype": f"|S{len(payload)}", "data": payload.hex()}},
    ):
        content = json.loads(json.dumps(original))
        state_of(content)["__cuda_dependent_attributes__"] = node
        forge(path, content)
        skood.load(path)
        content["estimator"]["object"]["state"] = {
            "__cuda_dependent_attributes__": node,
            "device": "cpu",
        }
        forge(path, content)
        with pytest.raises(LoadError):
            skood.load(path)
        content["estimator"]["object"]["class"] = (
            "skorch.classifier:NeuralNetClassifier"
        )
        forge(path, content)
        with pytest.raises(LoadError, match="NeuralNetClassifier"):
            skood.load(path)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("name", "node", "message"),
    [
        ("memory", "/tmp/pickles", "folder of pickles"),
        ("memory", {"path": "somewhere"}, "folder of pickles"),
        ("memory", {"tuple": []}, "folder of pickles"),
        ("steps", {"array": {"name": "a0", "dtype": "|O", "shape": [1]}}, "no type"),
        ("steps", {"array": {"name": "a0", "dtype": "O", "shape": []}}, "no type"),
        ("steps", {"array": {"name": "a0", "dtype": "f8,O", "shape": []}}, "no type"),
        ("steps", {"array": {"name": "a0", "dtype": "<f8", "shape": [-1]}}, "no shape"),
        ("steps", {"array": {"name": "a0", "dtype": "<f8", "shape": [2**62]}}, "bytes"),
        ("steps", {"array": {"name": "a0", "dtype": "<f8", "shape": [10**9] * 9}}, ""),
        ("steps", {"array": {"name": "a0", "dtype": "<f8", "shape": [0, 2**62]}}, ""),
        ("steps", {"array": {"name": "a0", "dtype": "<U0", "shape": [2**62]}}, "bytes"),
        ("steps", {"array": {"name": "a0", "dtype": "<f8", "shape": [True]}}, "shape"),
        ("steps", {"array": {"name": "../../a0", "dtype": "<f8", "shape": [1]}}, "a0"),
        ("steps", {"array": {"name": "/etc/passwd", "dtype": "<f8", "shape": []}}, ""),
        ("steps", {"objects": {"shape": [2**40], "items": []}}, "reshape"),
        ("steps", {"scalar": {"dtype": "|O", "data": "00" * 8}}, "no type"),
        ("steps", {"scalar": {"dtype": "<f8", "data": "00"}}, "bytes"),
        ("steps", {"dtype": "O"}, "no type"),
        ("steps", {"numpy_type": "load"}, "no scalar type"),
        ("steps", {"python_type": "eval"}, "python_type"),
        ("steps", {"torch_dtype": "load"}, "no type of tensors"),
        ("steps", {"network": 0}, "which there is not"),
        ("steps", {"network": True}, "which there is not"),
        ("steps", {"around": 7}, "lies in no object"),
        ("steps", {"set": [[1]]}, "unhashable"),
        ("steps", {"pairs": [[1, 2], [1, 3]]}, "twice"),
        ("steps", {"tuple": {"0": 1}}, "no list"),
        ("steps", {"tuple": [], "list": []}, "of no kind"),
        ("steps", {}, "of no kind"),
        ("steps", {"pickle": "80"}, "pickle"),
        ("steps", {"RandomState": {"bit_generator": "PCG64"}}, "RandomState"),
        ("steps", {"Generator": {"bit_generator": "os"}}, "Generator"),
        ("_skood_version", "99", "no such|newer|update"),
    ],
    ids=str,
)
def test_forged_nodes(name, node, message, small):
    content = content_of(small)
    if name == "_skood_version":
        steps = state_of(content)["steps"]
        node, content_node = "99", steps[1]["tuple"][1]["object"]["state"]
        content_node[name] = node
    else:
        state_of(content)[name] = node
    forge(small, content)
    with pytest.raises(LoadError, match=message or None):
        watched_load(small)


def test_generators_are_kept_within_their_buffers(tmp_path):
    for generator, name in (
        (np.random.RandomState(0), "pos"),
        (np.random.Generator(np.random.MT19937(0)), "pos"),
        (np.random.Generator(np.random.Philox(0)), "buffer_pos"),
    ):
        path = tmp_path / str(len(list(tmp_path.iterdir())))
        skood.save(LSGM(2).set_params(random_state=generator), path)
        for position in (-1, 625, 10**9):
            text = content_of(path)
            [node] = state_of(text)["random_state"].values()
            inside = node["state"]["dict"] if name == "pos" else node
            inside[name] = position
            forge(path, text)
            with pytest.raises(LoadError, match="out of range"):
                watched_load(path)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("left_child", 0),
        ("left_child", 10**6),
        ("right_child", -5),
        ("feature", 10**6),
        ("feature", -7),
        ("max_depth", 0),
        ("n_outputs", 9),
        ("n_features", 0),
    ],
)
def test_trees_lead_to_their_leaves(column, value, tmp_path):
    path = tmp_path / "forest"
    skood.save(IsolationForest(n_estimators=1, random_state=0).fit(ROWS), path)
    skood.load(path)
    content = content_of(path)
    [tree] = [n["compiled"] for n in _nodes_of(content["estimator"]) if "compiled" in n]
    if column in tree["state"]:
        tree["state"][column] = value
    else:
        name = tree["state"]["nodes"]["dict"][column]["array"]["name"]
        file = path / "arrays.safetensors"
        data = np.fromfile(file, np.uint8)
        tensors_in(data, file)[name].data.view(np.int64)[0] = value
        data.tofile(file)
    forge(path, content)
    with pytest.raises(LoadError, match=r"a tree|cannot be read"):
        watched_load(path)


def _nodes_of(node):
    parts = node.values() if isinstance(node, dict) else node
    if isinstance(node, dict):
        yield node
    for part in parts if isinstance(node, (dict, list)) else ():
        if isinstance(part, (dict, list)):
            yield from _nodes_of(part)


# Forged paths ------------------------------------------------------------------------


def _strings(node, place=()):
    if isinstance(node, str):
        yield place
    elif isinstance(node, dict):
        for key, part in node.items():
            yield from _strings(part, (*place, key))
    elif isinstance(node, list):
        for number, part in enumerate(node):
            yield from _strings(part, (*place, number))


def _replaced(content, place, value):
    content = json.loads(json.dumps(content))
    node = content
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return content


def test_no_string_is_a_path(path, tmp_path):
    """Each string in turn names a file outside: it is neither read nor written."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    content = content_of(path)
    places = [p for p in _strings(content) if p[0] not in ("format", "files")]
    assert len(places) > 40
    for number, place in enumerate(places):
        for value in ("../secret", str(secret)) if number % 9 == 0 else (str(secret),):
            forge(path, _replaced(content, place, value))
            with suppress(LoadError):
                watched_load(path, network=NETWORK)
    files = ["../secret", str(secret), "arrays.safetensors/../../secret"]
    for name in files:
        changed = {**content, "files": {name: "0" * 64}}
        (path / "estimator.json").write_bytes(document_text(changed))
        with pytest.raises(LoadError, match="names files that there never are"):
            watched_load(path, network=NETWORK)
    assert sorted(os.listdir(path)) == sorted(FILES)
    assert sorted(os.listdir(tmp_path)) == ["saved", "secret"]
    assert secret.read_text() == "secret"


def test_random_changes_of_the_text(path):
    rng = random.Random(2)
    content = content_of(path)
    places = [p for p in _places(content) if p[0] not in ("format", "files")]
    values = [None, True, -1, 2**70, 0.5, "", "a0", [], [1], {}, {"tuple": [1]}]
    values += [{"object": {}}, {"name": "os:system"}, {"array": None}, "skood:load"]
    counts = {"refused": 0, "loaded": 0}
    for _ in range(350):
        changed = content
        for _ in range(rng.choice([1, 1, 3])):
            try:
                changed = _replaced(changed, rng.choice(places), rng.choice(values))
            except (KeyError, IndexError, TypeError):
                continue
        forge(path, changed)
        try:
            watched_load(path, network=NETWORK)
            counts["loaded"] += 1
        except LoadError:
            counts["refused"] += 1
    assert min(counts.values()) > 35


def _places(node, place=()):
    if place:
        yield place
    parts = node.items() if isinstance(node, dict) else enumerate(node)
    for key, part in parts if isinstance(node, (dict, list)) else ():
        if isinstance(part, (dict, list)):
            yield from _places(part, (*place, key))
        else:
            yield (*place, key)


# Forged arrays -----------------------------------------------------------------------


def _about(shape, first, last, dtype="F64"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


HEADERS = [
    b"",
    b"null",
    b"[]",
    b"{",
    b"[" * 100_000,
    b"\xff\xfe",
    json.dumps({"a0": 1}).encode(),
    json.dumps({"a0": {}}).encode(),
    json.dumps({"a0": _about([2**62], 0, 2**65)}).encode(),
    json.dumps({"a0": _about([10**9] * 50, 0, 8)}).encode(),
    json.dumps({"a0": _about([-1], 0, 8)}).encode(),
    json.dumps({"a0": _about([True], 0, 8)}).encode(),
    json.dumps({"a0": _about([1.0], 0, 8)}).encode(),
    json.dumps({"a0": _about([1], 8, 0)}).encode(),
    json.dumps({"a0": _about([1], -8, 0)}).encode(),
    json.dumps({"a0": _about([1], 0, 8, "OBJECT")}).encode(),
    json.dumps({"a0": _about([2], 0, 8)}).encode(),
    json.dumps({f"a{n}": _about([4], 0, 32) for n in range(9)}).encode(),
    json.dumps({"a0": _about([3], 0, 24), "a1": _about([2], 16, 32)}).encode(),
    json.dumps({"a0": _about([1], 0, 8), "a1": _about([1], 24, 32)}).encode(),
    json.dumps({"a0": _about([3], 8, 32)}).encode(),
    json.dumps({"a0": _about([1], 0, 8)}).encode(),
    b"{}",
]
STRANGE = [json.dumps({"b0": _about([4], 0, 32)}).encode()]
"""In order, but with other arrays than the text names."""


@pytest.mark.parametrize("name", ["arrays.safetensors", "network.safetensors"])
@pytest.mark.parametrize(
    "header", [*HEADERS, *STRANGE], ids=lambda h: h[:48].decode(errors="replace")
)
def test_forged_headers(name, header, path):
    whole = len(header).to_bytes(8, "little") + header + bytes(32)
    (path / name).write_bytes(whole)
    forge(path, content_of(path))
    with pytest.raises(LoadError):
        watched_load(path, network=NETWORK)
    if header in HEADERS:
        with pytest.raises(LoadError, match="its header"):
            tensors_in(np.frombuffer(whole, np.uint8), path / name)


def test_arrays_have_bytes():
    none = {"a0": Tensor("U8", (0,), np.empty(0, np.uint8))}
    about = {"name": "a0", "dtype": "<U0", "shape": [5]}
    with pytest.raises(ValueError, match="0 bytes"):
        array_of(about, none, copy=True)


@pytest.mark.parametrize("length", [0, 2**63, 2**64 - 1])
def test_forged_lengths(length, path):
    for name in ("arrays.safetensors", "network.safetensors"):
        (path / name).write_bytes(length.to_bytes(8, "little") + b"{}")
        forge(path, content_of(path))
        with pytest.raises(LoadError, match="is damaged"):
            watched_load(path, network=NETWORK)


# Writing -----------------------------------------------------------------------------

OLD, NEW = Mahalanobis().fit(ROWS), KNN(3).fit(ROWS)


class Steps:
    """Counts what is done to the disk, and fails at one of these steps."""

    def __init__(self, monkeypatch, failing, failure):
        self.done, self.failing, self.failure = 0, failing, failure
        for module, name in (
            (os, "fsync"),
            (os, "rename"),
            (Path, "mkdir"),
            (Path, "open"),
            (Path, "unlink"),
            (Path, "rmdir"),
        ):
            real = getattr(module, name)
            monkeypatch.setattr(module, name, self._counted(real))
        monkeypatch.setattr(
            folder, "write_tensors", self._counted(folder.write_tensors)
        )

    def _counted(self, real):
        def counted(*args, **kwargs):
            self.done += 1
            if self.done == self.failing:
                self.failure()
            return real(*args, **kwargs)

        return counted


def _fail():
    raise OSError("the disk is full")


def _interrupt():
    raise KeyboardInterrupt


def _kill():
    os._exit(9)


def _types_at(path):
    return type(skood.load(path)) if path.exists() else None


def _n_steps(tmp_path, overwrite):
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path / "counted"
        if overwrite:
            skood.save(OLD, path)
        steps = Steps(patch, 0, _fail)
        skood.save(NEW, path, overwrite=overwrite)
    shutil.rmtree(path)
    return steps.done


@pytest.mark.parametrize("failure", [_fail, _interrupt])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_save_that_fails_leaves_what_was_there(overwrite, failure, tmp_path):
    n_steps = _n_steps(tmp_path, overwrite)
    assert n_steps >= 9
    for step in range(1, n_steps + 1):
        home = tmp_path / str(step)
        home.mkdir()
        path = home / "saved"
        if overwrite:
            skood.save(OLD, path)
        raised = False
        with pytest.MonkeyPatch.context() as patch:
            Steps(patch, step, failure)
            try:
                skood.save(NEW, path, overwrite=overwrite)
            except (OSError, KeyboardInterrupt):
                raised = True
        found = _types_at(path)
        assert found in ((Mahalanobis, KNN) if overwrite else (None, KNN)), step
        assert raised or found is KNN
        left = [p for p in home.iterdir() if p != path]
        assert all(p.name.endswith((".part", ".old")) for p in left)
        if failure is _fail and not raised:
            assert len(left) <= 1  # the old one, where deleting it is what failed
        skood.save(NEW, path, overwrite=path.exists())
        assert _types_at(path) is KNN


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_save_that_is_killed_leaves_nothing_half(overwrite, tmp_path):
    n_steps = _n_steps(tmp_path, overwrite)
    gone = 0
    for step in range(1, n_steps + 1):
        home = tmp_path / str(step)
        home.mkdir()
        path = home / "saved"
        if overwrite:
            skood.save(OLD, path)
        child = os.fork()
        if child == 0:
            with pytest.MonkeyPatch.context() as patch:
                Steps(patch, step, _kill)
                skood.save(NEW, path, overwrite=overwrite)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        found = _types_at(path)
        if overwrite and found is None:  # between two renames: both are there, whole
            gone += 1
            [old] = home.glob(".saved.*.old")
            [new] = home.glob(".saved.*.part")
            assert (_types_at(old), _types_at(new)) == (Mahalanobis, KNN)
        assert found in (Mahalanobis, KNN, None)
        for unfinished in home.glob(".saved.*"):
            try:
                skood.load(unfinished)
            except LoadError:
                assert unfinished.name.endswith((".part", ".old"))
    assert gone == (1 if overwrite else 0)


def test_what_is_there_is_not_replaced_unasked(tmp_path):
    path = tmp_path / "saved"
    skood.save(OLD, path)
    for there in (path, tmp_path, Path(__file__)):
        with pytest.raises(FileExistsError, match="overwrite=True"):
            skood.save(NEW, there)
    skood.save(NEW, path, overwrite=True)
    assert_array_equal(skood.load(path).predict(ROWS), NEW.predict(ROWS))
    assert os.listdir(tmp_path) == ["saved"]
    with pytest.raises(FileNotFoundError, match="there is no"):
        skood.save(NEW, tmp_path / "no" / "such")


def test_only_saved_estimators_are_replaced(tmp_path):
    def occupied(name, *files):
        path = tmp_path / name
        path.mkdir()
        for file, text in files:
            (path / file).write_text(text)
        return path

    head = '{\n "format": "skood estimator",\n'
    file = tmp_path / "file"
    file.write_text("mine")
    for there in (
        file,
        occupied("other", ("estimator.json", "{}")),
        occupied("more", ("estimator.json", head), ("mine.txt", "mine")),
    ):
        before = sorted(p.name for p in there.iterdir()) if there.is_dir() else None
        with pytest.raises(FileExistsError, match="left as it"):
            skood.save(NEW, there, overwrite=True)
        if before is not None:
            assert sorted(p.name for p in there.iterdir()) == before
    assert file.read_text() == "mine"
    damaged = occupied("damaged", ("estimator.json", head))
    skood.save(NEW, damaged, overwrite=True)
    assert _types_at(damaged) is KNN


def test_an_empty_folder_is_taken(tmp_path):
    path = tmp_path / "empty"
    path.mkdir(0o700)
    skood.save(NEW, path)
    assert _types_at(path) is KNN
    assert os.name != "posix" or path.stat().st_mode & 0o777 == 0o700
    assert os.listdir(tmp_path) == ["empty"]


def test_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    skood.save(NEW, "~/saved")
    assert os.listdir(tmp_path) == ["saved"]
    assert type(skood.load("~/saved")) is KNN


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("when", [0, 1])
def test_of_two_writers_one_is_told(when, overwrite, tmp_path, monkeypatch):
    """Another one saves before the first rename of this one, or before the second."""
    path = tmp_path / "saved"
    if overwrite:
        skood.save(OLD, path)
    renames, rename = [], os.rename

    def renamed(*args):
        renames.append(args)
        if len(renames) == when + 1:
            monkeypatch.setattr(os, "rename", rename)
            skood.save(OLD, path, overwrite=overwrite)
        return rename(*args)

    monkeypatch.setattr(os, "rename", renamed)
    if overwrite and when == 0:  # the last one stays
        skood.save(NEW, path, overwrite=True)
        assert _types_at(path) is KNN
    elif overwrite or when == 0:
        with pytest.raises(FileExistsError, match="somebody else at the same time"):
            skood.save(NEW, path, overwrite=overwrite)
        assert _types_at(path) is Mahalanobis
    else:
        skood.save(NEW, path)  # has one rename only
        assert len(renames) == 1
    assert os.listdir(tmp_path) == ["saved"]


def test_a_place_that_is_empty_for_a_moment_is_taken(tmp_path, monkeypatch):
    path, rename = tmp_path / "saved", os.rename
    skood.save(OLD, path)

    def renamed(source, target):
        monkeypatch.setattr(os, "rename", rename)
        rename(path, tmp_path / "elsewhere")
        return rename(source, target)

    monkeypatch.setattr(os, "rename", renamed)
    skood.save(NEW, path, overwrite=True)
    assert _types_at(path) is KNN


def test_arguments_of_other_kinds_are_named(tmp_path):
    path = tmp_path / "saved"
    skood.save(NEW, path)
    for trusted in (None, True, [3], [partial(len)], [NEW]):
        with pytest.raises(TypeError, match=r"trusted has .*wanted are names"):
            skood.load(path, trusted=trusted)
    with pytest.raises(TypeError, match="mmap='r': wanted is True or False"):
        skood.load(path, mmap="r")
    with pytest.raises(TypeError, match="weights=None: wanted is True or False"):
        skood.save(NEW, path, weights=None)


def test_a_fault_of_the_callers_network_is_not_the_folders(path):
    class Faulty(Convolutional):
        def state_dict(self, *args, **kwargs):
            raise AttributeError("a fault of its own")

    with pytest.raises(AttributeError, match="a fault of its own"):
        skood.load(path, network=Faulty())


@pytest.mark.parametrize(
    "change",
    [
        {"digest": 3},
        {"digest": None},
        {"buffers": "0"},
        {"aliases": {"fc.weight": ["conv1.weight"]}},
        {"aliases": {"fc.weight": "nothing"}},
        {"aliases": [1]},
        {"weights": 1},
        {"weights": False},
        {"factory": None},
        {"places": "x"},
        {"more": 1},
    ],
    ids=str,
)
def test_forged_networks(change, path):
    content = content_of(path)
    content["networks"][0].update(change)
    forge(path, content)
    with pytest.raises(LoadError):
        watched_load(path, network=NETWORK)


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    skood.save(OLD, tmp_path / "there")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    skood.save(NEW, tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert _types_at(tmp_path / "there") is KNN
