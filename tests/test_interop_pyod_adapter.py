"""Our detectors as PyOD's, and in its ensembles."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from instances import (
    OOD_BATTERY,
    PYOD_BATTERY,
    SKLEARN_BATTERY,
)
from pyod.models.base import BaseDetector as PyODBase
from pyod.models.knn import KNN as PyODKNN
from pyod.models.lof import LOF
from pyod.models.lscp import LSCP
from pyod.utils import persistence
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skood import (
    AMP,
    KNN,
    LSGM,
    NAP,
    ConformalDetector,
    InlierKFold,
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
from skood.estimator_checks import synthetic_features
from skood.interop.pyod import SkoodOD


@pytest.fixture(scope="module")
def features():
    return synthetic_features()


@pytest.fixture(scope="module")
def matrix(features):
    f, y = features
    return np.asarray(f.select(statistic="avg")), y


ON_FEATURES = [*OOD_BATTERY, PYOD_BATTERY[0], PYOD_BATTERY[6]]
ON_MATRICES = [d for d in SKLEARN_BATTERY if not isinstance(d, DetectorWrapper)]


def data_for(detector, features, matrix):
    return features if any(detector is d for d in ON_FEATURES) else matrix


def test_every_public_detector_is_tried():
    classes = {entry.detector for entry in REGISTRY.values()}
    assert {type(d) for d in ON_FEATURES} >= classes
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
