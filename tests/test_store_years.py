"""A cache for years: what piles up, where it lies, and whether it pays."""

from __future__ import annotations

import errno
import gc
import json
import os
import pickle
import subprocess
import sys
import textwrap
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from cached import N, files_of, same
from networks import perceptron
from sklearn.base import clone

from skood import FeatureStore, LayerFeatureTransformer
from skood.store import merging, opened
from skood.store.gathered import Gathered
from skood.store.index import stacked


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
    return LayerFeatureTransformer(network, ["0", "logits"], batch_size=8)


# Single rows -----------------------------------------------------------------------


def test_single_rows_wait_for_each_other(transformer, folder, X):
    expected = clone(transformer).fit_transform(X)
    cached = transformer.set_params(cache=folder).fit(X[:2])
    before = len(files_of(folder))
    for _ in range(2):
        for row in range(N):
            same(cached.transform(X[row : row + 1]), expected[row : row + 1])
            rows = [row, 0, row]
            same(cached.transform(X[rows]), expected[rows])
    assert len(files_of(folder)) == before
    store = FeatureStore(folder)
    assert store.stats()["misses"] == N
    assert store.stats()["rows"] == N
    assert len(files_of(folder)) == before + 1
    same(cached.transform(X), expected)
    assert store.stats()["misses"] == N


def test_a_large_pass_finds_rows_that_wait(transformer, folder, X):
    cached = transformer.set_params(cache=folder).fit(X[:2])
    cached.transform(X[5:6])
    same(
        cached.transform(X), clone(transformer).set_params(cache=None).fit_transform(X)
    )
    assert FeatureStore(folder).stats()["misses"] == N


def test_rows_that_wait_are_written_after_a_while(transformer, folder, X):
    store = FeatureStore(folder, flush_seconds=0.2)
    cached = transformer.set_params(cache=store).fit(X[:2])
    before = len(files_of(folder))
    cached.transform(X[5:6])
    deadline = time.monotonic() + 10
    while store.opened.gathered.nbytes and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(files_of(folder)) == before + 1
    assert store.opened.gathered.nbytes == 0


def test_rows_that_wait_are_written_at_the_end_of_the_process(folder):
    script = f"""
        import numpy as np, torch
        from skood import LayerFeatureTransformer
        net = torch.nn.Linear(4, 3)
        X = np.eye(4, dtype=np.float32)
        t = LayerFeatureTransformer(net, "logits", cache={str(folder)!r}).fit(X[:2])
        t.transform(X[2:3])
    """
    root = str(Path(__file__).resolve().parents[1])
    command = [sys.executable, "-c", textwrap.dedent(script)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": root})
    assert FeatureStore(folder).stats()["rows"] == 3


def test_more_blocks_of_a_row_that_waits(network, folder, X):
    first = LayerFeatureTransformer(network, "0", cache=folder).fit(X[:2])
    more = LayerFeatureTransformer(network, ["0", "logits"], cache=folder).fit(X[:2])
    first.transform(X[7:8])
    found = more.transform(X[7:8])
    same(found, clone(more).set_params(cache=None).fit(X).transform(X[7:8]))
    store = FeatureStore(folder)
    store.stats()
    same(more.transform(X[7:8]), found)


def test_gathered_rows_are_what_was_put_there():
    gathered, rng = Gathered(), np.random.default_rng(0)
    keys = stacked(bytes([n] * 16) for n in range(6))
    one, other = ("a", "avg"), ("b", "max")
    values = {one: rng.normal(size=(6, 3)), other: rng.normal(size=(6, 2))}
    about = {"source": "one", "description": "d"}
    for row in range(6):
        own = {block: array[row : row + 1] for block, array in values.items()}
        wanted = own if row % 2 else {one: own[one]}
        gathered.add(about, keys[row : row + 1], wanted)
    assert gathered.found("one", ("b", "max"), keys).tolist() == [False, True] * 3
    assert not gathered.found("other", ("a", "avg"), keys).any()
    tables = list(gathered.tables())
    assert sorted(len(keys) for _, keys, _ in tables) == [3, 3]
    for _, found, table in tables:
        rows = [int(key[0]) for key in found]
        for block, array in table.items():
            np.testing.assert_array_equal(array, values[block][rows])
    assert gathered.nbytes == 0


def test_a_full_disk_loses_rows_that_wait_and_nothing_else(
    transformer, folder, X, monkeypatch
):
    store = FeatureStore(folder)
    cached = transformer.set_params(cache=store).fit(X[:2])
    cached.transform(X[5:6])

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(
        UserWarning, match=f"not be written to the store {folder}.*space"
    ):
        store.stats()
    monkeypatch.undo()
    same(cached.transform(X), clone(cached).set_params(cache=None).fit_transform(X))


# Small shards ----------------------------------------------------------------------


def filled_by_pieces(transformer, folder, X, **parameters):
    store = FeatureStore(folder, **parameters)
    cached = clone(transformer).set_params(cache=store)
    for _ in range(1):
        cached.fit(X[:2])
        for row in range(len(X)):
            cached.transform(X[row : row + 1])
            store.opened.write_gathered()
    return store


def test_many_small_shards_are_merged(transformer, folder, monkeypatch):
    monkeypatch.setattr(merging, "AT_ONCE", 8)
    X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    expected = clone(transformer).fit_transform(X)
    store = filled_by_pieces(transformer, folder, X)
    held = store.features()
    pickled = pickle.dumps(held[10:20])
    assert store.stats()["shards"] > 30
    cached = clone(transformer).set_params(cache=store)
    more = np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32)
    cached.fit_transform(more)
    assert store.stats()["shards"] < 5
    assert store.stats()["rows"] == 60
    assert len(files_of(folder)) == len({*store.opened.catalogue.shards})
    same(held, expected)  # whose shards are gone
    same(pickle.loads(pickled), expected[10:20])
    same(store.features(), clone(transformer).fit_transform(np.concatenate([X, more])))
    fresh = FeatureStore(copied(folder))
    same(fresh.features()[:40], expected)
    assert store.verify() == fresh.verify() == []


def copied(folder):
    import shutil

    return shutil.copytree(folder, folder.with_name("copy"))


def test_a_damaged_small_shard_is_named_when_others_are_merged(
    transformer, folder, monkeypatch
):
    monkeypatch.setattr(merging, "AT_ONCE", 8)
    X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    store = filled_by_pieces(transformer, folder, X)
    shard = store.opened.catalogue.of_kind("features")[5]
    data = bytearray(shard.path.read_bytes())
    data[-2] ^= 1
    shard.path.write_bytes(data)
    with pytest.warns(UserWarning, match=f"{shard.name}.*damaged"):
        merging.merge_small(store.opened, store.shard_bytes)
    cached = clone(transformer).set_params(cache=store)
    same(cached.fit_transform(X), clone(transformer).fit_transform(X))


# Open stores -----------------------------------------------------------------------


def test_stores_that_nobody_holds_are_let_go(tmp_path):
    held = FeatureStore(tmp_path / "held")
    seen = []
    for number in range(3 * opened.KEPT_OPEN):
        seen.append(weakref.ref(FeatureStore(tmp_path / str(number)).opened))
    gc.collect()
    assert sum(ref() is not None for ref in seen) <= opened.KEPT_OPEN
    assert FeatureStore(tmp_path / "held").opened is held.opened


# Paths -----------------------------------------------------------------------------


def test_the_home_folder(tmp_path, monkeypatch, transformer, X):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert FeatureStore("~/features").path == tmp_path / "features"
    transformer.set_params(cache="~/features").fit_transform(X)
    assert (tmp_path / "features" / "shards").is_dir()


@pytest.mark.parametrize(
    "path", ["s3://bucket/x", "gs://b/x", "file:///tmp/x", Path("s3://bucket/x")]
)
def test_an_address_is_refused_with_what_to_do(path, network, X, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"is an address.*Copy it to a disk.*mount it"):
        FeatureStore(path)
    with pytest.raises(ValueError, match="is an address"):
        LayerFeatureTransformer(network, "0", cache=path).fit(X)
    assert list(tmp_path.iterdir()) == []


# Whether it pays -------------------------------------------------------------------


def test_a_cache_that_does_not_pay_is_told(network, folder, X):
    store = FeatureStore(folder)
    cached = LayerFeatureTransformer(network, "0", cache=store)
    cached.fit_transform(X)
    for number in range(3):
        network.tag = number  # another network each time, for whatever reason
        if number == 1:
            wanted = f"cache .*{folder}.* does not pay: twice in a row all 60.*struct"
            with pytest.warns(UserWarning, match=wanted):
                cached.fit_transform(X)
        else:
            cached.fit_transform(X)
    assert store.stats()["in_vain"] == 3
    cached.fit_transform(X)
    assert store.stats()["in_vain"] == 3


def test_other_wishes_are_not_in_vain(network, folder, X):
    store = FeatureStore(folder)
    cached = LayerFeatureTransformer(network, "0", cache=store)
    for parameters in (
        {},
        {"dtype": "float64"},
        {"dtype": "float16"},
        {"layers": ["2"]},
        {"layers": ["0", "2"], "dtype": "float32"},
    ):
        cached.set_params(**parameters).fit_transform(X)
    for number in range(4):
        cached.fit_transform(X + number)
    assert store.stats()["in_vain"] == 0


def test_notes_are_written_whole(folder, transformer, X):
    transformer.set_params(cache=folder).fit_transform(X)
    store = FeatureStore(folder)
    for note in store.opened.catalogue.of_kind("note"):
        if "text" in note.metadata:
            json.loads(note.metadata["text"])
