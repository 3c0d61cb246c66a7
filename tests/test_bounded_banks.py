"""Banks of at most so many rows: which are kept, and what that does to the scores."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

from skood import KNN, LayerFeatures, all_detectors, load, save
from skood.neighbors.least import Nearest
from skood.numerics.balanced import KeptRows, balanced_sample
from skood.numerics.drift import drift

RNG = np.random.default_rng(0)


def by_turns(draws, classes, size):
    """The rows that classes name in turn, each its lowest draw that is left."""
    left = {
        c: sorted(np.flatnonzero(classes == c), key=lambda i: draws[i])
        for c in set(classes)
    }
    found = []
    while any(left.values()):
        turn = [rows.pop(0) for rows in left.values() if rows]
        found += sorted(turn, key=lambda i: draws[i])
    return sorted(found[:size])


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(1, 30))
def test_classes_take_turns(classes, size):
    classes = np.array(classes)
    draws = np.random.default_rng(len(classes)).uniform(size=len(classes))
    found = balanced_sample(draws, classes, size)
    assert found.tolist() == by_turns(draws, classes, size)


@given(
    st.lists(st.integers(0, 3), min_size=2, max_size=40),
    st.integers(1, 12),
    st.integers(1, 9),
)
def test_a_sample_of_portions_is_that_of_all_rows(classes, size, portion):
    classes = np.array(classes)
    whole, _, _ = KeptRows.of(None, classes, size)
    sample = None
    for start in range(0, len(classes), portion):
        sample, _, _ = KeptRows.of(sample, classes[start : start + portion], size)
    np.testing.assert_array_equal(sample.rows, whole.rows)
    np.testing.assert_array_equal(sample.classes, classes[whole.rows])
    assert sample.seen == len(classes)


def some_rows(n=300, d=5):
    y = RNG.choice([3, 5, 9], n, p=[0.6, 0.35, 0.05])
    return RNG.normal(size=(n, d)) + y[:, None], y


def test_scores_are_those_of_a_bank_of_the_kept_rows():
    X, y = some_rows()
    new = some_rows(40)[0]
    for normalize in (True, False):
        detector = KNN(3, max_rows=60, normalize=normalize).fit(X, y)
        rows = detector.bank_rows_
        assert len(rows) == 60
        counts = np.bincount(y[rows])[[3, 5, 9]]
        assert abs(counts[0] - counts[1]) <= 1
        assert counts[2] == min(np.count_nonzero(y == 9), 20)
        alone = KNN(3, normalize=normalize).fit(X[rows], y[rows])
        np.testing.assert_array_equal(
            detector.score_samples(new), alone.score_samples(new)
        )
        # A row that is kept is left out of its own neighbours, another is new.
        scores = alone.score_samples(X)
        others = KNN(4, normalize=normalize).fit(X[rows], y[rows])
        scores[rows] = others.score_samples(X)[rows]
        assert detector.offset_ == np.sort(scores)[int(0.05 * 301) - 1]


def test_portions_make_the_same_detector():
    X, y = some_rows()
    whole = KNN(3, max_rows=60).fit(X, y)
    portions = KNN(3, max_rows=60)
    for start in range(0, 300, 70):
        portions.partial_fit(X[start : start + 70], y[start : start + 70])
    np.testing.assert_array_equal(portions.bank_rows_, whole.bank_rows_)
    np.testing.assert_array_equal(portions.score_samples(X), whole.score_samples(X))
    assert portions.offset_ == whole.offset_


def test_max_rows_comes_before_the_first_portion():
    X, y = some_rows()
    detector = KNN(3).partial_fit(X, y).set_params(max_rows=50)
    with pytest.raises(ValueError, match="set it before the first"):
        detector.partial_fit(X, y)


def test_a_bank_of_all_rows_is_as_without_a_limit():
    X, y = some_rows()
    whole, limited = KNN(3).fit(X, y), KNN(3, max_rows=300).fit(X, y)
    assert whole.offset_ == limited.offset_
    np.testing.assert_array_equal(whole.score_samples(X), limited.score_samples(X))
    assert not hasattr(limited, "drift_")


@pytest.mark.parametrize("normalize", [True, False])
def test_the_drift_is_told(normalize, monkeypatch):
    monkeypatch.setattr("skood.features.chunks.CHUNK_ELEMENTS", 640)
    features = LayerFeatures({"a": some_rows()[0], "b": some_rows(d=4)[0]})
    detector = KNN(3, max_rows=60, normalize=normalize).fit(features)
    whole = KNN(3, normalize=normalize).fit(features)
    rows = np.sort(np.random.default_rng(0).choice(300, 256, replace=False))
    expected = drift(
        detector._left_out(features[rows], np.isin(rows, detector.bank_rows_)),
        whole._left_out(features[rows], np.ones(256, dtype=bool)),
    )
    assert detector.drift_ == pytest.approx(expected, rel=1e-6)
    assert 0.5 < detector.drift_["rank_correlation"] < 1
    assert detector.drift_["shift"] < 0


def test_the_drift_of_a_constant_is_no_number():
    found = drift(np.ones(3), np.arange(3.0))
    assert np.isnan(found["rank_correlation"])
    assert drift(np.ones(3), np.ones(3))["shift"] == 0


def test_nearest_of_fewer_rows_than_asked_are_infinite():
    chunk = LayerFeatures({"a": np.eye(2)})
    found = Nearest.of(
        chunk, queries=np.zeros((1, 2)), centre=np.zeros(2), unit=False, k=3
    )
    np.testing.assert_allclose(found.squares, [[1, 1, np.inf]])


def test_it_is_kept_in_files(tmp_path):
    X, y = some_rows()
    detector = KNN(3, max_rows=60).partial_fit(X[:200], y[:200])
    save(detector, tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    pickled = pickle.loads(pickle.dumps(detector))
    for other in (loaded, pickled, clone(detector).partial_fit(X[:200], y[:200])):
        other.partial_fit(X[200:], y[200:])
    detector.partial_fit(X[200:], y[200:])
    for other in (loaded, pickled):
        np.testing.assert_array_equal(other.bank_rows_, detector.bank_rows_)
        assert other.offset_ == detector.offset_


def test_the_guide_says_of_every_detector_what_memory_it_takes():
    guide = Path(__file__).parents[1] / "docs" / "user_guide" / "scale.rst"
    table = guide.read_text(encoding="utf-8").split("Memory\n------")[1]
    named = set(re.findall(r"\w+", " ".join(line[:48] for line in table.splitlines())))
    assert set(all_detectors().index) - named == set()
