"""OutliersIgnored: -1 rows are never learned, and nothing else changes."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from pyod.models.knn import KNN
from sklearn.base import clone, is_outlier_detector
from sklearn.covariance import EllipticEnvelope
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity, LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from sklearn.utils.estimator_checks import check_estimator

from skood import PyODDetector
from skood.model_selection import InlierKFold, OutliersIgnored, auroc_scorer

DETECTORS = {
    "forest": IsolationForest(n_estimators=6, random_state=0),
    "envelope": EllipticEnvelope(support_fraction=0.9, random_state=0),
    "svm": OneClassSVM(),
    "lof": LocalOutlierFactor(novelty=True),
    "pipeline": make_pipeline(StandardScaler(), OneClassSVM()),
}
EACH = pytest.mark.parametrize("detector", DETECTORS.values(), ids=DETECTORS)


@pytest.fixture
def blobs():
    rng = np.random.default_rng(0)
    X = np.r_[rng.normal(size=(60, 2)), rng.normal(9, 1, size=(60, 2))]
    order = rng.permutation(120)
    return X[order], np.r_[np.zeros(30, int), np.ones(30, int), -np.ones(60, int)][
        order
    ]


@pytest.mark.parametrize("name", ["forest", "envelope", "svm"])
def test_battery_of_scikit_learn(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one check needs an environment variable
        results = check_estimator(OutliersIgnored(DETECTORS[name]), on_fail=None)
    status = {r["check_name"]: r["status"] for r in results}
    assert set(status.values()) <= {"passed", "skipped"}, status
    assert [c for c, s in status.items() if s == "skipped"] in (
        [],
        ["check_array_api_input"],
    )
    assert sum(r["status"] == "passed" for r in results) >= 40


@EACH
def test_outliers_are_not_learned_and_the_rest_is_unchanged(detector, blobs):
    X, y = blobs
    wrapped = OutliersIgnored(detector).fit(X, y)
    bare = clone(detector).fit(X[y != -1])
    for method in ("score_samples", "decision_function", "predict"):
        np.testing.assert_array_equal(
            getattr(wrapped, method)(X), getattr(bare, method)(X)
        )
    last = bare[-1] if hasattr(bare, "steps") else bare
    assert wrapped.offset_ == last.offset_
    np.testing.assert_array_equal(
        wrapped.decision_function(X), wrapped.score_samples(X) - wrapped.offset_
    )
    assert wrapped.class_labels_.tolist() == [0, 1]
    assert wrapped.n_features_in_ == 2
    assert is_outlier_detector(wrapped)
    np.testing.assert_array_equal(
        OutliersIgnored(detector).fit_predict(X, y), wrapped.predict(X)
    )


@EACH
def test_what_the_outliers_are_makes_no_difference(detector, blobs):
    X, y = blobs
    moved = np.where((y == -1)[:, None], 1e6 * X, X)
    np.testing.assert_array_equal(
        OutliersIgnored(detector).fit(X, y).score_samples(X),
        OutliersIgnored(detector).fit(moved, y).score_samples(X),
    )


def test_without_labels_all_rows_are_inliers(blobs):
    X, _ = blobs
    wrapped = OutliersIgnored(OneClassSVM()).fit(X)
    np.testing.assert_array_equal(
        wrapped.score_samples(X), OneClassSVM().fit(X).score_samples(X)
    )
    assert not hasattr(wrapped, "class_labels_")
    assert not hasattr(wrapped.fit(*blobs).fit(X), "class_labels_")


def test_frames_lists_and_text_labels(blobs):
    X, y = blobs
    wanted = OutliersIgnored(OneClassSVM()).fit(X, y).score_samples(X)
    frame = pd.DataFrame(X, columns=["a", "b"])
    named = OutliersIgnored(OneClassSVM()).fit(frame, y.astype(str))
    assert named.feature_names_in_.tolist() == ["a", "b"]
    assert named.class_labels_.tolist() == ["0", "1"]
    np.testing.assert_array_equal(named.score_samples(frame), wanted)
    listed = OutliersIgnored(OneClassSVM()).fit(X.tolist(), y.tolist())
    np.testing.assert_array_equal(listed.score_samples(X), wanted)


def test_the_given_detector_is_left_alone(blobs):
    svm = OneClassSVM()
    wrapped = OutliersIgnored(svm).fit(*blobs)
    assert not hasattr(svm, "offset_")
    twin = pickle.loads(pickle.dumps(wrapped))
    np.testing.assert_array_equal(
        twin.score_samples(blobs[0]), wrapped.score_samples(blobs[0])
    )
    assert clone(wrapped).get_params()["estimator__nu"] == 0.5


def test_methods_are_there_when_the_detector_has_them(blobs):
    X, y = blobs
    density = OutliersIgnored(KernelDensity()).fit(X, y)
    assert hasattr(density, "score_samples")
    assert not hasattr(density, "decision_function")
    assert not hasattr(density, "predict")
    assert not hasattr(density, "offset_")
    assert auroc_scorer(density, X, y) == 1.0


def test_bad_input_is_named(blobs):
    X, y = blobs
    with pytest.raises(
        ValueError, match=r"y has outliers only \(all 120 labels are -1"
    ):
        OutliersIgnored(OneClassSVM()).fit(X, -np.ones(120))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        OutliersIgnored(OneClassSVM()).fit(X, y[:5])
    with pytest.raises(
        TypeError, match=r"estimator must have score_samples.*novelty=T"
    ):
        OutliersIgnored(LocalOutlierFactor()).fit(X, y)
    with pytest.raises(
        TypeError, match=r"estimator must have score_samples.*'svm' has"
    ):
        OutliersIgnored("svm").fit(X, y)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        OutliersIgnored(OneClassSVM()).predict(X)


def test_refit_of_a_search_learns_no_outliers(blobs):
    X, y = blobs
    search = GridSearchCV(
        OutliersIgnored(DETECTORS["pipeline"]),
        {"estimator__oneclasssvm__nu": [0.05, 0.1]},
        scoring=auroc_scorer,
        cv=InlierKFold(3),
        error_score="raise",
    ).fit(X, y)
    assert search.best_score_ > 0.99
    nu = search.best_params_["estimator__oneclasssvm__nu"]
    bare = make_pipeline(StandardScaler(), OneClassSVM(nu=nu)).fit(X[y != -1])
    np.testing.assert_array_equal(search.score_samples(X), bare.score_samples(X))


@pytest.mark.parametrize("routing", [False, True], ids=["plain", "routing"])
def test_sample_weight_loses_the_same_rows(blobs, routing):
    X, y = blobs
    weight = np.random.default_rng(0).uniform(0.1, 1, len(y))
    bare = OneClassSVM().fit(X[y != -1], sample_weight=weight[y != -1])
    with sklearn.config_context(enable_metadata_routing=routing):
        inner = OneClassSVM()
        if routing:
            inner.set_fit_request(sample_weight=True)
        wrapped = OutliersIgnored(inner).fit(X, y, sample_weight=weight.tolist())
    np.testing.assert_array_equal(wrapped.score_samples(X), bare.score_samples(X))


def test_metadata_that_nobody_asked_for_is_refused(blobs):
    X, y = blobs
    with (
        sklearn.config_context(enable_metadata_routing=True),
        pytest.raises(ValueError, match="sample_weight"),
    ):
        OutliersIgnored(OneClassSVM()).fit(X, y, sample_weight=np.ones(len(y)))


@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: make_pipeline(d)])
def test_pyod_is_referred_to_its_own_wrapper(wrap, blobs):
    X, y = blobs
    with pytest.raises(TypeError, match=r"KNN is a PyOD.*Put skood.PyODDetector"):
        OutliersIgnored(wrap(KNN())).fit(X, y)


def test_pyod_behind_a_step_that_must_not_learn_outliers(blobs):
    X, y = blobs
    pipeline = make_pipeline(StandardScaler(), PyODDetector(KNN()))
    wrapped = OutliersIgnored(pipeline).fit(X, y)
    bare = clone(pipeline).fit(X[y != -1])
    np.testing.assert_array_equal(wrapped.score_samples(X), bare.score_samples(X))
    assert wrapped.offset_ == bare[-1].offset_
