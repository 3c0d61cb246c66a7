"""The transformer's cache when it is cut short, runs full, or cannot know its input."""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from counting import LAYERS, Counting, plain, same
from sklearn.base import clone

from skood import (
    FeatureStore,
    LayerFeatureTransformer,
)
from skood.store.filling import Filling
from skood.store.stored_array import VanishedRowsError


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(90, 3, 6, 6)).astype(np.float32)


@pytest.fixture
def network(tmp_path):
    return Counting(tmp_path / "seen").eval()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "features"


# Interrupted -----------------------------------------------------------------------


def test_an_error_keeps_what_was_computed(network, images, folder):
    spoiled = images.copy()
    spoiled[50, 0, 0, 0] = np.nan
    cached = LayerFeatureTransformer(network, LAYERS, cache=folder, batch_size=10)
    with pytest.raises(ValueError, match="NaN or infinity in row 50"):
        cached.fit_transform(spoiled)
    assert 40 <= len(network.seen()) < 50
    same(cached.fit_transform(images), plain(network, images))
    assert FeatureStore(folder).stats()["misses"] == 90


def test_a_full_disk_is_told_and_mended(network, images, folder, monkeypatch):
    store = FeatureStore(folder, shard_bytes=1000)
    cached = LayerFeatureTransformer(network, LAYERS, cache=store, batch_size=5)
    cached.fit(images)
    fsync, calls = os.fsync, []

    def full_after_a_while(descriptor):
        calls.append(descriptor)
        if len(calls) > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full_after_a_while)
    with pytest.warns(
        UserWarning, match=rf"{folder}.*No space left on device.*without"
    ):
        same(cached.transform(images), plain(network, images))
    bare = clone(cached).set_params(cache=None)
    wanted = (
        r"No space left on device.* keeps \d+ of the 90 rows.*call extract_to again"
    )
    with pytest.raises(OSError, match=wanted) as raised:
        bare.extract_to(store, images, progress=False)
    assert str(folder) in str(raised.value)
    monkeypatch.undo()
    network.seen()
    written = store.stats()["rows"]
    assert 2 < written < 90
    same(cached.transform(images), plain(network, images))
    assert store.stats()["rows"] == 90


# Size limit ------------------------------------------------------------------------


def test_a_size_limit_evicts_and_stays_right(network, images, folder):
    expected = plain(network, images)
    store = FeatureStore(folder, max_bytes=2500)
    cached = LayerFeatureTransformer(network, LAYERS, cache=store, batch_size=1)
    found = cached.fit_transform(images)
    assert 0 < store.stats()["bytes"] <= 2500
    other = cached.transform(images[::-1])
    same(found, expected)
    same(other, expected[::-1])


def test_what_was_used_last_is_evicted_last(network, images, folder):
    store = FeatureStore(folder, max_bytes=20_000)
    cached = LayerFeatureTransformer(network, LAYERS, cache=store, batch_size=30)
    for part in (images[:30], images[30:60], images[:30]):
        cached.fit_transform(part)
    network.seen()
    smaller = FeatureStore(folder, max_bytes=store.stats()["bytes"] - 100)
    cached.set_params(cache=smaller).fit_transform(images[60:61])
    network.seen()
    cached.fit_transform(images[:30])
    assert network.seen() == []


def test_rows_that_others_delete_at_once_are_right(
    network, images, folder, monkeypatch
):
    def gone(*_):
        raise VanishedRowsError("gone")

    monkeypatch.setattr(Filling, "arrays", gone)
    store = FeatureStore(folder, max_bytes=100)
    cached = LayerFeatureTransformer(network, LAYERS, cache=store)
    same(cached.fit_transform(images), plain(network, images))


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_threads_that_evict_and_count_do_not_fail_each_other(network, folder, where):
    images = np.random.default_rng(0).normal(size=(400, 3, 6, 6)).astype(np.float32)
    path = "memory" if where == "memory" else folder
    store = FeatureStore(path, max_bytes=1, shard_bytes=2000)
    expected = plain(network, images)
    done = threading.Event()

    def work(start):
        cached = LayerFeatureTransformer(network, LAYERS, cache=store, batch_size=16)
        rows = slice(start, start + 200)
        same(cached.fit(images[:2]).transform(images[rows]), expected[rows])

    def watch():
        while not done.is_set():
            store.stats()
            store.clear()

    with ThreadPoolExecutor(5) as pool:
        watching = pool.submit(watch)
        for working in [pool.submit(work, 50 * number) for number in range(4)]:
            working.result()
        done.set()
        watching.result()


# Errors ----------------------------------------------------------------------------


def test_a_cache_of_no_known_kind_is_an_error(network, images):
    with pytest.raises(TypeError, match="cache=3 is a int; wanted is a folder"):
        LayerFeatureTransformer(network, LAYERS, cache=3).fit(images)


def test_a_preprocess_without_content_is_an_error(network, images, folder):
    lock = threading.Lock()

    def preprocess(x):
        with lock:
            return x

    cached = LayerFeatureTransformer(
        network, LAYERS, preprocess=preprocess, cache=folder
    )
    with pytest.raises(TypeError, match=r"holds a _thread\.lock.*attribute cache_key"):
        cached.fit(images)
    preprocess.cache_key = "as it is"
    cached.fit_transform(images)
    network.seen()

    def another(x):
        return x

    another.cache_key = "as it is"
    cached.set_params(preprocess=another).fit_transform(images)
    assert network.seen() == []


def test_inputs_without_content_are_an_error(network, folder):
    cached = LayerFeatureTransformer(
        network, "first", preprocess=lambda x: torch.zeros(1, 3, 6, 6), cache=folder
    )
    with pytest.raises(TypeError, match="an input of type object cannot be told"):
        cached.fit([object()])


def test_inputs_of_several_sizes_need_a_pooling_statistic(network, folder):
    cached = LayerFeatureTransformer(network, "first", "flatten", cache=folder)
    rng = np.random.default_rng(0)
    cached.fit_transform(rng.normal(size=(4, 3, 6, 6)).astype(np.float32))
    cached.transform(rng.normal(size=(4, 3, 5, 5)).astype(np.float32))
    mixed = [torch.rand(3, 6, 6), torch.rand(3, 5, 5)]
    cached.set_params(batch_size=1)
    with pytest.raises(ValueError, match="inputs of several sizes need a statistic"):
        cached.fit_transform(mixed)
