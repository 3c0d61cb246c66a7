"""Folders whose skops files say what none that is written says."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from contextlib import suppress

import pytest
from forging import (
    STORED,
    forge,
    items,
    made,
    mapping,
    members_of,
    node,
    put,
    saved_pipeline,
    saved_small,
    scalar,
    state_of,
    watched_load,
)
from sklearn.metrics import roc_auc_score

import skood
from skood import KNN, AnchoredClassifier
from skood.persistence import LoadError
from skood.persistence.archive import _FITS


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return saved_pipeline(tmp_path_factory.mktemp("original") / "saved")


@pytest.fixture
def path(original, tmp_path):
    shutil.copytree(original, tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def small(tmp_path):
    return saved_small(tmp_path / "small")


# Names -------------------------------------------------------------------------------

HOME = KNN.__module__
CONSTRUCTOR = "ConstructorFromReduceNode"
NAMES = [
    "os.system",
    "builtins.eval",
    "builtins.exec",
    "builtins.open",
    "subprocess.Popen",
    "posix.system",
    "sklearn.utils.os",
    "sklearn.utils.os.system",
    "sklearn.base.warnings",
    "sklearn.base.BaseEstimator.__setstate__",
    "sklearn.base.BaseEstimator.get_params.__globals__",
    "sklearn.preprocessing._data.np",
    "sklearn.conftest.pytest",
    "sklearn.datasets._base.load_files",
    "sklearn.experimental.enable_halving_search_cv.model_selection",
    "sklearn.externals.array_api_compat",
    "sklearn.utils._param_validation.Interval",
    "sklearn.pipeline.joblib",
    "sklearn.utils.parallel.Parallel",
    "sklearn.tree._tree.Tree",
    "sklearn.neighbors._kd_tree.KDTree",
    "joblib.memory.Memory",
    "numpy.memmap",
    "numpy.load",
    "numpy.fromfile",
    "scipy.sparse._csr.csr_matrix",
    "skood.load",
    "skood.__getattr__",
    "skood._version.is_newer",
    "skood.numerics.seeds.check_random_state",
    "skood._state.InPickle",
    f"{HOME}.np",
    f"{HOME}.KNN.fit",
    f"{HOME}.__builtins__",
    f"{HOME}.LayerFeatures",
    "skood.features.stored.StoredArray",
    "skood.files.atomic.write_text",
    "skood.store.feature_store.FeatureStore",
    "skood.persistence.api.load",
    "skood.persistence.errors.LoadError",
    "skood.nowhere.Thing",
    f"{HOME}.Nothing",
    "skorch.classifier.NeuralNetClassifier",
    "torch.load",
    "torch.hub.load",
    "torch.nn.modules.linear.Linear",
    "torch.optim.adam.Adam",
    "pickle.loads",
    "danger.Danger",
    "danger.run",
    "skood",
    "skood.",
    ".KNN",
    "",
    "skood..detectors.KNN",
    "skood.detectors/../knn.KNN",
    "../../danger.run",
    "/etc/passwd.x",
    "skoodx.KNN",
    "sklearn_extra.KNN",
]


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
        "    def __init__(self, *args): run()\n"
        "    def __setstate__(self, state): run()\n"
    )
    for name in ("danger", "skoodx", "sklearn_extra"):
        (tmp_path / "lib" / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    yield trace
    sys.modules.pop("danger", None)


def readings(name):
    """Return nodes that have skops do something with a name, one for each reader."""
    pair = items([scalar(1), scalar(2)], "tuple")
    text = items([node("TypeNode", "builtins.str")])
    within = {"content": {"a": scalar(1)}, "key_types": text}
    args = items([scalar("touch trace")], "tuple")
    listed = {"content": [scalar(1)]}
    of_key = items([node("TypeNode", name)])
    func = node("FunctionNode", name)
    part = {"func": func, "args": args, "kwds": mapping({}), "namespace": scalar(None)}
    return [
        node("ObjectNode", name),
        node("ObjectNode", name, content=mapping({"a": scalar(1)})),
        node("ObjectNode", name, content=pair),
        node("ConstructorFromReduceNode", name, content=args),
        func,
        node("TypeNode", name),
        node("PartialNode", "functools.partial", content=part),
        node("PartialNode", name, content=part),
        node("ListNode", name, **listed),
        node("SetNode", name, **listed),
        node("TupleNode", name, **listed),
        node("DictNode", name, **within),
        node("DictNode", "builtins.dict", content=within["content"], key_types=of_key),
        node(
            "DefaultDictNode",
            name,
            content={"main": mapping({}), "default_factory": func},
        ),
        node("SliceNode", name, content={"start": 1, "stop": 2, "step": None}),
        node("LossNode", name, content=mapping({}), __reduce__={"args": args}),
        node("TreeNode", name, content=mapping({}), __reduce__={"args": args}),
        node("OperatorFuncNode", name, attrs=args),
        node(
            "MethodNode", name, content={"func": "fit", "obj": node("ObjectNode", name)}
        ),
        node("RandomStateNode", name, content=mapping({})),
        node("NdArrayNode", name, type="json", content=[], shape=pair),
        node("MaskedArrayNode", name, content={"data": pair, "mask": pair}),
        items([items([func], "tuple")]),
        mapping({"a": mapping({"b": func})}),
        made("dict", items([items([scalar(1), func], "tuple")])),
        made("objects", items([func]), items([scalar(1)], "tuple")),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_what_is_allowed_is_named(name, small, danger):
    schema, members = members_of(small)
    before = set(sys.modules)
    for reading in readings(name):
        changed = json.loads(json.dumps(schema))
        state_of(changed)["verbose"] = reading
        forge(small, changed, members)
        for how in ({}, {"mmap": True}, {"trusted": ["danger.other", "os.path.join"]}):
            with pytest.raises(LoadError):
                skood.load(small, **how)
    forge(small, {**readings(name)[1], "protocol": 2}, members)
    with pytest.raises(LoadError):
        skood.load(small)
    new = {m for m in set(sys.modules) - before if m.split(".")[0] not in ("skood",)}
    assert not {m for m in new if "danger" in m or "conftest" in m or "enable_" in m}
    assert not danger.exists()


@pytest.mark.parametrize("name", [None, 3, ["os.system"], {"name": "os.system"}])
def test_what_is_no_name_is_refused(name, small):
    for reading in readings("os.system"):
        for entry in ("__class__", "__module__", "__loader__"):
            put(small, {**reading, entry: name})
            with pytest.raises(LoadError):
                watched_load(small)


def test_a_trusted_function_is_not_called(small, danger):
    """Only what is a class is called while a file is read, and it has to be trusted."""
    trusted = ["danger.run"]
    loaded = 0
    for reading in readings("danger.run"):
        put(small, reading)
        with suppress(LoadError):
            skood.load(small, trusted=trusted)
            loaded += 1
        assert not danger.exists() or danger.read_text() == "imported", reading
    assert loaded >= 6
    for reading in readings(f"{HOME}.KNN"):
        if (reading["__loader__"], reading["__class__"]) == (CONSTRUCTOR, "KNN"):
            put(small, reading)
            with pytest.raises(LoadError, match="is not read as"):
                watched_load(small)


def test_every_reader_of_skops_is_known_or_refused(small):
    from skops.io._audit import NODE_TYPE_MAPPING

    readers = {name for name, _ in NODE_TYPE_MAPPING}
    assert set(_FITS) <= readers
    for name in readers - set(_FITS):
        put(small, node(name, "builtins.list", content=[]))
        with pytest.raises(LoadError, match="is not read as"):
            watched_load(small)


def test_only_metrics_of_scikit_learn_are_named_untrusted(small):
    for name, fits in (
        ("sklearn.metrics._ranking.roc_auc_score", True),
        ("sklearn.metrics._ranking._binary_uninterpolated_average_precision", False),
        ("sklearn.metrics._ranking.column_or_1d", False),
        ("sklearn.utils.validation.column_or_1d", False),
        ("sklearn.model_selection._validation.cross_val_score", False),
        ("sklearn.metrics.roc_auc_score", False),
    ):
        put(small, node("FunctionNode", name))
        if fits:
            assert watched_load(small).verbose is roc_auc_score
        else:
            with pytest.raises(LoadError, match="trusted="):
                watched_load(small)


def test_no_import_is_tried_where_a_name_is_not_trusted(small):
    for name in NAMES:
        if name.startswith(("skood.", "torch.", "sklearn.")):
            continue  # these are imported already, or by their own package
        for loader in ("FunctionNode", "TypeNode", "ObjectNode"):
            put(small, node(loader, name))
            with pytest.raises(LoadError):
                watched_load(small)


def test_trust_reaches_no_further_than_the_name(small, danger):
    put(small, node("FunctionNode", "danger.run"))
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
    path = tmp_path / "net"
    skood.save(AnchoredClassifier(skood.neural.mlp.MLP), path)
    skood.load(path)
    schema, members = members_of(path)
    pickled = pickle.dumps(Payload(tmp_path / "trace"))
    state = state_of(schema)
    attribute = "__cuda_dependent_attributes__"
    state[attribute] = made("bytes", scalar(pickled.hex()))
    schema["content"] = mapping(state)
    forge(path, schema, members)
    skood.load(path)
    state = {attribute: state[attribute], "device": scalar("cpu")}
    schema["content"] = mapping(state)
    forge(path, schema, members)
    with pytest.raises(LoadError):
        skood.load(path)
    forge(
        path,
        {
            **schema,
            "__module__": "skorch.classifier",
            "__class__": "NeuralNetClassifier",
        },
        members,
    )
    with pytest.raises(LoadError, match="NeuralNetClassifier"):
        skood.load(path)
    array = node("NdArrayNode", "numpy.ndarray", type="numpy", file="99.npy")
    members["99.npy"] = pickled  # np.load would take it for a pickle
    forge(path, {**schema, "content": mapping({"a": array})}, members)
    with pytest.raises(LoadError):
        skood.load(path)
    assert not (tmp_path / "trace").exists()


# Forged values -----------------------------------------------------------------------

PICKLES = [
    scalar("/tmp/pickles"),
    made("path", scalar("somewhere")),
    items([scalar("/tmp/pickles")]),
    items([], "tuple"),
    mapping({}),
    scalar(True),
]


@pytest.mark.parametrize("name", ["memory", "compile", "pipe__memory", "a__b__compile"])
@pytest.mark.parametrize("value", PICKLES, ids=lambda v: v["__loader__"])
def test_no_cache_of_pickles_and_no_compiler_comes_in(name, value, small):
    """Neither as a parameter, nor in a search that would set it in its next fit."""
    grids = [
        mapping({name: value}),
        mapping({name: value}, "collections.OrderedDict"),
        mapping({name: value}, "sklearn.utils._bunch.Bunch"),
        made("dict", items([items([scalar(name), value], "tuple")])),
        made("OrderedDict", items([items([scalar(name), value], "tuple")])),
        items([mapping({"a": items([mapping({name: value})])})]),
    ]
    schema, members = members_of(small)
    for grid in grids:
        changed = json.loads(json.dumps(schema))
        state_of(changed)["verbose"] = grid
        forge(small, changed, members)
        with pytest.raises(LoadError):
            watched_load(small)
    state = {**state_of(schema), name: value}
    forge(small, {**schema, "content": mapping(state)}, members)
    with pytest.raises(LoadError):
        watched_load(small)
    pairs = items([items([scalar(name), value])])  # as dict.update takes them
    for content in (pairs, made("dict", pairs)):
        forge(small, {**schema, "content": content}, members)
        with pytest.raises(LoadError):
            watched_load(small)


def numbers(*values):
    return items([scalar(v) for v in values])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (made("array", scalar(99), scalar("C")), "no part 99"),
        (made("array", scalar(-1), scalar("C")), "no part -1"),
        (made("array", scalar(True), scalar("C")), "no part True"),
        (made("array", scalar("0"), scalar("C")), "no part"),
        (made("network", scalar(0)), "no part 0"),
        (made("network", scalar(None)), "no part None"),
        (made("nothing"), "nothing"),
        (made("pickle", scalar("80")), "pickle"),
        (made("set", items([numbers(1)])), "unhashable"),
        (made("dict", items([numbers(1, 2), numbers(1, 3)])), "twice"),
        (made("range", scalar(0), scalar(10**10)), "too long"),
        (made("range", scalar(10**30), scalar(0), scalar(-1)), "too long"),
        (made("int", scalar("f" * 10**6)), "digits"),
        (made("int", numbers(1)), ""),
        (made("objects", items([]), numbers(2**40)), "reshape"),
        (made("torch.dtype", scalar("load")), "no type of tensors"),
        (made("tokenizer", scalar("{}")), "tokenizer|Exception|expected|missing"),
        (made("Generator", scalar("os"), mapping({})), "tuple.index"),
        (made("Generator", scalar("PCG64"), mapping({})), "state"),
        (node("ConstructorFromReduceNode", STORED, content=scalar("x")), ""),
        (node("ObjectNode", STORED), ""),
        (node("ObjectNode", "skood.neural.mlp.MLP"), "is not read as"),
        (node("JsonNode", "builtins.str", content="[" + "[]," * 9 + "[]]"), "JsonNode"),
        (node("JsonNode", "builtins.str", content='{"a": 1}'), "JsonNode"),
        (node("JsonNode", "builtins.str", content="9" * 10_000), ""),
        (node("JsonNode", "builtins.str", content=3), ""),
        ({**scalar(1), "__id__": 7}, "is not read as"),
        (node("CachedNode", "builtins.list", __id__=7), "is not read as"),
        (node("SliceNode", "builtins.slice", content={"a": [[]]}), "SliceNode"),
        (node("DictNode", "builtins.dict", content={}, key_types=numbers(1)), "Dict"),
        (items(["x"]), ""),
        (items([{}]), ""),
        (3, ""),
        (None, ""),
        ([], ""),
        ({}, ""),
    ],
    ids=lambda v: json.dumps(v)[:60],
)
def test_forged_values(value, message, small):
    put(small, value)
    with pytest.raises(LoadError, match=message or None):
        watched_load(small)


def test_an_array_is_read_without_looking_for_its_kind(small):
    for kind in ("numpy.memmap", "numpy.matrix", "numpy.load", "numpy.void"):
        put(small, node("NdArrayNode", kind, type="numpy", file="0.npy"))
        with pytest.raises(LoadError):
            watched_load(small)


def test_a_stamp_of_a_newer_version_is_refused(small):
    schema, members = members_of(small)
    text = json.dumps(schema).replace('\\"0.1.0', '\\"99.1.0')
    assert text != json.dumps(schema)
    forge(small, json.loads(text), members)
    with pytest.raises(LoadError, match="newer"):
        watched_load(small)


def test_entries_that_stand_twice_are_refused(small):
    schema, members = members_of(small)
    text = json.dumps(schema)
    forge(small, text, members)
    watched_load(small)
    entry = '"__loader__": "ObjectNode"'
    forge(small, text.replace(entry, f"{entry}, {entry}", 1), members)
    with pytest.raises(LoadError, match="stands there twice"):
        watched_load(small)
