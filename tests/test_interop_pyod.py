"""PyOD both ways: its detectors pass our batteries, ours do all that its own do."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from instances import (
    OOD_BATTERY,
    PYOD_BATTERY,
    PYOD_SKLEARN_ONLY,
    SKLEARN_BATTERY,
)
from pyod.models.auto_encoder import AutoEncoder
from pyod.models.base import BaseDetector as PyODBase
from pyod.models.cof import COF
from pyod.models.copod import COPOD
from pyod.models.devnet import DevNet
from pyod.models.ecod import ECOD
from pyod.models.embedding import EmbeddingOD
from pyod.models.gmm import GMM
from pyod.models.hbos import HBOS
from pyod.models.iforest import IForest
from pyod.models.knn import KNN as PyODKNN
from pyod.models.kpca import KPCA
from pyod.models.lof import LOF
from pyod.models.lscp import LSCP
from pyod.models.pca import PCA
from pyod.utils import persistence
from references.threshold import kth_smallest
from sklearn.base import clone
from sklearn.decomposition import PCA as SklearnPCA
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import LocalOutlierFactor as SklearnLOF
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from skood import (
    AMP,
    KNN,
    LSGM,
    NAP,
    ConformalDetector,
    FeatureStore,
    InlierKFold,
    LayerFeatures,
    LayerFeatureTransformer,
    LayerSelector,
    Mahalanobis,
    OutliersIgnored,
    PyODDetector,
    TargetRateThreshold,
    auroc,
    auroc_scorer,
    to_pyod,
)
from skood.calibration._wrapper import DetectorWrapper
from skood.detectors import threshold
from skood.detectors.registry import REGISTRY
from skood.estimator_checks import parametrize_with_checks, synthetic_features
from skood.interop.pyod import SkoodEncoder, SkoodOD
from skood.interop.pyod.detector import _is_slow, _leaves_one_out

SKLEARN_CHECKS = 46
"""As for every detector: see test_common."""


@pytest.fixture(scope="module")
def features():
    return synthetic_features()


@pytest.fixture(scope="module")
def matrix(features):
    f, y = features
    return np.asarray(f.select(statistic="avg")), y


# PyOD's detectors as ours ---------------------------------------------------------


@pytest.mark.parametrize("detector", PYOD_BATTERY + PYOD_SKLEARN_ONLY, ids=repr)
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


@pytest.mark.parametrize("detector", PYOD_BATTERY, ids=repr)
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
    monkeypatch.setattr("skood._chunks.CHUNK_ELEMENTS", 100)
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


# Our detectors as PyOD's ------------------------------------------------------------

ON_FEATURES = [*OOD_BATTERY, PYOD_BATTERY[0], PYOD_BATTERY[6]]
ON_MATRICES = [d for d in SKLEARN_BATTERY if not isinstance(d, DetectorWrapper)]


def data_for(detector, features, matrix):
    return features if any(detector is d for d in ON_FEATURES) else matrix


def test_every_public_detector_is_tried():
    classes = {entry.detector for entry in REGISTRY.values()}
    assert {type(d) for d in ON_FEATURES} == classes
    assert len(ON_FEATURES) >= 22
    assert len(ON_MATRICES) >= 16


@pytest.mark.filterwarnings("ignore:classes with one row only")
@pytest.mark.parametrize("detector", ON_FEATURES + ON_MATRICES, ids=repr)
def test_everything_that_pyods_own_detectors_do(detector, features, matrix, tmp_path):
    X, y = data_for(detector, features, matrix)
    n = len(y)
    known = X[y >= 0]
    adapted = to_pyod(detector, contamination=0.2).fit(known, y[y >= 0])
    assert isinstance(adapted, PyODBase)
    scores = adapted.decision_function(X)
    assert scores.dtype == np.float64
    assert auroc(y, -scores) > 0.9
    np.testing.assert_array_equal(scores, -adapted.detector_.score_samples(X))

    assert adapted.decision_scores_.shape == (len(known),)
    assert adapted.threshold_ == np.percentile(adapted.decision_scores_, 80)
    np.testing.assert_array_equal(
        adapted.labels_, adapted.decision_scores_ > adapted.threshold_
    )
    assert adapted.labels_.mean() <= 0.2
    np.testing.assert_array_equal(adapted.predict(X), scores > adapted.threshold_)
    for method in ("linear", "unify"):
        probabilities, sure = adapted.predict_proba(X, method, return_confidence=True)
        assert probabilities.shape == (n, 2)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        assert probabilities[y < 0, 1].mean() > probabilities[y >= 0, 1].mean()
        assert sure.shape == (n,)
    assert ((sure >= 0) & (sure <= 1)).all()
    ranks = adapted._predict_rank(X, normalized=True)
    assert ranks[y < 0].mean() > ranks[y >= 0].mean()
    assert ranks.max() == 1
    labels, stats = adapted.predict_with_rejection(X, T=8, return_stats=True, c_r=0.1)
    assert set(labels) <= {-2, 0, 1}
    assert stats == list(adapted.compute_rejection_stats(T=8, c_r=0.1))

    persistence.save(adapted, tmp_path / "detector.joblib")
    again = persistence.load(tmp_path / "detector.joblib", strict=True, trusted=True)
    np.testing.assert_array_equal(again.decision_function(X), scores)
    fresh = clone(adapted)
    assert not hasattr(fresh, "decision_scores_")
    assert fresh.contamination == 0.2
    assert repr(fresh) == repr(to_pyod(detector, 0.2))
    with pytest.warns(FutureWarning, match="fit_predict is deprecated"):
        labels = fresh.fit_predict(known, y[y >= 0])
    np.testing.assert_array_equal(labels, adapted.labels_)
    np.testing.assert_array_equal(fresh.decision_function(X), scores)


def test_parameters_reach_the_detector():
    adapted = to_pyod(KNN(n_neighbors=3))
    adapted.set_params(detector__n_neighbors=7, contamination=0.3)
    assert adapted.detector.n_neighbors == 7
    assert adapted.get_params()["detector__n_neighbors"] == 7
    assert clone(adapted).get_params()["contamination"] == 0.3
    with pytest.raises(ValueError, match="contamination must be in"):
        to_pyod(KNN(), contamination=0.8)


def test_training_scores_leave_the_row_out_as_pyods_do(matrix):
    X, y = matrix
    known = X[y >= 0]
    ours = to_pyod(KNN(n_neighbors=3, normalize=False), 0.1).fit(known)
    theirs = PyODKNN(n_neighbors=3, contamination=0.1).fit(known)
    np.testing.assert_allclose(ours.decision_scores_, theirs.decision_scores_)
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X))
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)


def test_there_and_back(matrix):
    X, y = matrix
    theirs = LOF().fit(X[y >= 0])
    round_trip = to_pyod(PyODDetector(LOF())).fit(X[y >= 0])
    np.testing.assert_array_equal(round_trip.decision_scores_, theirs.decision_scores_)
    np.testing.assert_array_equal(round_trip.predict(X), theirs.predict(X))
    ours = Mahalanobis(contamination=0.1).fit(X[y >= 0])
    there = PyODDetector(to_pyod(Mahalanobis()), contamination=0.1, held_out=0)
    back = there.fit(X[y >= 0])
    np.testing.assert_array_equal(back.score_samples(X), ours.score_samples(X))
    assert back.offset_ == pytest.approx(ours.offset_, rel=1e-12)


@pytest.mark.parametrize("detector", [NAP(), KNN(5), Mahalanobis()], ids=repr)
def test_every_training_row_has_a_score(detector, matrix, monkeypatch):
    X, y = matrix
    known, labels = X[y >= 0], y[y >= 0]
    whole = to_pyod(detector).fit(known, labels).decision_scores_
    monkeypatch.setattr(threshold, "THRESHOLD_ROWS", 50)
    adapted = to_pyod(detector).fit(known, labels)
    assert adapted.decision_scores_.shape == (240,)
    fitted = clone(detector).fit(known, labels)
    # Taking all training scores has not moved what the 50 rows had settled.
    np.testing.assert_array_equal(
        adapted.decision_function(X), -fitted.score_samples(X)
    )
    np.testing.assert_allclose(adapted.decision_scores_, whole, rtol=1e-12)


def test_known_outliers_are_scored_and_not_fitted_on(matrix):
    X, y = matrix
    adapted = to_pyod(Mahalanobis(), contamination=0.2).fit(X, y)
    without = to_pyod(Mahalanobis(), contamination=0.2).fit(X[y >= 0], y[y >= 0])
    scores = adapted.decision_scores_
    np.testing.assert_array_equal(scores[y >= 0], without.decision_scores_)
    np.testing.assert_array_equal(scores[y < 0], without.decision_function(X[y < 0]))
    np.testing.assert_array_equal(adapted.labels_, y < 0)  # a fifth of the rows
    assert adapted.predict_proba(X).shape == (len(X), 2)  # though y has four values


def test_pipelines_and_searches_leave_the_row_out_too(matrix):
    X, y = matrix
    known = X[y >= 0]
    pipeline = make_pipeline(StandardScaler(), KNN(3))
    adapted = to_pyod(pipeline).fit(known)
    scaled = StandardScaler().fit_transform(known)
    expected = to_pyod(KNN(3)).fit(scaled).decision_scores_
    np.testing.assert_array_equal(adapted.decision_scores_, expected)
    search = GridSearchCV(
        pipeline, {"knn__n_neighbors": [3]}, scoring=auroc_scorer, cv=InlierKFold(2)
    )
    tuned = to_pyod(search).fit(X, y)
    refitted = to_pyod(clone(pipeline)).fit(X, y)
    np.testing.assert_array_equal(tuned.decision_scores_, refitted.decision_scores_)
    alone = to_pyod(Pipeline([("knn", KNN(3))])).fit(known)
    np.testing.assert_array_equal(
        alone.decision_scores_, to_pyod(KNN(3)).fit(known).decision_scores_
    )


def test_a_fitted_detector_is_frozen_and_gets_new_rows(matrix):
    X, y = matrix
    fitted = Mahalanobis().fit(X[:120], y[:120])
    adapted = to_pyod(FrozenEstimator(fitted), 0.1).fit(X[120:240])
    np.testing.assert_array_equal(
        adapted.decision_scores_, -fitted.score_samples(X[120:240])
    )
    assert clone(adapted).detector.estimator is fitted


def test_detectors_of_scikit_learn(matrix):
    X, y = matrix
    forest = IsolationForest(random_state=0)
    adapted = to_pyod(OutliersIgnored(forest)).fit(X, y)
    bare = clone(forest).fit(X[y >= 0])
    np.testing.assert_array_equal(adapted.decision_scores_, -bare.score_samples(X))


def test_amp_scores_all_of_its_rows(matrix):
    X, y = matrix
    adapted = to_pyod(AMP(random_state=0)).fit(X, y)
    np.testing.assert_array_equal(
        adapted.decision_scores_, -adapted.detector_.score_samples(X)
    )


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (LOF(), "LOF is a PyOD detector already"),
        (make_pipeline(StandardScaler(), LOF()), "LOF is a PyOD detector already"),
        (
            TargetRateThreshold(KNN(3)),
            r"TargetRateThreshold adds a threshold.*inside, KNN\(n_neighbors=3\)",
        ),
        (make_pipeline(ConformalDetector(KNN())), "ConformalDetector adds a threshold"),
        (InlierKFold(), "neither score_samples nor decision_function.*transformer"),
    ],
)
def test_what_cannot_be_adapted(estimator, message):
    with pytest.raises(TypeError, match=message):
        to_pyod(estimator)
    with pytest.raises(TypeError, match=message):
        SkoodOD(estimator).fit(np.zeros((5, 2)))


def test_adapted_detectors_are_pyods_to_our_scorers(matrix):
    adapted = to_pyod(KNN(3)).fit(matrix[0])
    with pytest.raises(TypeError, match="SkoodOD is a PyOD detector"):
        auroc_scorer(adapted, *matrix)


# Inside PyOD's ensembles ------------------------------------------------------------


def test_in_lscp(matrix):
    X, y = matrix
    members = [to_pyod(Mahalanobis()), to_pyod(LSGM(2, random_state=0)), LOF()]
    ensemble = LSCP(members, n_bins=3, random_state=0).fit(X[y >= 0])
    assert auroc(y, -ensemble.decision_function(X)) > 0.99
    assert ensemble.predict(X[y < 0]).mean() > 0.9


def test_in_feature_bagging(matrix):
    pytest.importorskip("combo", reason="PyOD's FeatureBagging needs combo")
    from pyod.models.feature_bagging import FeatureBagging

    X, y = matrix
    bagging = FeatureBagging(
        to_pyod(LSGM(2, random_state=0)), n_estimators=3, random_state=0
    ).fit(X[y >= 0])
    assert auroc(y, -bagging.decision_function(X)) > 0.99
    seeds = {member.detector.random_state for member in bagging.estimators_}
    assert len(seeds) == 3  # it sets ours as it does PyOD's


IN_SUOD = """
import warnings
import numpy as np
from pyod.models.lof import LOF
from skood import KNN, Mahalanobis, auroc, to_pyod
from skood.estimator_checks import synthetic_features
warnings.simplefilter("ignore")  # SUOD's own, about names that it does not know
from pyod.models.suod import SUOD
features, y = synthetic_features()
X = np.asarray(features.select(statistic="avg"))
members = [to_pyod(Mahalanobis()), to_pyod(KNN(5)), LOF()]
suod = SUOD(members, n_jobs=1, bps_flag=False).fit(X[y >= 0])
assert auroc(y, -suod.decision_function(X)) > 0.95
assert suod.predict_proba(X).shape == (300, 2)
print("fine")
"""


def test_in_suod():
    pytest.importorskip("combo", reason="SUOD needs combo")
    # In a process of its own: importing it changes how joblib starts processes.
    done = subprocess.run(
        [sys.executable, "-c", IN_SUOD], capture_output=True, text=True, check=False
    )
    if "requires the optional `suod` package" in done.stderr:
        pytest.skip("PyOD's SUOD needs suod")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("fine\n")


# Behind our networks ----------------------------------------------------------------


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 1, 6, 6)).astype(np.float32)
    X[100:] = 4 * np.abs(X[100:])
    return X, np.repeat([0, -1], [100, 20])


@pytest.fixture(scope="module")
def extractor():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 3),
        torch.nn.ReLU(),
    )
    return LayerFeatureTransformer(network, ["1", "3"], ["avg", "max"])


@pytest.mark.parametrize("detector", [PyODKNN(), to_pyod(Mahalanobis())], ids=repr)
@pytest.mark.parametrize("form", ["encoder", "fitted", "callable"])
def test_our_extraction_as_pyods_encoder(detector, form, extractor, images):
    X, y = images
    fitted = clone(extractor).fit(X[:100])
    encoder = {
        "encoder": to_pyod(extractor),
        "fitted": to_pyod(fitted),
        "callable": lambda rows: np.asarray(fitted.transform(rows)),
    }[form]
    model = EmbeddingOD(encoder, detector).fit(X[:100])
    by_hand = StandardScaler().fit(np.asarray(fitted.transform(X[:100]), np.float64))
    embedded = by_hand.transform(np.asarray(fitted.transform(X), np.float64))
    expected = clone(detector).fit(embedded[:100].astype(np.float32))
    np.testing.assert_allclose(
        model.decision_function(X),
        expected.decision_function(embedded.astype(np.float32)),
        rtol=1e-5,
    )
    assert auroc(y, -model.decision_function(X)) > 0.95
    assert model.predict_proba(X).shape == (120, 2)


def test_the_encoder_is_cloned_with_its_network_shared(extractor, images, tmp_path):
    X, _ = images
    encoder = to_pyod(extractor)
    assert isinstance(encoder, SkoodEncoder)
    assert encoder.encode(X).shape == (120, 32)
    assert encoder.encode(X).dtype == np.float64
    model = EmbeddingOD(encoder, to_pyod(KNN(3)))
    other = clone(model)
    assert other.encoder.transformer.network is extractor.network
    expected = model.fit(X).decision_function(X)
    persistence.save(model, tmp_path / "model.joblib")
    loaded = persistence.load(tmp_path / "model.joblib", trusted=True)
    np.testing.assert_array_equal(loaded.decision_function(X), expected)


def test_an_encoder_keeps_nothing_of_earlier_rows(extractor, images):
    X, _ = images
    encoder = to_pyod(extractor)
    EmbeddingOD(encoder, PyODKNN()).fit(X[:50])
    with torch.no_grad():
        extractor.network[0].weight.mul_(2)  # trained on
    again = EmbeddingOD(encoder, PyODKNN()).fit(X[50:])
    fresh = EmbeddingOD(to_pyod(clone(extractor)), PyODKNN()).fit(X[50:])
    np.testing.assert_array_equal(again.decision_scores_, fresh.decision_scores_)
    with pytest.raises(ValueError, match=r"PCA is not fitted.*fit it first"):
        SkoodEncoder(SklearnPCA(2)).encode(X.reshape(len(X), -1))
    known = SklearnPCA(2).fit(X.reshape(len(X), -1))
    assert SkoodEncoder(known).encode(X.reshape(len(X), -1)).shape == (len(X), 2)


class OwnLOF(LOF):
    """Of a user."""


def test_who_scores_training_rows_as_if_they_were_new():
    assert _leaves_one_out(OwnLOF())
    assert not _leaves_one_out(SklearnLOF())  # of another package, by that name
    assert not _leaves_one_out(to_pyod(Mahalanobis()))
    assert _is_slow(AutoEncoder())


def test_images_go_through_a_whole_pipeline(extractor, images):
    X, y = images
    adapted = to_pyod(make_pipeline(extractor, KNN(3, statistic="max"))).fit(X[:100])
    features = clone(extractor).fit_transform(X)
    expected = to_pyod(KNN(3, statistic="max")).fit(features[:100])
    np.testing.assert_allclose(adapted.decision_scores_, expected.decision_scores_)
    assert auroc(y, -adapted.decision_function(X)) > 0.95
    assert adapted.predict_proba(X).shape == (120, 2)


# Without PyOD -----------------------------------------------------------------------


WITHOUT_PYOD = """
import sys
sys.modules["pyod"] = sys.modules["pyod.models"] = None
import skood
assert "torch" not in sys.modules
for name in ("PyODDetector", "to_pyod"):
    try:
        getattr(skood, name)
    except ImportError as error:
        assert "pip install 'skood[pyod]'" in str(error), error
    else:
        raise AssertionError(name)
from skood import KNN
from skood.model_selection import OutliersIgnored
print(OutliersIgnored(KNN(1)).fit([[0.0], [1.0], [2.0]]).predict([[1.5]]))
"""


def test_what_to_install_is_said():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PYOD],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[1]\n"
