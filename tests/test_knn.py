"""KNN against plain loops and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references import knn as reference
from references.threshold import kth_smallest
from sklearn.neighbors import NearestNeighbors

from skood import KNN
from skood.detectors import knn
from skood.estimator_checks import synthetic_features


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
    detector = KNN(3, contamination=0.1).fit(X)
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
    monkeypatch.setattr(knn, "PRODUCT_ELEMENTS", 4 * len(X))
    np.testing.assert_allclose(KNN(3).fit(X).score_samples(new), whole, rtol=1e-12)


def test_torch_kernel_is_the_same(data):
    X, new = data
    found = knn.kth_distances(torch.from_numpy(new), torch.from_numpy(X), 5)
    np.testing.assert_allclose(found.numpy(), knn.kth_distances(new, X, 5), rtol=1e-10)


def test_near_duplicates_keep_their_digits_in_float32():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 64)).astype(np.float32)
    new = X + np.float32(1e-4) * rng.normal(size=X.shape).astype(np.float32)
    scores = KNN(1).fit(X).score_samples(new)
    expected = reference.scores(X.astype(float), new.astype(float), 1)
    np.testing.assert_allclose(scores, expected, rtol=0.05)


@settings(max_examples=25)
@given(st.integers(0, 100))
def test_length_of_rows_is_no_matter(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(30, 4))
    detector = KNN(3).fit(X)
    stretched = X * rng.uniform(0.01, 100, size=(30, 1))
    np.testing.assert_allclose(
        detector.score_samples(stretched), detector.score_samples(X), atol=1e-7
    )


def test_extreme_lengths_do_not_overflow():
    X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    expected = KNN(3).fit(X).score_samples(X + 1)
    for factor in (np.float32(1e-30), np.float32(1e30)):
        scores = KNN(3).fit(X * factor).score_samples((X + 1) * factor)
        np.testing.assert_allclose(scores, expected, rtol=1e-5)
    zero = KNN(3).fit(np.vstack([X, np.zeros((1, 4), np.float32)]))
    assert np.isfinite(zero.score_samples(np.zeros((1, 4), np.float32))).all()


def test_more_neighbours_than_rows():
    with pytest.raises(ValueError, match="n_neighbors=50 but fit got n_samples=20"):
        KNN().fit(np.eye(20))
    with pytest.raises(ValueError, match="n_neighbors"):
        KNN(0).fit(np.eye(20))


def test_faiss_finds_the_same(data):
    pytest.importorskip(
        "faiss", reason="faiss is not installed: pip install skood[faiss]"
    )
    X, new = data
    exact = KNN(4).fit(X)
    faiss = KNN(4, backend="faiss").fit(X)
    np.testing.assert_allclose(
        faiss.score_samples(new), exact.score_samples(new), rtol=1e-5
    )
    assert faiss.offset_ == pytest.approx(exact.offset_, rel=1e-5)


def test_faiss_that_is_not_there_is_told(data, monkeypatch):
    monkeypatch.setattr(knn, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="backend='faiss' needs faiss"):
        KNN(4, backend="faiss").fit(data[0])
