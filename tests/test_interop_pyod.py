"""PyOD's detectors as ours."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from instances import (
    PYOD_BATTERY,
    PYOD_SKLEARN_ONLY,
)
from pyod.models.auto_encoder import AutoEncoder
from pyod.models.cof import COF
from pyod.models.copod import COPOD
from pyod.models.devnet import DevNet
from pyod.models.ecod import ECOD
from pyod.models.gmm import GMM
from pyod.models.hbos import HBOS
from pyod.models.iforest import IForest
from pyod.models.knn import KNN as PyODKNN
from pyod.models.kpca import KPCA
from pyod.models.lof import LOF
from pyod.models.pca import PCA
from references.threshold import kth_smallest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import LocalOutlierFactor as SklearnLOF
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from skood import (
    KNN,
    FeatureStore,
    InlierKFold,
    LayerFeatures,
    LayerFeatureTransformer,
    LayerSelector,
    Mahalanobis,
    PyODDetector,
    TargetRateThreshold,
    auroc_scorer,
    to_pyod,
)
from skood.estimator_checks import parametrize_with_checks, synthetic_features
from skood.interop.pyod.detector import _is_slow, _leaves_one_out

SKLEARN_CHECKS = 46

"""As for every detector: see test_common."""


def _name(detector):  # its repr may hold an address, another one in each process
    return type(detector.pyod_model).__name__


@pytest.fixture(scope="module")
def features():
    return synthetic_features()


@pytest.fixture(scope="module")
def matrix(features):
    f, y = features
    return np.asarray(f.select(statistic="avg")), y


@pytest.mark.parametrize("detector", PYOD_BATTERY + PYOD_SKLEARN_ONLY, ids=_name)
def test_battery_of_scikit_learn(detector):
    report = check_estimator(detector, on_skip=None, on_fail=None)
    failed = {
        r["check_name"]: r["exception"] for r in report if r["status"] == "failed"
    }
    assert not failed
    assert len(report) >= SKLEARN_CHECKS - 2  # older versions have two fewer
    assert Counter(r["status"] for r in report)["passed"] >= len(report) - 1


@parametrize_with_checks(PYOD_BATTERY)
def test_battery_for_detectors(estimator, check):
    check()


def test_at_least_ten_of_pyod_are_checked():
    models = {type(detector.pyod_model) for detector in PYOD_BATTERY}
    assert len(models) == 11
    assert len({type(d.pyod_model) for d in PYOD_SKLEARN_ONLY} - models) == 3


@pytest.mark.parametrize("detector", PYOD_BATTERY, ids=_name)
def test_scores_are_pyods_with_our_sign(detector, matrix):
    X, y = matrix
    ours = clone(detector).set_params(held_out=0).fit(X, y)
    bare = clone(detector.pyod_model).fit(X[y >= 0])
    np.testing.assert_array_equal(ours.score_samples(X), -bare.decision_function(X))
    assert ours.offset_ == kth_smallest(-bare.decision_scores_, 0.05)
    assert ours.model_._classes == 2  # it has not seen y
    assert getattr(detector.pyod_model, "threshold_", None) is None  # it was cloned


@pytest.mark.parametrize("model", [PyODKNN(contamination=0.2), HBOS(contamination=0.3)])
def test_pyods_own_threshold(model, matrix):
    X, y = matrix
    ours = PyODDetector(model, contamination=None).fit(X, y)
    bare = clone(model).fit(X[y >= 0])
    assert ours.offset_ == -bare.threshold_
    np.testing.assert_array_equal(ours.predict(X), 1 - 2 * bare.predict(X))


def test_a_tie_with_the_threshold_is_an_inlier_on_both_sides():
    X = np.repeat(np.arange(4.0), 25)[:, None]  # many rows share a score
    model = HBOS(n_bins=4, contamination=0.1).fit(X)
    ours = PyODDetector(model, contamination=None).fit(X)
    assert np.sum(model.decision_function(X) == model.threshold_) > 0
    np.testing.assert_array_equal(ours.predict(X), 1 - 2 * model.predict(X))


def test_the_threshold_of_neighbours_is_that_of_new_rows(matrix):
    X, y = matrix
    ours = PyODDetector(PyODKNN(n_neighbors=1)).fit(X[y >= 0])
    assert ours.score_samples(X[y >= 0]).max() == 0  # each row finds itself
    assert ours.offset_ < -0.1
    Z = np.asarray(synthetic_features(2000, 0, random_state=1)[0].select(None, "avg"))
    assert np.mean(ours.predict(Z) == -1) == pytest.approx(0.05, abs=0.03)


def test_held_out_rows_mend_the_threshold_of_what_overfits(matrix):
    X, y = matrix
    Z = np.asarray(synthetic_features(2000, 0, random_state=1)[0].select(None, "avg"))
    rates = {}
    for held_out, rows in ((0.0, 0), (0.3, 72), ("auto", 0)):
        detector = PyODDetector(GMM(random_state=0), held_out=held_out).fit(X, y)
        assert len(detector.held_out_) == rows
        rates[held_out] = np.mean(detector.predict(Z) == -1)
    assert rates[0.0] > 0.15
    assert max(rates[0.3], rates["auto"]) < 0.1


def test_rows_are_held_out_where_training_scores_are_not_those_of_new_rows(matrix):
    X, y = matrix
    fair = PyODDetector(PyODKNN()).fit(X, y)
    assert len(fair.held_out_) == 0
    own = PyODDetector(GMM(random_state=0), contamination=None).fit(X, y)
    assert len(own.held_out_) == 0
    known = PyODDetector(KPCA(n_components=5, random_state=0)).fit(X, y)
    Z = np.asarray(synthetic_features(2000, 0, random_state=1)[0].select(None, "avg"))
    assert np.mean(known.predict(Z) == -1) < 0.12


@pytest.mark.parametrize("model", [ECOD(), COPOD()])
def test_a_score_does_not_depend_on_the_rows_beside_it(model, matrix):
    X, y = matrix
    ours = PyODDetector(model).fit(X, y)
    assert ours.row_by_row_
    alone = np.concatenate([ours.score_samples(row[None]) for row in X[:20]])
    np.testing.assert_array_equal(ours.score_samples(X)[:20], alone)
    as_pyod = PyODDetector(model, row_by_row=False).fit(X, y)
    bare = clone(model).fit(X[y >= 0])
    np.testing.assert_array_equal(as_pyod.score_samples(X), -bare.decision_function(X))
    assert not np.allclose(as_pyod.score_samples(X[:20]), as_pyod.score_samples(X)[:20])
    assert not PyODDetector(HBOS()).fit(X, y).row_by_row_


def test_only_the_chosen_blocks_are_read(features):
    f, y = features
    spoilt = LayerFeatures(
        {
            name: np.full_like(f.block(*name), np.nan)
            if name[0] == "layer1"
            else f.block(*name)
            for name in f.block_names
        }
    )
    chosen = PyODDetector(LOF(), layers=["layer2", "penultimate"]).fit(spoilt, y)
    joined = np.concatenate([f.block("layer2"), f.block("penultimate")], axis=1)
    bare = LOF().fit(joined[y >= 0])
    np.testing.assert_array_equal(
        chosen.score_samples(spoilt), -bare.decision_function(joined)
    )


def test_in_a_pipeline_in_a_search(features):
    f, y = features
    search = GridSearchCV(
        PyODDetector(PyODKNN()),
        {
            "pyod_model__n_neighbors": [1, 5],
            "layers": ["layer1", "layer2"],
            "statistic": ["avg", "max"],
        },
        scoring=auroc_scorer,
        cv=InlierKFold(2),
        error_score="raise",
    ).fit(f, y)
    assert search.best_score_ > 0.99
    behind = make_pipeline(
        LayerSelector("layer2", "avg"), StandardScaler(), PyODDetector(IForest())
    )
    assert auroc_scorer(behind.fit(f, y), f, y) > 0.95
    wrapped = TargetRateThreshold(PyODDetector(LOF()), 0.1).fit(f, y)
    assert auroc_scorer(wrapped, f, y) > 0.95


def test_rows_in_a_store(tmp_path, monkeypatch):
    X = np.random.default_rng(0).normal(size=(80, 4)).astype(np.float32)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU())
    extractor = LayerFeatureTransformer(network, ["0", "1"])
    stored = extractor.extract_to(FeatureStore(tmp_path), X, progress=False)
    detector = PyODDetector(PCA(), layers="1")
    in_memory = LayerFeatures({name: stored.block(name) for name in "01"})
    expected = clone(detector).fit(in_memory).score_samples(in_memory[::3])
    monkeypatch.setattr("skood.features.chunks.CHUNK_ELEMENTS", 100)
    in_store = detector.fit(stored).score_samples(stored[::3])
    np.testing.assert_array_equal(in_store, expected)


@pytest.mark.parametrize(
    ("detector", "error", "message"),
    [
        (PyODDetector(DevNet()), TypeError, "DevNet learns from labelled outliers"),
        (PyODDetector(COF()), ValueError, "COF cannot score a row by itself"),
        (PyODDetector(KNN()), ValueError, "'pyod_model' parameter"),
        (PyODDetector(LOF(), contamination=0.7), ValueError, "'contamination'"),
        (PyODDetector(LOF(), row_by_row="no"), ValueError, "'row_by_row'"),
        (PyODDetector(LOF(), held_out=0.999), ValueError, "leaves 0 of n_samples=240"),
        (
            PyODDetector(LOF(), held_out=0.1, contamination=None),
            ValueError,
            "held_out=0.1 with contamination=None",
        ),
    ],
)
def test_what_cannot_be_fitted(detector, error, message, matrix):
    X, y = matrix
    with pytest.raises(error, match=message):
        detector.fit(X[y >= 0])


class GivesNaN(HBOS):
    def decision_function(self, X):
        scores = super().decision_function(X)
        scores[-1:] = np.nan
        return scores


def test_nan_scores_are_refused(matrix):
    X, y = matrix
    detector = PyODDetector(GivesNaN(), held_out=0, row_by_row=False).fit(X[y >= 0])
    with pytest.raises(ValueError, match="GivesNaN gave 1 NaN of 300 scores"):
        detector.predict(X)


class OwnLOF(LOF):
    """Of a user."""


def test_who_scores_training_rows_as_if_they_were_new():
    assert _leaves_one_out(OwnLOF())
    assert not _leaves_one_out(SklearnLOF())  # of another package, by that name
    assert not _leaves_one_out(to_pyod(Mahalanobis()))
    assert _is_slow(AutoEncoder())
