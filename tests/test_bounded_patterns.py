"""NAP and PyOD's detectors under max_rows: as if fitted on the rows that are kept."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from pyod.models.hbos import HBOS
from pyod.models.knn import KNN as PyODKNN
from test_bounded_banks import some_rows

from skood import NAP, AutoOOD, LayerFeatures, PyODDetector, load, save
from skood.ensemble import base, panel

RNG = np.random.default_rng(0)
LABELS = RNG.choice([0, 1, 2], 300, p=[0.6, 0.35, 0.05])


def activations(y):
    centres = np.random.default_rng(1).uniform(0, 1, (3, 24))
    blocks = {
        (layer, statistic): np.maximum(centres[y] + RNG.normal(0, 0.4, (len(y), 24)), 0)
        for layer in ("a", "b")
        for statistic in ("avg", "max")
    }
    logits = np.eye(3)[y] + RNG.normal(0, 0.2, (len(y), 3))
    return LayerFeatures(blocks | {"logits": logits})


FEATURES, NEW = activations(LABELS), activations(LABELS[:40])

CASES = [
    {},
    {"per_class": False, "layers": "a"},
    {"tie_break": None, "percentile": 70},
    {"voting": "majority"},
]


@pytest.mark.filterwarnings("ignore:contamination")
@pytest.mark.parametrize("options", CASES)
def test_patterns_are_those_of_the_kept_rows(options):
    detector = NAP(max_rows=60, **options).fit(FEATURES, LABELS)
    rows = detector.bank_rows_
    assert len(rows) == 60
    assert np.bincount(LABELS[rows]).min() == min((LABELS == 2).sum(), 20)
    alone = NAP(**options).fit(FEATURES[rows], LABELS[rows])
    for one, other in zip(detector._layers, alone._layers, strict=True):
        found = detector._distances(one, NEW)
        np.testing.assert_array_equal(found, alone._distances(other, NEW))
        # A row that is kept is left out of its own patterns, another is new.
        kept = np.isin(np.arange(300), rows)
        own = np.where(kept, LABELS, -1)
        scores = alone._distances(other, FEATURES)
        scores[rows] = alone._distances(other, FEATURES[rows], LABELS[rows])
        found = detector._distances(one, FEATURES, own)
        np.testing.assert_array_equal(found, scores)


@pytest.mark.filterwarnings("ignore:contamination")
@pytest.mark.parametrize("options", CASES)
def test_the_drift_is_beside_the_patterns_of_all_rows(options, monkeypatch):
    monkeypatch.setattr("skood.features.chunks.CHUNK_ELEMENTS", 24 * 64)
    detector = NAP(max_rows=60, **options).fit(FEATURES, LABELS)
    whole = NAP(**options).fit(FEATURES, LABELS)
    training = whole._read_labels(whole._needed(FEATURES), LABELS)
    some = training.part(np.arange(0, 300, 7))
    # Under the thresholds that the smaller bank has set.
    whole.configuration_ = detector.configuration_
    expected = whole._scores_left_out(some, np.ones(len(some), dtype=bool))
    found = detector._scores_by_all(training, some)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert 0.3 < detector.drift_["rank_correlation"] < 1
    assert detector.drift_["shift"] < 0


def test_thresholds_keep_their_rate_and_files_the_rows(tmp_path):
    y = RNG.integers(0, 3, 3000)
    known, new = activations(y), activations(RNG.integers(0, 3, 3000))
    detector = NAP(max_rows=500).fit(known, y)
    assert (detector.predict(new) == -1).mean() == pytest.approx(0.05, abs=0.02)
    save(detector, tmp_path / "saved")
    for other in (load(tmp_path / "saved"), pickle.loads(pickle.dumps(detector))):
        np.testing.assert_array_equal(
            other.score_samples(NEW), detector.score_samples(NEW)
        )
        np.testing.assert_array_equal(other.bank_rows_, detector.bank_rows_)


def test_a_search_by_outliers_looks_at_the_kept_rows():
    y = np.r_[LABELS, np.full(40, -1)]
    far = LayerFeatures({k: 1 - NEW.block(*k) for k in NEW.block_names})
    both = LayerFeatures.concatenate([FEATURES, far])
    detector = NAP(auto=True, max_rows=60).fit(both, y)
    assert all(layer.bank.counts.sum() == 60 for layer in detector._layers)
    assert (detector.predict(far) == -1).mean() > 0.5


def test_a_limit_above_all_rows_changes_nothing():
    whole, limited = NAP().fit(FEATURES, LABELS), NAP(max_rows=300)
    limited.fit(FEATURES, LABELS)
    np.testing.assert_array_equal(whole.score_samples(NEW), limited.score_samples(NEW))
    assert whole.offset_ == limited.offset_
    assert not hasattr(limited, "drift_")


@pytest.mark.parametrize("model", [HBOS(), PyODKNN()])
@pytest.mark.parametrize("held_out", ["auto", 0.2])
def test_pyod_gets_the_kept_rows(model, held_out):
    X, y = some_rows()
    detector = PyODDetector(model, max_rows=60, held_out=held_out).fit(X, y)
    rows = detector.bank_rows_
    assert len(rows) == 60
    assert not np.isin(rows, detector.held_out_).any()
    alone = PyODDetector(model, held_out=0).fit(X[rows], y[rows])
    new = some_rows(40)[0]
    np.testing.assert_array_equal(detector.score_samples(new), alone.score_samples(new))
    assert (detector.predict(X) == -1).mean() < 0.15


def test_pyods_scores_of_rows_it_knows_are_its_own():
    X, y = some_rows()
    detector = PyODDetector(PyODKNN(), max_rows=60).fit(X, y)
    scores = detector.score_samples(X)
    scores[detector.bank_rows_] = -detector.model_.decision_scores_
    assert detector.offset_ == np.sort(scores)[int(0.05 * 301) - 1]


def test_what_auto_holds_does_not_grow_with_the_rows(monkeypatch):
    monkeypatch.setattr(panel, "BANK_ROWS", 80)
    monkeypatch.setattr(base, "MOST_HELD_OUT", 30)
    auto = AutoOOD().fit(FEATURES, LABELS)
    assert len(auto.calibration_scores_) == 20  # and ten for the scales
    banks = {n: m.detector for n, m in auto.members_.items() if n[:3] in ("KNN", "NAP")}
    assert len(banks) >= 2
    assert all(len(detector.bank_rows_) == 80 for detector in banks.values())
