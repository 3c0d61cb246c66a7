"""LayerFeatures goes through scikit-learn as an array does, without becoming one."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    cross_validate,
    train_test_split,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import _safe_indexing
from sklearn.utils.estimator_checks import check_estimator

from skood.features import LOGITS, LayerFeatures, LayerSelector, LinearHead


@pytest.fixture
def blocks():
    rng = np.random.default_rng(0)
    return {
        ("conv1", "avg"): rng.normal(size=(30, 4)).astype(np.float32),
        ("conv1", "max"): rng.normal(size=(30, 4)).astype(np.float32),
        ("conv2", "avg"): rng.normal(size=(30, 3)).astype(np.float32),
        (LOGITS, LOGITS): rng.normal(size=(30, 2)).astype(np.float32),
    }


@pytest.fixture
def features(blocks):
    return LayerFeatures(blocks)


@pytest.fixture
def matrix(blocks):
    return np.concatenate(list(blocks.values()), axis=1)


ROWS = {
    "slice": slice(3, 20, 2),
    "backward": slice(20, 3, -3),
    "integers": np.array([5, 1, 1, 29]),
    "negative": np.array([-1, -30]),
    "mask": np.arange(30) % 3 == 0,
    "list": [4, 2],
    "empty": [],
    "one": 7,
}


@pytest.mark.parametrize("key", ROWS.values(), ids=ROWS)
def test_rows_are_those_of_the_array(features, matrix, key):
    np.testing.assert_array_equal(np.asarray(features[key]), matrix[key])
    np.testing.assert_array_equal(np.asarray(features[key, ...]), matrix[key])


SEVERAL = {name: key for name, key in ROWS.items() if name != "one"}


@pytest.mark.parametrize("first", SEVERAL.values(), ids=SEVERAL)
def test_views_of_views(features, matrix, first):
    view, expected = features[first], matrix[first]
    half = np.arange(len(expected))[::2]
    np.testing.assert_array_equal(np.asarray(view[half]), expected[half])
    np.testing.assert_array_equal(np.asarray(view[1:]), expected[1:])


def test_indexing_copies_nothing(blocks):
    features = LayerFeatures(blocks)
    view = features[5:9].select("conv1", "max")
    assert np.shares_memory(np.asarray(view), blocks["conv1", "max"])


def test_description(features):
    assert features.shape == (30, 13)
    assert features.dtype == np.float32
    assert features.layers == ["conv1", "conv2", LOGITS]
    assert features.statistics == ["avg", "max", LOGITS]
    assert features.widths["conv2", "avg"] == 3
    assert "30 rows" in repr(features)


def test_a_bare_name_is_the_average():
    features = LayerFeatures({"conv1": np.zeros((2, 3)), LOGITS: np.ones((2, 5))})
    assert features.block_names == [("conv1", "avg"), (LOGITS, LOGITS)]
    assert features.block(LOGITS).shape == (2, 5)


def test_selection(features):
    names = features.select(statistic="avg").block_names
    assert names == [("conv1", "avg"), ("conv2", "avg")]
    names = features.select(["conv2", LOGITS], "avg").block_names
    assert names == [("conv2", "avg"), (LOGITS, LOGITS)]
    assert features.select("conv1").block_names == [("conv1", "avg"), ("conv1", "max")]
    assert features.select(layers="logits", statistic="max").shape == (30, 2)


def test_views_follow_the_rows(blocks):
    paired = LayerFeatures({key: -block for key, block in blocks.items()})[::-1][::-1]
    features = LayerFeatures(blocks, views={"jigsaw": paired})
    view = features[[3, 1]][1:].select("conv2")
    np.testing.assert_array_equal(
        np.asarray(view.views["jigsaw"]), -blocks["conv2", "avg"][[1]]
    )


def test_chunks_cover_the_rows_in_order(features, matrix):
    chunks = list(features.iter_chunks(7))
    assert [len(chunk) for chunk in chunks] == [7, 7, 7, 7, 2]
    np.testing.assert_array_equal(np.concatenate(chunks), matrix)


def test_concatenate(features, matrix):
    both = LayerFeatures.concatenate([features[:10], features[[29]]])
    np.testing.assert_array_equal(np.asarray(both), matrix[[*range(10), 29]])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda f: LayerFeatures({}), "blocks is empty"),
        (lambda f: LayerFeatures({"a": np.zeros(3)}), r"block a/avg has shape \(3,\)"),
        (
            lambda f: LayerFeatures({"a": np.ones((3, 1)), "b": np.ones((3, 0))}),
            r"block b/avg has 0 columns \(shape \(3, 0\)\)",
        ),
        (
            lambda f: LayerFeatures({"a": [[1, 2], [3, 4], [5]]}),
            "block a/avg is a ragged list: row 0 has length 2, but row 2 has length 1",
        ),
        (
            lambda f: LayerFeatures({"a": [[1, 2], 3]}),
            "a/avg is a ragged list: row 0 has length 2, but row 1 is a number",
        ),
        (
            lambda f: LayerFeatures({"a": np.zeros((3, 1)), "b": np.zeros((4, 1))}),
            "blocks differ in their number of rows",
        ),
        (lambda f: f.block("conv3"), r"no layer 'conv3'.*Did you mean 'conv"),
        (
            lambda f: f.block("conv2", "max"),
            r"has no statistic 'max'; it has \['avg'\]",
        ),
        (lambda f: f.select(statistic="l2"), "no layer has the statistic 'l2'"),
        (lambda f: f.select([]), "layers is empty"),
        (lambda f: list(f.iter_chunks(0)), "rows=0"),
        (lambda f: LayerFeatures.concatenate([]), "parts is empty"),
        (
            lambda f: LayerFeatures.concatenate([f, f.select("conv1")]),
            "parts differ in their blocks",
        ),
        (lambda f: f.take([0], axis=1), "axis=1"),
    ],
)
def test_errors_name_what_is_wrong(features, make, text):
    with pytest.raises(ValueError, match=text):
        make(features)


def test_columns_and_names_are_not_indices(features):
    with pytest.raises(IndexError, match="indexed by row"):
        features[:, 2]
    with pytest.raises(TypeError, match=r"features.block\('conv1'\)"):
        features["conv1"]
    with pytest.raises(IndexError, match="rows are chosen by integers"):
        features[np.array([0.5])]
    with pytest.raises(IndexError):
        features[[30]]


def test_scikit_learn_keeps_it_lazy(features, matrix):
    rows = np.array([2, 4, 8])
    for key in (rows, rows.tolist(), slice(2, 9), np.arange(30) < 5):
        picked = _safe_indexing(features, key)
        assert isinstance(picked, LayerFeatures)
        np.testing.assert_array_equal(np.asarray(picked), _safe_indexing(matrix, key))
    train, test = train_test_split(features, random_state=0)
    assert isinstance(train, LayerFeatures)
    np.testing.assert_array_equal(
        np.asarray(test), train_test_split(matrix, random_state=0)[1]
    )


def test_scikit_learn_estimators_take_it(features, matrix):
    forest = IsolationForest(n_estimators=5, random_state=0)
    pipeline = make_pipeline(StandardScaler(), forest)
    scores = clone(pipeline).fit(features).score_samples(features)
    expected = clone(pipeline).fit(matrix).score_samples(matrix)
    np.testing.assert_array_equal(scores, expected)
    result = cross_validate(
        pipeline,
        features,
        cv=3,
        scoring=lambda e, X, y=None: len(X),
        error_score="raise",
    )
    assert result["test_score"].tolist() == [10, 10, 10]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search_over_layers(features, n_jobs):
    forest = IsolationForest(n_estimators=5, random_state=0)
    search = GridSearchCV(
        make_pipeline(LayerSelector(), forest),
        {"layerselector__layers": ["conv1", ["conv1", "conv2"]]},
        scoring=width_seen,
        cv=KFold(2),
        n_jobs=n_jobs,
        error_score="raise",
    ).fit(features)
    assert search.cv_results_["mean_test_score"].tolist() == [8, 11]


def width_seen(pipeline, X, y=None):
    assert isinstance(X, LayerFeatures)
    return pipeline[:-1].transform(X).shape[1]


DISPATCH = """
import numpy as np
import sklearn
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import GridSearchCV, cross_validate, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skood import LayerFeatures, LayerSelector

sklearn.set_config(array_api_dispatch=True)
f = LayerFeatures({"a": np.random.default_rng(0).normal(size=(40, 3)),
                   "b": np.zeros((40, 2))})
assert all(isinstance(part, LayerFeatures) for part in train_test_split(f))
def score(estimator, X, y=None):
    assert isinstance(X, LayerFeatures)
    return len(X)
forest = IsolationForest(n_estimators=5)
pipeline = make_pipeline(LayerSelector(), StandardScaler(), forest)
cross_validate(pipeline, f, cv=3, scoring=score, error_score="raise")
GridSearchCV(pipeline, {"layerselector__layers": ["a", "b"]}, cv=3, scoring=score,
             error_score="raise").fit(f)
print("lazy")
"""


def test_stays_itself_under_array_api_dispatch():
    """In a process of its own: dispatch needs a variable set before import."""
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    done = subprocess.run(
        [sys.executable, "-c", DISPATCH],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.stdout.strip() == "lazy", done.stderr


# Files and processes ---------------------------------------------------


@pytest.fixture
def saved(features, tmp_path):
    features.head = LinearHead(np.eye(2, 3), np.array([1.0, 2.0]), "conv2")
    features.views["jigsaw"] = features.select("conv2")
    features.save(tmp_path / "saved")
    return tmp_path / "saved"


def test_round_trip_on_disk(features, saved, matrix):
    loaded = LayerFeatures.load(saved)
    assert loaded.block_names == features.block_names
    np.testing.assert_array_equal(np.asarray(loaded), matrix)
    np.testing.assert_array_equal(loaded.head.weight, features.head.weight)
    assert loaded.head.layer == "conv2"
    assert loaded.views["jigsaw"].shape == (30, 3)
    assert (
        isinstance(loaded.block("conv1", "max"), np.memmap)
        or not loaded.block("conv1", "max").flags.owndata
    )


def test_stored_features_travel_as_a_path(saved, matrix):
    loaded = LayerFeatures.load(saved)[::-1]
    text = pickle.dumps(loaded)
    assert b"jigsaw" in text
    again = pickle.loads(text)
    np.testing.assert_array_equal(np.asarray(again), matrix[::-1])
    assert joblib.hash(loaded) == joblib.hash(LayerFeatures.load(saved)[::-1])


def test_pickle_of_a_view_in_memory_holds_its_rows_only(blocks):
    large = LayerFeatures({"a": np.zeros((100_000, 4))})
    assert len(pickle.dumps(large[:10])) < 10_000
    view = LayerFeatures(blocks)[[4, 2]]
    np.testing.assert_array_equal(
        np.asarray(pickle.loads(pickle.dumps(view))), np.asarray(view)
    )


def test_a_replaced_file_is_noticed(features, saved):
    loaded = pickle.loads(pickle.dumps(LayerFeatures.load(saved)))
    features[:5].save(saved)
    with pytest.raises(ValueError, match="holds other features"):
        np.asarray(pickle.loads(pickle.dumps(loaded)))
    assert len(LayerFeatures.load(saved)) == 5


def test_a_failed_save_leaves_the_old_one(features, saved, monkeypatch):
    def full_disk(*args, **options):
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        features[:5].save(saved)
    assert len(LayerFeatures.load(saved)) == 30
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]


def test_save_never_replaces_something_else(features, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="holds no saved LayerFeatures"):
        features.save(tmp_path)


def test_load_errors(tmp_path, saved):
    with pytest.raises(ValueError, match="holds no saved LayerFeatures"):
        LayerFeatures.load(tmp_path)
    (saved / "features.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        LayerFeatures.load(saved)
    (saved / "features.json").write_text('{"schema": 99}')
    with pytest.raises(ValueError, match="update skood"):
        LayerFeatures.load(saved)


BAD_MANIFESTS = [
    "[]",
    "null",
    "{}",
    '{"schema": Infinity}',
    '{"schema": 1, "blocks": 3, "head": null, "views": []}',
    '{"schema": 1, "blocks": [], "head": null, "views": []}',
    '{"schema": 1, "blocks": [{"name": ["a"], "file": "b", "digest": "c"}], '
    '"head": null, "views": []}',
    '{"schema": 1, "blocks": [{"name": ["a", "b"], "file": "../b", "digest": "c"}], '
    '"head": null, "views": []}',
    '{"schema": 1, "blocks": [{"name": ["a", "b"], "file": "b", "digest": "c"}], '
    '"head": "fc", "views": []}',
    "[" * 200_000,
]


@pytest.mark.parametrize("text", BAD_MANIFESTS, ids=range(len(BAD_MANIFESTS)))
def test_a_bad_manifest_is_one_clear_error(saved, text):
    (saved / "features.json").write_text(text)
    with pytest.raises(ValueError, match=r"features.json is damaged .*save the"):
        LayerFeatures.load(saved)


@pytest.mark.parametrize("file", ["block0.npy", "head.npz"])
def test_a_flipped_bit_of_what_was_saved_is_noticed(features, saved, file):
    features.head = LinearHead(np.ones((2, 3)), np.zeros(2))
    features.save(saved)
    assert len(LayerFeatures.load(saved)) == 30
    data = bytearray((saved / file).read_bytes())
    data[-9] ^= 1
    (saved / file).write_bytes(data)
    with pytest.raises(ValueError, match=f"{file} is damaged: its bytes are not"):
        LayerFeatures.load(saved)


# Selector and head ---------------------------------------------------


def test_selector_passes_the_battery_of_scikit_learn():
    results = check_estimator(LayerSelector(), on_skip=None)
    assert len(results) >= 47
    assert sum(result["status"] == "passed" for result in results) >= 46


def test_selector(features, blocks):
    selector = LayerSelector(["conv2", "conv1"], "avg").fit(features)
    expected = np.hstack([blocks["conv2", "avg"], blocks["conv1", "avg"]])
    np.testing.assert_array_equal(selector.transform(features), expected)
    assert selector.get_feature_names_out()[2:4].tolist() == [
        "conv2__avg__2",
        "conv1__avg__0",
    ]
    with pytest.raises(ValueError, match="but fit saw"):
        selector.transform(
            LayerFeatures({"conv1": np.zeros((2, 9)), "conv2": np.zeros((2, 3))})
        )
    with pytest.raises(ValueError, match="X is a plain array"):
        LayerSelector("conv1").fit(np.zeros((3, 2)))


def test_head_is_recovered_from_samples():
    rng = np.random.default_rng(0)
    head = LinearHead(rng.normal(size=(3, 5)), rng.normal(size=3))
    h = rng.normal(size=(40, 5))
    found = LinearHead.from_samples(h, head.logits(h))
    np.testing.assert_allclose(found.weight, head.weight, atol=1e-10)
    np.testing.assert_allclose(found.bias, head.bias, atol=1e-10)
    with pytest.raises(ValueError, match="not a linear function"):
        LinearHead.from_samples(h, np.abs(head.logits(h)))
    with pytest.raises(ValueError, match="more than 5"):
        LinearHead.from_samples(h[:5], head.logits(h[:5]))


@pytest.mark.parametrize(
    ("weight", "bias"), [((3, 5), (2,)), ((3, 5), (1,)), ((3, 5), (3, 1)), ((5,), (5,))]
)
def test_a_head_whose_shapes_do_not_belong_together_is_refused(weight, bias):
    with pytest.raises(ValueError, match=r"weight has shape .* and its bias"):
        LinearHead(np.ones(weight), np.ones(bias))


def test_a_head_without_a_bias_has_one_of_zeros():
    h = np.arange(6.0).reshape(2, 3)
    head = LinearHead(np.ones((4, 3), np.float32), None)
    assert head.bias.dtype == np.float32
    np.testing.assert_array_equal(head.logits(h), h @ np.ones((3, 4)))


@pytest.mark.parametrize("name", ["weight", "bias"])
@pytest.mark.parametrize("entry", [np.nan, np.inf])
def test_a_head_of_a_network_that_diverged_is_refused(name, entry):
    arrays = {"weight": np.ones((2, 3), dtype=np.float32), "bias": np.zeros(2)}
    arrays[name][-1] = entry
    with pytest.raises(ValueError, match=rf"head's {name} has {entry} in place \(1,"):
        LinearHead(**arrays)
