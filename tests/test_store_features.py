"""FeatureStore: what it gives back, what it says, and what it refuses."""

from __future__ import annotations

import json
import pickle
import shutil

import joblib
import numpy as np
import pytest
import torch
from networks import perceptron
from sklearn.base import clone
from sklearn.model_selection import KFold, cross_val_score, train_test_split
from torch.utils.data import TensorDataset

from skood import FeatureStore, LayerFeatures, LayerFeatureTransformer, Mahalanobis

N = 40


@pytest.fixture
def network():
    return perceptron(4, 5, 3)


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def transformer(network):
    return LayerFeatureTransformer(network, ["0", "logits"], ["avg"], batch_size=8)


@pytest.fixture
def store(folder):
    """Several small shards."""
    return FeatureStore(folder, shard_bytes=300)


def reopened(store):
    """The store as another process sees it."""
    from skood.store import opened

    opened._open.pop(store.path)
    return FeatureStore(store.path)


def assert_same(one, other):
    assert one.block_names == other.block_names
    for name in one.block_names:
        np.testing.assert_allclose(one.block(*name), other.block(*name), rtol=1e-5)


# Rows, labels, ids -----------------------------------------------------------------


def test_features_labels_and_ids_come_back_in_order(transformer, store, X):
    y, ids = np.arange(N) % 3 - 1, [f"image {i} é" for i in range(N)]
    expected = clone(transformer).fit_transform(X)
    features = transformer.extract_to(store, X, y, ids=ids, progress=False)
    assert_same(features, expected)
    assert store.stats()["shards"] > 3
    again = reopened(store)
    assert_same(again.features(), expected)
    assert_same(again.features([3, 1, 30]), expected[[3, 1, 30]])
    assert_same(again.features(slice(5, 9)), expected[5:9])
    np.testing.assert_array_equal(again.labels, y)
    assert again.ids.tolist() == ids
    head = again.features().head
    np.testing.assert_array_equal(head.weight, transformer.head_.weight)


def test_the_rows_of_several_data_sets_follow_each_other(transformer, store, X):
    expected = clone(transformer).fit_transform(X)
    for rows in (slice(0, 10), slice(25, 40), slice(5, 30)):
        y = np.full(N, rows.start)[rows]
        for _ in range(2):  # the second time changes nothing
            part = transformer.extract_to(store, X[rows], y, progress=False)
            assert_same(part, expected[rows])
    order = [*range(10), *range(25, 40), *range(10, 25)]
    assert_same(store.features(), expected[order])
    labels = np.array([0] * 5 + [5] * 5 + [5] * 5 + [25] * 10 + [5] * 15)
    np.testing.assert_array_equal(store.labels, labels)


def test_a_row_that_comes_twice_stays_twice(transformer, store, X):
    rows = [0, 1, 0, 2, 0]
    features = transformer.extract_to(store, X[rows], [0, 1, 2, 3, 4])
    assert_same(features, clone(transformer).fit_transform(X[rows]))
    assert_same(store.features(), features)
    assert store.stats()["rows"] == 3
    np.testing.assert_array_equal(store.labels, [0, 1, 2, 3, 4])


@pytest.mark.parametrize("second", ["labels", "maps", "none"])
def test_labels_of_a_dataset(transformer, store, X, second):
    x = torch.as_tensor(X)
    seconds = {"labels": [torch.arange(N)], "maps": [torch.zeros(N, 2, 2)], "none": []}
    transformer.extract_to(store, TensorDataset(x, *seconds[second]))
    if second == "labels":
        np.testing.assert_array_equal(store.labels, np.arange(N))
    else:
        assert store.labels is None


def test_without_extract_to_all_rows_of_the_cache(transformer, store, X):
    cached = transformer.set_params(cache=store)
    expected = cached.fit_transform(X)
    again = reopened(store)
    assert_same(again.features(), expected)
    assert again.labels is None
    assert again.ids is None


def test_sources_must_be_told_apart(transformer, store, X):
    transformer.extract_to(store, X, np.zeros(N))
    other = clone(transformer).set_params(dtype="float64")
    other.extract_to(store, X[:5], np.ones(5))
    with pytest.raises(ValueError, match=r"2 sources. Say which by source=.*float64"):
        store.features()
    with pytest.raises(ValueError, match="source='xyz' names no single one"):
        store.features(source="xyz")
    names = {text: name for name, text in store.sources.items()}
    wide = next(name for text, name in names.items() if "float64" in text)
    assert store.features(source=wide[:6]).dtype == np.float64
    np.testing.assert_array_equal(store.listing(source=wide).labels, np.ones(5))


def test_blocks_that_some_rows_lack_are_left_out(transformer, network, store, X):
    transformer.extract_to(store, X)
    more = LayerFeatureTransformer(network, ["1"], ["max"], cache=store)
    more.fit_transform(X[:7])
    with pytest.warns(UserWarning, match=r"1/max \(lacked by 33 of 40 rows\)"):
        features = store.features()
    assert features.block_names == [("0", "avg"), ("logits", "logits")]
    more.fit_transform(X)
    assert ("1", "max") in store.features().block_names


def test_progress_is_shown(transformer, store, X, capsys):
    transformer.extract_to(store, X)
    shown = capsys.readouterr().err
    assert "extract: 100%" in shown
    assert "rows/s" in shown
    transformer.extract_to(store, X, progress=False)
    assert capsys.readouterr().err == ""


def test_extract_to_takes_a_folder_and_a_fitted_transformer(transformer, folder, X):
    expected = transformer.fit_transform(X)
    assert_same(transformer.extract_to(str(folder), X, progress=False), expected)


# As LayerFeatures ------------------------------------------------------------------


@pytest.fixture
def stored(transformer, store, X):
    return transformer.extract_to(store, X, np.arange(N), progress=False)


def test_it_is_read_from_disk_without_a_copy_where_rows_follow(stored):
    (chunk, *_) = stored.iter_chunks(2)
    block = chunk.block("0")
    assert not block.flags.owndata
    assert not block.flags.writeable


@pytest.mark.parametrize(
    "rows",
    [slice(None), slice(3, 31, 4), [5, 5, 2, 39, 0], np.arange(N) % 3 == 0, []],
    ids=str,
)
def test_rows_in_any_order(stored, rows):
    expected = np.asarray(stored)[rows]
    np.testing.assert_array_equal(np.asarray(stored[rows]), expected)
    np.testing.assert_array_equal(np.asarray(stored[rows][::-1]), expected[::-1])
    loaded = pickle.loads(pickle.dumps(stored[rows]))
    np.testing.assert_array_equal(np.asarray(loaded), expected)


def test_it_pickles_as_paths_and_places(stored):
    wide = LayerFeatures({"a": np.zeros((N, 5)), "logits": np.zeros((N, 3))})
    assert len(pickle.dumps(stored[:1])) < len(pickle.dumps(stored))
    assert len(pickle.dumps(stored[:1])) < 3000
    assert joblib.hash(stored) == joblib.hash(pickle.loads(pickle.dumps(stored)))
    assert joblib.hash(stored) != joblib.hash(stored[1:])
    assert joblib.hash(wide) != joblib.hash(stored)


def test_scikit_learn_splits_it(stored):
    y = np.arange(N) % 2
    train, test = train_test_split(stored, random_state=0)
    assert len(train) + len(test) == N
    scores = cross_val_score(
        Mahalanobis(layers="0"), stored, y, cv=KFold(3), scoring=_share
    )
    in_memory = cross_val_score(
        Mahalanobis(layers="0"), _in_memory(stored), y, cv=KFold(3), scoring=_share
    )
    np.testing.assert_array_equal(scores, in_memory)


def _share(detector, X, y):
    return float(np.mean(detector.predict(X) == 1))


def _in_memory(features):
    return LayerFeatures.concatenate([features])


def test_save_copies_it(stored, tmp_path):
    stored[5:20].save(tmp_path / "saved")
    assert_same(LayerFeatures.load(tmp_path / "saved"), stored[5:20])


# Damage ----------------------------------------------------------------------------


def shards_of(store):
    return store.opened.catalogue.of_kind("features")


def flip(shard):
    data = bytearray(shard.path.read_bytes())
    data[-3] ^= 4
    shard.path.write_bytes(data)


def test_damage_is_told_when_rows_are_read(stored, store):
    features = reopened(store).features()
    flip(shards_of(store)[2])
    with pytest.raises(ValueError, match=f"shard {shards_of(store)[2].name}.* damaged"):
        np.asarray(features)
    with pytest.raises(ValueError, match="is no longer in the feature store"):
        np.asarray(features)
    with pytest.raises(ValueError, match=r"\d of 40 rows have lost their features"):
        store.features()


def test_damaged_rows_are_computed_again(transformer, stored, store, X):
    expected, shards = _in_memory(stored), shards_of(store)
    flip(shards[1])
    shards[2].path.write_bytes(shards[2].path.read_bytes()[:-1])
    store = reopened(store)
    with pytest.warns(UserWarning, match="is damaged") as caught:
        again = transformer.extract_to(store, X, progress=False)
    assert_same(again, expected)
    assert {shards[1].name, shards[2].name} <= {
        name for w in caught for name in str(w.message).replace(".", " ").split()
    }
    lost = shards[1].shape("keys")[0] + shards[2].shape("keys")[0]
    assert store.stats()["misses"] == lost


def test_damaged_keys_are_computed_again(transformer, stored, store, X):
    expected, shard = _in_memory(stored), shards_of(store)[1]
    entry, data = shard.header.entries["keys"], bytearray(shard.path.read_bytes())
    data[entry.start : entry.stop] = bytes(entry.stop - entry.start)
    shard.path.write_bytes(data)
    store = reopened(store)
    with pytest.warns(UserWarning, match=f"{shard.name}.*is damaged"):
        again = transformer.extract_to(store, X, progress=False)
    assert_same(again, expected)
    assert store.stats()["misses"] == entry.shape[0]


def listings_of(store):
    store.stats()  # looks into the folder
    return store.opened.catalogue.of_kind("rows")


@pytest.mark.parametrize("in_header", [False, True])
def test_a_damaged_listing_is_missed(transformer, stored, store, X, in_header):
    (listing,) = listings_of(store)
    data = bytearray(listing.path.read_bytes())
    data[20 if in_header else -3] ^= 4
    listing.path.write_bytes(data)
    store = reopened(store)
    with pytest.warns(UserWarning, match="lists the rows of a data set"):
        assert store.verify() == [listing.name]
    for read in (store.features, store.listing, lambda: store.labels):
        with pytest.raises(ValueError, match=f"set aside .{listing.name}.*extract_to"):
            read()
    transformer.extract_to(store, X, np.arange(N), progress=False)
    assert store.stats()["misses"] == 0
    np.testing.assert_array_equal(reopened(store).labels, np.arange(N))


def test_the_last_labels_are_the_last_in_a_copy_too(transformer, store, X, tmp_path):
    parts = [(X[:20], 0), (X[20:], 1), (X[:20], 7)]
    for rows, label in parts:
        y = np.full(len(rows), label)
        transformer.extract_to(store, rows, y, progress=False)
    expected = np.repeat([7, 1], 20)
    np.testing.assert_array_equal(store.labels, expected)
    shards = list((store.path / "shards").iterdir())
    for seed in range(4):
        copy = tmp_path / f"copy{seed}" / "shards"
        copy.mkdir(parents=True)
        for number in np.random.default_rng(seed).permutation(len(shards)):
            shutil.copy(shards[number], copy)
        np.testing.assert_array_equal(FeatureStore(copy.parent).labels, expected)


def test_labels_may_come_later(transformer, store, X):
    transformer.extract_to(store, X, progress=False)
    assert store.labels is None
    transformer.extract_to(store, X[:30], np.zeros(30), progress=False)
    assert store.labels is None
    transformer.extract_to(store, X, np.arange(N), ids=np.arange(N), progress=False)
    np.testing.assert_array_equal(store.labels, np.arange(N))
    np.testing.assert_array_equal(store.ids, np.arange(N))
    n_listings = len(listings_of(store))
    transformer.extract_to(store, X, np.arange(N), ids=np.arange(N), progress=False)
    assert len(listings_of(store)) == n_listings


def test_verify_looks_at_everything(stored, store):
    assert store.verify() == []
    flip(shards_of(store)[1])
    name = shards_of(store)[1].name
    with pytest.warns(UserWarning, match=name):
        assert store.verify() == [name]
    assert store.verify() == []


def test_the_manifest_is_made_again(transformer, stored, store, X):
    manifest = store.path / "store.json"
    assert json.loads(manifest.read_text())["schema"] == 1
    manifest.unlink()
    again = reopened(store)
    assert_same(again.features(), stored)
    manifest.write_text('{"schema"')
    with pytest.warns(UserWarning, match=r"store.json is damaged and will be written"):
        again = reopened(store)
    transformer.extract_to(again, X[::-1].copy(), progress=False)
    assert json.loads(manifest.read_text())["schema"] == 1
    manifest.unlink()
    (manifest / "of a user").mkdir(parents=True)
    with pytest.warns(UserWarning, match=r"store.json is damaged and will be written"):
        again = reopened(store)
    assert_same(again.features(), stored)
    assert [*store.path.glob("quarantine/store.json-*/of a user")]


def test_clear_deletes_everything(stored, store):
    store.clear()
    assert store.stats() == dict.fromkeys(store.stats(), 0)
    assert list((store.path / "shards").iterdir()) == []
    with pytest.raises(ValueError, match="is no longer in the feature store"):
        np.asarray(stored)


# Errors ----------------------------------------------------------------------------


def test_an_empty_store_has_no_features(store):
    with pytest.raises(ValueError, match="holds no features yet: fill it by"):
        store.features()
    assert not store.path.exists()


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; a feature store is a folder"):
        FeatureStore(tmp_path / "file")


def test_a_folder_with_something_else_is_left_as_it_is(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(FileExistsError, match="holds something that is no feature"):
        FeatureStore(tmp_path)


def test_a_newer_store_is_refused(stored, store):
    (store.path / "store.json").write_text('{"schema": 2}')
    with pytest.raises(ValueError, match="format 2, this version of skood reads up"):
        FeatureStore(store.path)
    (store.path / "store.json").unlink()
    shard = shards_of(store)[0]
    arrays = {name: shard.array(name) for name in shard.header.entries}
    store.opened.folder.add(arrays, {**shard.metadata, "schema": "2"})
    with pytest.raises(ValueError, match="has format 2"):
        reopened(store).features()


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"path": 3}, TypeError, "path=3: wanted is a folder, or 'memory'"),
        ({"max_bytes": 0}, ValueError, "max_bytes=0: wanted is a whole number from 1"),
        ({"shard_bytes": 1.5}, ValueError, r"shard_bytes=1\.5: wanted is a whole"),
        ({"flush_seconds": -1}, ValueError, "flush_seconds=-1: wanted is a number"),
    ],
)
def test_wrong_parameters(tmp_path, parameters, error, message):
    with pytest.raises(error, match=message):
        FeatureStore(**{"path": tmp_path, **parameters})


def test_extract_to_keeps_every_row(transformer, folder, X):
    with pytest.raises(ValueError, match="wanted is a store without a size limit"):
        transformer.extract_to(FeatureStore(folder, max_bytes=1000), X)
    with pytest.raises(TypeError, match="store=3 is a int"):
        transformer.extract_to(3, X)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"y": [1, 2]}, "y has 2 entries for 40 rows of X"),
        ({"ids": np.zeros((N, 2))}, r"ids has shape \(40, 2\)"),
        ({"y": [object()] * N}, "y has .* type object: wanted is one number or text"),
    ],
)
def test_wrong_labels(transformer, store, X, columns, message):
    with pytest.raises(ValueError, match=message):
        transformer.extract_to(store, X, **columns)


# Handles ---------------------------------------------------------------------------


def test_a_store_is_a_handle(store):
    assert repr(store) == f"FeatureStore({str(store.path)!r})"
    assert repr(FeatureStore("memory", max_bytes=9)) == (
        "FeatureStore('memory', max_bytes=9)"
    )
    loaded = pickle.loads(pickle.dumps(store))
    assert loaded.opened is store.opened
    assert loaded.shard_bytes == store.shard_bytes
    cached = LayerFeatureTransformer(None, "a", cache=store)
    assert clone(cached).cache is store
    assert joblib.hash(loaded) == joblib.hash(store)
