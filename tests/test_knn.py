"""KNN against plain loops and scikit-learn."""

from __future__ import annotations

import pickle
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references import knn as reference
from references.threshold import kth_smallest
from sklearn.neighbors import NearestNeighbors

from skood import KNN
from skood.detectors.layers import knn
from skood.estimator_checks import synthetic_features
from skood.neighbors import candidates


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 5)) + 1, rng.normal(size=(30, 5)) + 1


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("k", [1, 7, 59])
def test_equals_the_plain_loops(data, k, normalize):
    X, new = data
    scores = KNN(k, normalize=normalize).fit(X).score_samples(new)
    np.testing.assert_allclose(
        scores, reference.scores(X, new, k, normalize), rtol=1e-9
    )


def test_equals_scikit_learn(data):
    X, new = data
    scores = KNN(4, normalize=False).fit(X).score_samples(new)
    expected = NearestNeighbors(n_neighbors=4).fit(X).kneighbors(new)[0][:, -1]
    np.testing.assert_allclose(-scores, expected, rtol=1e-9)


def test_threshold_is_that_of_leaving_each_row_out(data):
    X, _ = data
    detector = KNN(3, normalize=True, contamination=0.1).fit(X)
    left_out = [
        reference.scores(np.delete(X, i, 0), X[i : i + 1], 3)[0] for i in range(len(X))
    ]
    assert detector.offset_ == pytest.approx(kth_smallest(left_out, 0.1), rel=1e-9)


def test_several_layers_are_summed():
    features, y = synthetic_features()
    both = KNN(5, layers=["layer1", "layer2"]).fit(features, y).score_samples(features)
    each = [
        KNN(5, layers=layer).fit(features, y).score_samples(features)
        for layer in ("layer1", "layer2")
    ]
    np.testing.assert_allclose(both, sum(each), rtol=1e-12)


def test_blocks_of_queries_are_no_matter(data, monkeypatch):
    X, new = data
    whole = KNN(3).fit(X).score_samples(new)
    monkeypatch.setattr(candidates, "PRODUCT_ELEMENTS", 4 * len(X))
    np.testing.assert_array_equal(KNN(3).fit(X).score_samples(new), whole)


def test_near_duplicates_keep_their_digits_in_float32():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 64)).astype(np.float32)
    new = X + np.float32(1e-4) * rng.normal(size=X.shape).astype(np.float32)
    scores = KNN(1, normalize=False).fit(X).score_samples(new)
    expected = reference.scores(X.astype(float), new.astype(float), 1, False)
    np.testing.assert_allclose(scores, expected, rtol=1e-12)
    scores = KNN(1, normalize=True).fit(X).score_samples(new)
    expected = reference.scores(X.astype(float), new.astype(float), 1)
    np.testing.assert_allclose(scores, expected, rtol=1e-9)


@settings(max_examples=25)
@given(st.integers(0, 100))
def test_length_of_rows_is_no_matter(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(30, 4))
    detector = KNN(3, normalize=True).fit(X)
    stretched = X * rng.uniform(0.01, 100, size=(30, 1))
    np.testing.assert_allclose(
        detector.score_samples(stretched), detector.score_samples(X), atol=1e-7
    )


def test_extreme_lengths_do_not_overflow():
    X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    expected = KNN(3, normalize=True).fit(X).score_samples(X + 1)
    for factor in (np.float32(1e-30), np.float32(1e30)):
        detector = KNN(3, normalize=True).fit(X * factor)
        scores = detector.score_samples((X + 1) * factor)
        np.testing.assert_allclose(scores, expected, rtol=1e-5)
    zero = KNN(3, normalize=True).fit(np.vstack([X, np.zeros((1, 4), np.float32)]))
    assert np.isfinite(zero.score_samples(np.zeros((1, 4), np.float32))).all()


@pytest.mark.parametrize(
    ("dtype", "factor"),
    [("f4", 1e20), ("f4", 1e37), ("f4", 1e-25), ("f8", 1e155), ("f8", 1e-200)],
)
def test_units_are_no_matter(data, dtype, factor):
    X, new = data
    plain = KNN(3, normalize=False).fit(X)
    units = KNN(3, normalize=False).fit((X * factor).astype(dtype))
    rtol = 1e-5 if dtype == "f4" else 1e-12
    scores = units.score_samples((new * factor).astype(dtype)) / factor
    np.testing.assert_allclose(scores, plain.score_samples(new), rtol=rtol)
    assert units.offset_ / factor == pytest.approx(plain.offset_, rel=rtol)


def test_what_float64_cannot_hold_is_told():
    X = np.ones((9, 2))
    X[4, 1] = 1e308
    with pytest.raises(ValueError, match=r"1e\+308 in column 1.*normalize=True"):
        KNN(2, normalize=False).fit(X)
    detector = KNN(2, normalize=False).fit(np.eye(9))
    scores = detector.score_samples(np.full((1, 9), 1.7e308))
    assert np.isfinite(scores).all()
    assert scores < -1e308


def test_more_neighbours_than_rows_are_reduced():
    X = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.warns(UserWarning, match="n_neighbors=50 is too many for n_samples=20"):
        detector = KNN(50).fit(X)
    assert detector.n_neighbors_ == 19
    assert detector.offset_ == KNN(19).fit(X).offset_
    with pytest.raises(ValueError, match="n_samples=1 in-distribution row"):
        KNN().fit(X, np.r_[0, np.full(19, -1)])
    with pytest.raises(ValueError, match="n_neighbors"):
        KNN(0).fit(X)


def test_default_sees_the_rows_of_a_class():
    rng = np.random.default_rng(0)
    for n_classes, rows, k in ((10, 40, 5), (10, 200, 20), (3, 600, 50), (50, 4, 2)):
        y = np.repeat(np.arange(n_classes), rows)
        X = rng.normal(size=(len(y), 2))
        assert KNN().fit(X, y).n_neighbors_ == k
        half = len(y) // 2
        order = rng.permutation(len(y))
        parts = KNN().partial_fit(X[order[:half]], y[order[:half]])
        parts.partial_fit(X[order[half:]], y[order[half:]])
        assert parts.n_neighbors_ == k
    assert KNN().fit(X).n_neighbors_ == 5
    assert KNN().fit(X[:6]).n_neighbors_ == 3


def _table(name):
    rng = np.random.default_rng(0)
    embedding = np.maximum(rng.normal(size=(400, 24)) + 0.2, 0).astype(np.float32)
    embedding[:, 5] = 0  # a dead unit
    units = np.geomspace(1, 1e6, 24)
    return {
        "embedding": embedding,
        "dying embedding": np.hstack([embedding, 1e-6 * embedding, 1e-4 * embedding]),
        "signed embedding": rng.normal(size=(400, 24)) + rng.normal(size=24),
        "few columns": embedding[:, :8],
        "flags": np.c_[embedding, rng.integers(0, 2, 400)],
        "units": embedding * units,
        "standardised": embedding - embedding.mean(axis=0),
    }[name]


@pytest.mark.parametrize("name", ["embedding", "dying embedding", "signed embedding"])
def test_embeddings_are_normalised(name):
    assert not reference.is_table(_table(name))
    assert list(KNN().fit(_table(name)).normalize_.values()) == [True]


@pytest.mark.parametrize("name", ["few columns", "flags", "units", "standardised"])
def test_tables_are_not_normalised(name):
    X = _table(name)
    assert reference.is_table(X)
    detector = KNN().fit(X)
    assert list(detector.normalize_.values()) == [False]
    assert detector.offset_ == KNN(normalize=False).fit(X).offset_


def test_one_row_needs_next_to_no_memory():
    X = np.random.default_rng(0).normal(size=(5000, 128)).astype(np.float32)
    detector = KNN(5).fit(X)
    tracemalloc.start()
    detector.score_samples(X[:1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.1 * X.nbytes


def test_files_do_not_hold_what_is_prepared(data):
    X, new = data
    detector = KNN(3).fit(np.tile(X, (100, 1)))
    scores = detector.score_samples(new)
    file = pickle.dumps(detector)
    assert len(file) < 1.2 * 100 * X.nbytes
    np.testing.assert_array_equal(pickle.loads(file).score_samples(new), scores)


def test_faiss_finds_the_same(data):
    pytest.importorskip(
        "faiss", reason="faiss is not installed: pip install skood[faiss]"
    )
    X, new = data
    exact = KNN(4).fit(X)
    faiss = KNN(4, backend="faiss").fit(X)
    np.testing.assert_array_equal(faiss.score_samples(new), exact.score_samples(new))
    assert faiss.offset_ == exact.offset_
    index = faiss._prepared[0]._searches["faiss"]
    faiss.score_samples(new)
    assert faiss._prepared[0]._searches["faiss"] is index
    again = pickle.loads(pickle.dumps(faiss))
    np.testing.assert_array_equal(again.score_samples(new), exact.score_samples(new))


def test_faiss_that_is_not_there_is_told(data, monkeypatch):
    monkeypatch.setattr(knn, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="backend='faiss' needs faiss"):
        KNN(4, backend="faiss").fit(data[0])


def test_threads_that_prepare_at_once_prepare_one_bank(data, monkeypatch):
    X, new = data
    detector = KNN(3).fit(X)
    wanted = detector.score_samples(new)
    fresh = pickle.loads(pickle.dumps(detector))
    at_once, prepared = threading.Barrier(4), KNN._prepared_bank

    def slowly_prepared(self, name):
        at_once.wait()  # all have found nothing prepared
        return prepared(self, name)

    monkeypatch.setattr(KNN, "_prepared_bank", slowly_prepared)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(fresh.score_samples, [new] * 4):
            np.testing.assert_array_equal(found, wanted)
    assert len(fresh._prepared) == 1
