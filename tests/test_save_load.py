"""Detectors, and estimators around others, through a folder."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
from instances import OOD_BATTERY, SKLEARN_BATTERY
from numpy.testing import assert_array_equal
from saving import (
    LABELS,
    RNG,
    ROWS,
    Holder,
    saved_and_loaded,
)
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.covariance import EllipticEnvelope
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    IsolationForest,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    LogisticRegression,
    SGDClassifier,
    SGDOneClassSVM,
    SGDRegressor,
)
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

import skood
from skood import (
    KNN,
    LSGM,
    InlierKFold,
    LayerSelector,
    Mahalanobis,
    OutliersIgnored,
    PyODDetector,
    TargetRateThreshold,
    auroc_scorer,
)
from skood.estimator_checks import synthetic_features
from skood.persistence import LoadError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "saved"


# Every detector ----------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:classes with one row only")
@pytest.mark.parametrize("kind", ["arrays", "features"])
def test_every_detector_scores_the_same(kind, path):
    X, y = (ROWS, LABELS) if kind == "arrays" else synthetic_features()
    for number, one in enumerate(SKLEARN_BATTERY if kind == "arrays" else OOD_BATTERY):
        detector = clone(one).fit(X, y)
        folder = path.with_name(str(number))
        skood.save(detector, folder)
        expected = detector.score_samples(X)
        for mmap in (False, True):
            loaded = skood.load(folder, mmap=mmap)
            assert type(loaded) is type(detector)
            assert_array_equal(loaded.score_samples(X), expected)
            assert loaded.offset_ == detector.offset_
            assert repr(loaded) == repr(detector)


def test_unfitted_estimators_come_back(path):
    for number, one in enumerate([*SKLEARN_BATTERY, *OOD_BATTERY]):
        loaded = saved_and_loaded(one, path.with_name(str(number)))
        assert repr(loaded) == repr(one)
        assert vars(loaded).keys() == vars(one).keys()


def test_the_same_estimator_is_the_same_bytes(tmp_path):
    detector = LSGM(2, random_state=0).fit(ROWS, LABELS)
    for name in ("one", "two"):
        skood.save(detector, tmp_path / name)
    loaded = skood.load(tmp_path / "one")
    skood.save(loaded, tmp_path / "three")
    contents = {
        name: [f.read_bytes() for f in sorted((tmp_path / name).iterdir())]
        for name in ("one", "two", "three")
    }
    assert contents["one"] == contents["two"] == contents["three"]


def test_a_loaded_detector_goes_on_learning(path):
    detector = Mahalanobis().partial_fit(ROWS[:40])
    loaded = saved_and_loaded(detector, path)
    assert_array_equal(
        loaded.partial_fit(ROWS[40:]).score_samples(ROWS),
        detector.partial_fit(ROWS[40:]).score_samples(ROWS),
    )


def test_maps_are_read_only_and_shared_arrays_are_kept_once(path):
    array = RNG.normal(size=(50, 20))
    skood.save(Holder([array, array, array[:0]]), path)
    assert (path / "arrays.safetensors").stat().st_size < 2 * array.nbytes
    first, second, none = skood.load(path, trusted=[Holder], mmap=True).value
    assert first is second
    assert isinstance(first, np.memmap)
    assert not first.flags.writeable
    assert none.shape == (0, 20)
    first, second, _ = skood.load(path, trusted=[Holder]).value
    assert first is second
    assert first.flags.writeable
    assert first.flags.owndata or first.base.nbytes == first.nbytes


# Estimators around others ------------------------------------------------------------

TREES = ["sklearn.tree._tree.Tree"]
NEIGHBOURS = [
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
]
"""Compiled code of scikit-learn's, which follows the numbers where they lead."""

AROUND = [
    make_pipeline(StandardScaler(), PCA(3), KNN(3)),
    make_pipeline(StandardScaler(), GaussianMixture(2, random_state=0)),
    OutliersIgnored(make_pipeline(StandardScaler(), EllipticEnvelope(random_state=0))),
    OutliersIgnored(IsolationForest(n_estimators=10, random_state=0)),
    OutliersIgnored(LocalOutlierFactor(novelty=True)),
    OutliersIgnored(LocalOutlierFactor(novelty=True, algorithm="ball_tree")),
    OutliersIgnored(OneClassSVM()),
    TargetRateThreshold(
        OutliersIgnored(IsolationForest(n_estimators=5, random_state=0)), 0.3
    ),
    GridSearchCV(
        Pipeline([("scale", StandardScaler()), ("knn", KNN())]),
        {"knn__n_neighbors": [2, 5]},
        scoring=auroc_scorer,
        cv=InlierKFold(2),
    ),
]


@pytest.mark.parametrize("estimator", AROUND, ids=repr)
def test_estimators_of_estimators(estimator, path):
    y = np.where(LABELS == 2, -1, LABELS)
    estimator = clone(estimator).fit(ROWS, y)
    loaded = saved_and_loaded(estimator, path, trusted=[*TREES, *NEIGHBOURS])
    assert_array_equal(loaded.score_samples(ROWS), estimator.score_samples(ROWS))
    if isinstance(estimator, GridSearchCV):
        best = saved_and_loaded(estimator.best_estimator_, path.with_name("best"))
        assert_array_equal(best.score_samples(ROWS), estimator.score_samples(ROWS))
        table, own = loaded.cv_results_, estimator.cv_results_
        assert table["params"] == own["params"]
        assert_array_equal(table["mean_test_score"], own["mean_test_score"])


@pytest.mark.parametrize(
    "estimator",
    [
        GridSearchCV(LogisticRegression(), {"C": [1, 2]}, scoring="roc_auc", cv=2),
        GridSearchCV(
            LogisticRegression(),
            {"C": [1, 2]},
            scoring=["accuracy", "neg_log_loss"],
            refit="accuracy",
            cv=2,
        ),
        VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())]),
        StackingClassifier([("a", GaussianNB())], LogisticRegression(), cv=2),
        CalibratedClassifierCV(GaussianNB(), cv=2),
        CalibratedClassifierCV(GaussianNB(), cv=2, method="isotonic"),
        SGDOneClassSVM(random_state=0),
        *(
            SGDClassifier(loss, max_iter=9, tol=None, random_state=0)
            for loss in ("hinge", "log_loss", "modified_huber", "squared_hinge")
        ),
        *(
            SGDRegressor(loss, max_iter=9, tol=None, random_state=0)
            for loss in (
                "squared_error",
                "huber",
                "epsilon_insensitive",
                "squared_epsilon_insensitive",
            )
        ),
    ],
    ids=repr,
)
def test_estimators_of_scikit_learn(estimator, path):
    y = LABELS > 1
    estimator = clone(estimator).fit(ROWS, y)
    loaded = saved_and_loaded(estimator, path)
    assert_array_equal(loaded.predict(ROWS), estimator.predict(ROWS))
    if hasattr(estimator, "score"):
        assert loaded.score(ROWS, y) == estimator.score(ROWS, y)
    if hasattr(estimator, "partial_fit"):
        again = loaded.partial_fit(ROWS, y).predict(ROWS)
        assert_array_equal(again, estimator.partial_fit(ROWS, y).predict(ROWS))


def test_a_forest_of_classes(path):
    forest = RandomForestClassifier(5, random_state=0).fit(ROWS, LABELS.astype(str))
    skood.save(forest, path)
    with pytest.raises(LoadError, match=r"trusted=\['sklearn.tree._tree.Tree'\]"):
        skood.load(path)
    loaded = skood.load(path, trusted=TREES)
    assert_array_equal(loaded.predict_proba(ROWS), forest.predict_proba(ROWS))
    assert_array_equal(loaded.predict(ROWS), forest.predict(ROWS))


def test_selected_layers_and_frames(path):
    features, y = synthetic_features()
    pipeline = make_pipeline(LayerSelector("layer1"), StandardScaler(), KNN(3))
    pipeline.fit(features, y)
    loaded = saved_and_loaded(FrozenEstimator(pipeline), path)
    assert_array_equal(loaded.predict(features), pipeline.predict(features))
    names = loaded.estimator[0].get_feature_names_out()
    assert_array_equal(names, pipeline[0].get_feature_names_out())


def test_metadata_requests_are_kept(path):
    with config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=True)
        loaded = saved_and_loaded(scaler, path)
        assert repr(loaded.get_metadata_routing()) == repr(
            scaler.get_metadata_routing()
        )


def test_a_cache_of_pickles_is_not_kept(path, tmp_path):
    pipeline = make_pipeline(StandardScaler(), KNN(3), memory=str(tmp_path / "cache"))
    assert saved_and_loaded(pipeline, path).memory is None


def test_another_scikit_learn_warns(path, monkeypatch):
    monkeypatch.setattr("sklearn.base.__version__", "1.0")
    skood.save(StandardScaler().fit(ROWS), path)
    monkeypatch.undo()
    with pytest.warns(InconsistentVersionWarning, match="StandardScaler"):
        skood.load(path)


def test_pyod_is_kept_where_its_state_is_plain(path):
    ecod = pytest.importorskip("pyod.models.ecod").ECOD()
    knn = pytest.importorskip("pyod.models.knn").KNN()
    detector = PyODDetector(ecod).fit(ROWS)
    skood.save(detector, path)
    with pytest.raises(LoadError, match=r"trusted=\['pyod.models.ecod.ECOD'\]"):
        skood.load(path)
    loaded = skood.load(path, trusted=["pyod.models.ecod.ECOD"])
    assert_array_equal(loaded.score_samples(ROWS), detector.score_samples(ROWS))
    other = saved_and_loaded(
        PyODDetector(knn).fit(ROWS),
        path.with_name("knn"),
        trusted=["pyod.models.knn.KNN", *NEIGHBOURS],
    )
    assert other.predict(ROWS).shape == (80,)


# The files ---------------------------------------------------------------------------


def test_the_arrays_are_plain_safetensors(path):
    arrays = {str(d): RNG.integers(0, 2, (3, 2)).astype(d) for d in "?bBhHiIlLefd"}
    skood.save(Holder(arrays), path)
    found = safetensors.numpy.load_file(path / "arrays.safetensors")
    assert len(found) == len(arrays)
    for own, array in zip(found, sorted(found), strict=True):
        assert own in found
        assert found[array].shape == (3, 2)
    assert {a.dtype for a in found.values()} == {a.dtype for a in arrays.values()}


def test_scores_are_the_same_in_another_process(path):
    detector = KNN(3).fit(ROWS)
    skood.save(detector, path)
    np.save(path.with_name("rows.npy"), ROWS)
    code = (
        "import numpy as np, skood\n"
        f"X = np.load({str(path.with_name('rows.npy'))!r})\n"
        f"scores = skood.load({str(path)!r}).score_samples(X)\n"
        f"np.save({str(path.with_name('scores.npy'))!r}, scores)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    found = np.load(path.with_name("scores.npy"))
    assert_array_equal(found, detector.score_samples(ROWS))
