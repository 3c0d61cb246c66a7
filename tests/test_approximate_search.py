"""KNN through cells and codes: recall as stated, distances as measured, files."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr
from sklearn.preprocessing import normalize as unit_rows

from skood import KNN, LayerFeatures, load, save
from skood.detectors.layers import knn
from skood.export.banks import bounded
from skood.features.tensors import TensorFeatures
from skood.neighbors.cells import LEAST_CODED
from skood.numerics.drift import drift_rows
from skood.numerics.graph import becoming_graph

pytest.importorskip("faiss", reason="faiss is not installed: pip install skood[faiss]")

K = 10


def embeddings(rows, seed, width=30):
    """Rows near to a plane of few dimensions, as networks make them."""
    rng = np.random.default_rng(seed)
    of_all = np.random.default_rng(7)
    y = rng.integers(0, 5, rows)
    centres = of_all.uniform(0, 1.5, (5, width))
    plane = of_all.normal(0, 0.3, (6, width))
    x = centres[y] + rng.normal(size=(rows, 6)) @ plane
    noise = rng.normal(0, 0.05, (rows, width))
    return np.maximum(x + noise, 0).astype(np.float32), y


X, Y = embeddings(3000, 1)
NEW, _ = embeddings(1000, 2)


@pytest.fixture(scope="module", params=["ivf", "pq"])
def detector(request):
    return KNN(K, backend=request.param, normalize=True).fit(X, Y)


@pytest.fixture(scope="module")
def exact():
    return KNN(K, normalize=True).fit(X, Y)


def nearest(points, bank):
    return np.argsort(cdist(points, bank), axis=1, kind="stable")


def test_the_recall_is_that_of_rows_left_out_of_the_bank(detector):
    rows = drift_rows(len(X))
    points = unit_rows(X.astype(float))
    (recall,) = detector.recall_.values()
    (search,) = detector._searched_banks()
    found = search.found(points[rows], K + 1)
    shares = []
    for row, others in zip(rows, found, strict=True):
        true = [n for n in nearest(points[[row]], points)[0] if n != row][:K]
        left = [n for n in others if n != row][:K]
        shares.append(np.isin(true, left).mean())
    assert recall == pytest.approx(np.mean(shares), abs=1e-3)
    assert recall >= (0.95 if detector.backend == "ivf" else 0.6)


def test_distances_are_those_of_the_rows_that_are_kept(detector):
    (name,) = detector.normalize_
    (search,) = detector._searched_banks()
    points = unit_rows(NEW.astype(float))
    every = cdist(points, detector._bank_points(name))
    found = -detector.score_samples(NEW)
    # Of all rows none is nearer, and of those found none is missed.
    assert (found >= np.sort(every, axis=1)[:, K - 1] * (1 - 1e-9)).all()
    some = search.found(points, K + K // 8 + 16)
    own = np.sort(np.take_along_axis(every, some, axis=1), axis=1)[:, K - 1]
    np.testing.assert_allclose(found, own, rtol=1e-9)


def test_codes_take_a_byte_for_four_columns():
    detector = KNN(K, backend="pq").fit(X, Y)
    (cells,) = detector.cells_.values()
    assert cells.rows.codes.shape == (3000, 8)
    assert cells.rows.codes.dtype == np.uint8
    assert not hasattr(detector, "banks_")
    small = len(pickle.dumps(detector))
    assert small < 3000 * (8 + 4) + 250_000  # codes, cells, codebooks, centroids


def test_scores_and_rate_are_near_those_of_the_exact_search(detector, exact):
    found = spearmanr(detector.score_samples(NEW), exact.score_samples(NEW))
    assert found.statistic > 0.97
    assert (detector.predict(NEW) == -1).mean() == pytest.approx(0.05, abs=0.025)


def test_a_row_scores_the_same_alone(detector):
    alone = [detector.score_samples(NEW[n : n + 1])[0] for n in range(20)]
    np.testing.assert_array_equal(alone, detector.score_samples(NEW)[:20])


def test_files_keep_what_was_learned_and_no_index(detector, tmp_path):
    expected = detector.score_samples(NEW)
    save(detector, tmp_path / "saved")
    for other in (load(tmp_path / "saved"), pickle.loads(pickle.dumps(detector))):
        assert other._prepared == []
        assert other.recall_ == detector.recall_
        np.testing.assert_array_equal(other.score_samples(NEW), expected)


def test_rows_in_chunks_are_as_rows_at_once(detector, monkeypatch):
    monkeypatch.setattr("skood.features.chunks.CHUNK_ELEMENTS", 30 * 512)
    again = KNN(K, backend=detector.backend, normalize=True).fit(X, Y)
    np.testing.assert_array_equal(again.score_samples(NEW), detector.score_samples(NEW))
    assert again.offset_ == detector.offset_


@pytest.mark.parametrize("backend", ["ivf", "pq"])
@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_units_are_no_matter(backend, scale):
    whole = KNN(K, backend=backend, normalize=False).fit(X, Y)
    other = KNN(K, backend=backend, normalize=False).fit(X.astype(float) * scale, Y)
    np.testing.assert_allclose(
        other.score_samples(NEW.astype(float) * scale),
        whole.score_samples(NEW) * scale,
        rtol=1e-3,
    )


@pytest.mark.parametrize("backend", ["ivf", "pq"])
def test_what_is_far_beyond_is_an_outlier(backend):
    detector = KNN(K, backend=backend, normalize=False).fit(X, Y)
    far = np.full((2, 30), 1e30)
    expected = KNN(K, normalize=False).fit(X, Y).score_samples(far)
    np.testing.assert_allclose(detector.score_samples(far), expected, rtol=1e-6)


@pytest.mark.parametrize("backend", ["ivf", "pq"])
def test_more_neighbours_than_a_cell_has_are_found_in_others(backend):
    detector = KNN(400, backend=backend, normalize=True).fit(X[:600], Y[:600])
    assert np.isfinite(detector.score_samples(NEW[:50])).all()
    assert detector.score_samples(NEW[:50]).min() > -2.1  # on the sphere


def test_portions_go_into_cells_but_not_into_codes():
    portions = KNN(K, backend="ivf", normalize=True)
    for start in range(0, 3000, 1000):
        portions.partial_fit(X[start : start + 1000], Y[start : start + 1000])
    whole = KNN(K, backend="ivf", normalize=True).fit(X, Y)
    np.testing.assert_array_equal(portions.score_samples(NEW), whole.score_samples(NEW))
    coded = KNN(K, backend="pq").partial_fit(X[:1000], Y[:1000])
    before = coded.score_samples(NEW[:5])
    with pytest.raises(ValueError, match="backend='pq' keeps codes"):
        coded.partial_fit(X[1000:], Y[1000:])
    np.testing.assert_array_equal(coded.score_samples(NEW[:5]), before)


def test_codes_of_a_sample_tell_the_drift_by_all_rows():
    features = LayerFeatures({"a": X, "b": X[:, ::-1].copy()})
    detector = KNN(K, backend="pq", max_rows=1000).fit(features, Y)
    assert len(detector.bank_rows_) == 1000
    assert {*detector.recall_} == {("a", "avg"), ("b", "avg")}
    assert 0.5 < detector.drift_["rank_correlation"] < 1


def test_too_few_rows_for_codes_are_told():
    with pytest.raises(ValueError, match=f"{LEAST_CODED} in-distribution rows"):
        KNN(K, backend="pq").fit(X[:100])


@pytest.mark.parametrize("backend", ["faiss", "ivf", "pq"])
def test_faiss_that_is_not_there_is_told(backend, monkeypatch):
    monkeypatch.setattr(knn, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=f"backend='{backend}' needs faiss"):
        KNN(3, backend=backend).fit(X[:300])


@pytest.mark.parametrize("backend", ["ivf", "pq"])
def test_bad_rows_are_refused(backend):
    bad = X[:300].copy()
    bad[7, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        KNN(3, backend=backend).fit(bad)


def test_a_graph_measures_what_is_kept(detector):
    torch = pytest.importorskip("torch")
    points = unit_rows(NEW[:50].astype(float))
    (name,) = detector.normalize_
    every = np.sort(cdist(points, detector._bank_points(name)), axis=1)
    smaller = bounded(detector, 1000)
    assert len(smaller._bank_points(name)) == 1000
    with becoming_graph():
        found = detector._score(TensorFeatures({name: torch.as_tensor(NEW[:50])}))
        np.testing.assert_allclose(-found.numpy(), every[:, K - 1], rtol=1e-6)
