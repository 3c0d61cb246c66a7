"""Every detector fits and scores a store by chunks, with the result of arrays."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from instances import OOD_BATTERY
from joblib import parallel_config
from sklearn.base import clone

from skood import AMP, KNN, FeatureStore, LayerFeatures, Mahalanobis
from skood.estimator_checks import synthetic_features
from skood.neural.stored_rows import StoredRows
from skood.store.catalogue import array_name
from skood.store.row_keys import row_keys

ROWS = 37
"""In a shard: chunks begin and end within shards."""


def stored(features, folder):
    """The same features, the last rows written first."""
    store = FeatureStore(folder)
    keys = row_keys(np.arange(len(features)))
    about = {"source": "test", "description": "a test"}
    for start in reversed(range(0, len(features), ROWS)):
        rows = slice(start, start + ROWS)
        blocks = {
            array_name(name): features[rows].block(*name)
            for name in features.block_names
        }
        store.opened.add("features", {"keys": keys[rows], **blocks}, about)
    store.opened.add("rows", {"keys": keys}, about)
    found = store.features()
    views = {n: stored(v, folder / n) for n, v in features.views.items()}
    blocks = {name: found._blocks[name] for name in features.block_names}
    return LayerFeatures(blocks, features.head, views)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    features, y = synthetic_features()
    return features, stored(features, tmp_path_factory.mktemp("store") / "features"), y


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr("skood.features.chunks.CHUNK_ELEMENTS", 2000)


def assert_equal(one, other, features):
    assert one.offset_ == other.offset_
    np.testing.assert_array_equal(
        one.score_samples(features), other.score_samples(features)
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("detector", OOD_BATTERY, ids=repr)
def test_the_result_is_that_of_arrays(detector, pair):
    arrays, store, y = pair
    in_memory = clone(detector).fit(arrays, y)
    from_store = clone(detector).fit(store, y)
    assert_equal(from_store, in_memory, arrays)
    np.testing.assert_array_equal(
        in_memory.score_samples(store), in_memory.score_samples(arrays)
    )
    rows = np.random.default_rng(0).permutation(len(y))
    np.testing.assert_array_equal(
        in_memory.score_samples(store[rows]), in_memory.score_samples(arrays[rows])
    )


def test_workers_get_their_own_rows(pair):
    arrays, store, y = pair
    with parallel_config(backend="threading", n_jobs=2):
        in_threads = Mahalanobis().fit(store, y)
    assert_equal(in_threads, Mahalanobis().fit(arrays, y), arrays)
    part = store.select("layer1", "avg")[100:110]
    assert (
        len(pickle.dumps(part)) < len(pickle.dumps(store.select("layer1", "avg"))) / 2
    )


@pytest.mark.parametrize("detector", [Mahalanobis(), KNN(n_neighbors=5)], ids=repr)
def test_portions_come_from_a_store(detector, pair):
    arrays, store, y = pair
    for start in range(0, len(y), 97):
        rows = slice(start, start + 97)
        detector.partial_fit(store[rows], y[rows])
    whole = clone(detector).fit(arrays, y)
    np.testing.assert_allclose(
        detector.decision_function(arrays), whole.decision_function(arrays), rtol=1e-6
    )


def test_a_network_is_trained_batch_by_batch(pair, monkeypatch):
    read = []
    whole = StoredRows.__getitem__
    monkeypatch.setattr(
        StoredRows, "__getitem__", lambda rows, key: _noted(read, whole(rows, key))
    )
    monkeypatch.setattr("skood.neural.anchored.SCALER_ROWS", 50)
    _, store, y = pair
    AMP(random_state=0).fit(store, y)
    assert sum(read) > 10 * len(y)
    assert max(read) <= 128  # the bank of anchors


def _noted(lengths, rows):
    lengths.append(1 if rows.ndim == 1 else len(rows))
    return rows
