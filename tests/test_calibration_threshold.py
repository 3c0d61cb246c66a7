"""TargetRateThreshold: what it promises, refuses and forwards."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import beta
from sklearn import config_context
from sklearn.base import clone
from sklearn.covariance import EllipticEnvelope
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import SGDOneClassSVM
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from skood import KNN, LayerFeatures, Mahalanobis
from skood.calibration import ConformalDetector, TargetRateThreshold
from skood.model_selection import InlierKFold, auroc_scorer
from skood.numerics import splits as splits
from skood.numerics.ranks import rank_for_rate

SKLEARN = [
    IsolationForest(n_estimators=20, random_state=0),
    OneClassSVM(),
    SGDOneClassSVM(random_state=0),
    EllipticEnvelope(random_state=0),
    LocalOutlierFactor(novelty=True),
]


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(300, 3)), rng.normal(6, 1, size=(30, 3))])
    return X, np.repeat([0, 1, -1], [150, 150, 30])


@parametrize_with_checks(
    [
        TargetRateThreshold(Mahalanobis()),
        TargetRateThreshold(EllipticEnvelope(random_state=0)),
        TargetRateThreshold(Mahalanobis(), 0.3, cv=0.5),
        TargetRateThreshold(Mahalanobis(), 0.3, cv=4),
        TargetRateThreshold(EllipticEnvelope(random_state=0), 0.3, cv=0.5),
    ]
)
@pytest.mark.filterwarnings("ignore:max_false_alarm=0.05 takes 19")
@pytest.mark.filterwarnings("ignore:classes with one row only")
@pytest.mark.filterwarnings("ignore:Determinant has increased")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("detector", SKLEARN, ids=lambda d: type(d).__name__)
def test_threshold_is_the_score_of_that_rank_among_rows_held_out(detector, data):
    X, y = data
    inliers = X[y >= 0]
    found = TargetRateThreshold(detector, 0.1, cv=0.25, random_state=3).fit(X, y)
    test = splits.share(len(inliers), 0.25, random_state=3)
    train = np.setdiff1d(np.arange(len(inliers)), test)
    alone = clone(detector).fit(inliers[train])
    scores = np.sort(alone.score_samples(inliers[test]))
    np.testing.assert_allclose(found.calibration_scores_, scores)
    assert found.offset_ == scores[rank_for_rate(len(test), 0.1) - 1]
    np.testing.assert_array_equal(
        found.predict(X), np.where(found.score_samples(X) >= found.offset_, 1, -1)
    )
    np.testing.assert_allclose(found.score_samples(X), alone.score_samples(X))


def test_outliers_are_never_used(data):
    X, y = data
    elsewhere = X.copy()
    elsewhere[y == -1] = 1e6
    for detector in (Mahalanobis(), make_pipeline(StandardScaler(), OneClassSVM())):
        for cv in (None, 3):
            one = TargetRateThreshold(detector, 0.1, cv=cv).fit(X, y)
            other = TargetRateThreshold(detector, 0.1, cv=cv).fit(elsewhere, y)
            assert one.offset_ == other.offset_
            np.testing.assert_array_equal(one.score_samples(X), other.score_samples(X))


def test_detector_that_chooses_by_outliers_may_be_given_them(data):
    X, y = data
    features = LayerFeatures({"a": X, "b": X[:, :2]})
    detector = Mahalanobis(layer_weights="logistic")
    with pytest.raises(ValueError, match="y marks none"):
        TargetRateThreshold(detector).fit(features, y)
    found = TargetRateThreshold(detector, pass_outliers=True).fit(features, y)
    assert [*found.detector_.layer_weights_] == [("a", "avg"), ("b", "avg")]
    assert len(found.calibration_scores_) == 60


def test_false_alarm_rate_in_expectation_and_at_a_confidence():
    """With normal scores the rate of a threshold is known exactly."""
    rng = np.random.default_rng(0)
    n, repetitions = 199, 400
    plain = np.sort(rng.random((repetitions, n)), axis=1)
    k, sure = rank_for_rate(n, 0.05), rank_for_rate(n, 0.05, 0.95)
    # uniform scores: the rate of a threshold is the threshold
    assert plain[:, k - 1].mean() == pytest.approx(0.05, abs=4 * 0.0154 / 20)
    kept = (plain[:, sure - 1] <= 0.05).mean()
    assert kept >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / repetitions)
    assert beta.cdf(0.05, sure + 1, n - sure) < 0.95  # one rank more would not do


def test_confidence_lowers_the_threshold(data):
    X, y = data
    plain = TargetRateThreshold(Mahalanobis(), 0.1, cv=0.5).fit(X, y)
    sure = TargetRateThreshold(Mahalanobis(), 0.1, cv=0.5, confidence=0.99).fit(X, y)
    assert sure.offset_ < plain.offset_


def test_refuses_too_few_rows_and_says_how_many_it_takes(data):
    X, y = data
    with pytest.raises(ValueError, match=r"alarm=0\.01 takes 99 held-out") as e:
        TargetRateThreshold(KNN(5), 0.01, cv=0.2).fit(X, y)
    assert "cv=0.2 holds out 60 of 300. Give about 495 rows" in str(e.value)
    assert "5 folds hold out all of them" in str(e.value)
    assert TargetRateThreshold(KNN(5), 0.01, cv=5).fit(X, y).offset_ < 0
    with pytest.raises(ValueError, match=r"at confidence=0\.95 takes 299 held-out"):
        TargetRateThreshold(KNN(5), 0.01, cv=0.5, confidence=0.95).fit(X, y)
    fitted = KNN(5).fit(X, y)
    with pytest.raises(ValueError, match="cv='prefit' holds out 10 of 10"):
        TargetRateThreshold(fitted, cv="prefit").fit(X[:10])


def test_by_default_few_rows_are_all_held_out_and_it_says_what_is_not_proved():
    X = np.random.default_rng(0).normal(size=(92, 2))
    detector = TargetRateThreshold(Mahalanobis())
    with pytest.warns(UserWarning, match=r"fifth of the 92 here.*proved for one split"):
        few = clone(detector).fit(X)
    by_folds = TargetRateThreshold(Mahalanobis(), cv=10).fit(X)
    np.testing.assert_array_equal(few.calibration_scores_, by_folds.calibration_scores_)
    assert few.offset_ == by_folds.offset_ == few.calibration_scores_[3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        enough = clone(detector).fit(np.vstack([X, X[:1] + 1]))  # 19 of 93
    assert len(enough.calibration_scores_) == 19


@pytest.mark.parametrize("n", [2, 5, 18])
def test_by_default_too_few_rows_get_the_lowest_score_and_the_rate_is_said(n):
    X = np.random.default_rng(0).normal(size=(n, 1))
    rate = f"{1 / (n + 1):.1%}"
    with pytest.warns(UserWarning, match=f"takes 19 held-out.*are {n}:.*below which"):
        found = TargetRateThreshold(OneClassSVM()).fit(X)
    with pytest.warns(UserWarning, match=rate):
        TargetRateThreshold(OneClassSVM()).fit(X)
    assert len(found.calibration_scores_) == n
    assert found.offset_ == found.calibration_scores_[0]


def test_one_row_is_refused_by_default():
    with pytest.raises(ValueError, match="n_samples=1"):
        TargetRateThreshold(OneClassSVM()).fit([[1.0]])


def test_what_is_asked_for_by_name_is_still_refused(data):
    X, _ = data
    for asked in ({"cv": 0.5}, {"cv": 9}, {"confidence": 0.9}):
        with pytest.raises(ValueError, match="held-out"):
            TargetRateThreshold(Mahalanobis(), **asked).fit(X[:18])


def test_a_detector_whose_own_threshold_is_not_used_does_not_warn_of_it():
    X = np.random.default_rng(0).normal(size=(30, 2))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        TargetRateThreshold(Mahalanobis(contamination=0.01), 0.2, cv=5).fit(X)
    assert not said


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.full((9, 2), np.nan), "NaN"),
        (np.full((9, 2), np.inf), "infinity"),
        (csr_matrix(np.ones((9, 2))), "[Ss]parse"),
        (np.ones((9, 0)), r"0 feature\(s\)"),
        (np.ones((9, 2), dtype=complex), "Complex"),
    ],
    ids=["nan", "inf", "sparse", "columns", "complex"],
)
@pytest.mark.parametrize("detector", [Mahalanobis(), LocalOutlierFactor(novelty=True)])
@pytest.mark.parametrize("asked", [{}, {"cv": 0.2}, {"cv": 5}, {"confidence": 0.9}])
def test_what_no_number_of_rows_would_mend_comes_first(detector, asked, bad, message):
    if hasattr(bad, "toarray"):
        detector = Mahalanobis()  # neighbours can be found in sparse matrices
    for wrapper in (
        TargetRateThreshold(detector, 0.01, **asked),
        *([] if "confidence" in asked else [conformal(detector, **asked)]),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            wrapper.fit(bad)


def conformal(detector, cv=None):
    method = "cross" if isinstance(cv, int) else "split"
    return ConformalDetector(detector, 0.01, method, cv=cv)


def test_the_number_of_rows_it_asks_for_is_enough(data):
    rng = np.random.default_rng(0)
    detector = TargetRateThreshold(KNN(1), 0.05, cv=0.2)
    detector.fit(rng.normal(size=(95, 2)))
    with pytest.raises(ValueError, match=r"Give about 9[45] rows"):
        detector.fit(rng.normal(size=(90, 2)))


def test_prefit_leaves_the_detector_as_it_is(data):
    X, y = data
    fitted = KNN(5).fit(X[:100])
    found = TargetRateThreshold(fitted, 0.1, cv="prefit").fit(X[100:], y[100:])
    assert found.detector_ is fitted
    np.testing.assert_array_equal(
        found.calibration_scores_, np.sort(fitted.score_samples(X[100:300]))
    )
    frozen = TargetRateThreshold(FrozenEstimator(fitted), 0.1, cv="prefit")
    assert clone(frozen).fit(X[100:300]).offset_ == found.offset_


def test_prefit_needs_a_fitted_detector(data):
    with pytest.raises(ValueError, match="not fitted"):
        TargetRateThreshold(KNN(5), cv="prefit").fit(data[0])


def test_folds_hold_out_every_row_and_use_all_to_fit(data):
    X, y = data
    inliers = X[y >= 0]
    found = TargetRateThreshold(EllipticEnvelope(random_state=0), cv=5).fit(X, y)
    assert len(found.calibration_scores_) == len(inliers)
    whole = EllipticEnvelope(random_state=0).fit(inliers)
    np.testing.assert_allclose(found.score_samples(X), whole.score_samples(X))


@pytest.mark.parametrize(
    "cv",
    [
        KFold(3, shuffle=True, random_state=0),
        InlierKFold(3),
        [(np.arange(0, 250), np.arange(250, 330))],
        [(np.arange(330) < 250, np.arange(330) >= 250)],
        (split for split in [(np.arange(250), np.arange(250, 330))]),
    ],
    ids=["KFold", "InlierKFold", "pairs", "masks", "generator"],
)
def test_splitters_lose_their_outliers(cv, data):
    X, y = data
    found = TargetRateThreshold(Mahalanobis(), 0.1, cv=cv).fit(X, y)
    assert len(found.calibration_scores_) in (50, 300)


@pytest.mark.parametrize(
    ("cv", "message"),
    [
        (1.5, "cv=1.5: a share of rows to hold out lies in"),
        ("folds", "cv='folds': give a share"),
        (object(), "give a share in"),
        (1, "cv=1: a number of folds is from 2 on"),
        ([(np.arange(200), np.arange(199, 250))], "fits and holds out the same row"),
    ],
)
def test_unusable_cv(cv, message, data):
    with pytest.raises(ValueError, match=message):
        TargetRateThreshold(Mahalanobis(), cv=cv).fit(*data)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_false_alarm": 0}, "max_false_alarm"),
        ({"max_false_alarm": 0.6}, "max_false_alarm"),
        ({"confidence": 1.0}, "confidence"),
        ({"detector": 3}, "detector"),
    ],
)
def test_parameters_are_checked_in_fit(parameters, message, data):
    detector = TargetRateThreshold(Mahalanobis()).set_params(**parameters)
    with pytest.raises(ValueError, match=f"'{message}' parameter"):
        detector.fit(*data)


def test_only_outliers(data):
    X, _ = data
    with pytest.raises(ValueError, match="y has outliers only"):
        TargetRateThreshold(Mahalanobis()).fit(X, np.full(len(X), -1))


def test_detectors_whose_scores_mean_something_else_are_refused(data):
    pyod = pytest.importorskip("pyod.models.hbos")
    with pytest.raises(TypeError, match="HBOS is a PyOD detector"):
        TargetRateThreshold(pyod.HBOS()).fit(*data)
    with pytest.raises(TypeError, match="neither score_samples nor decision_function"):
        TargetRateThreshold(LocalOutlierFactor()).fit(*data)


def test_scores_that_are_not_numbers_are_refused(data):
    class Broken(EllipticEnvelope):
        def score_samples(self, X):
            return np.full(len(X), np.nan)

    with pytest.raises(ValueError, match="Broken gave 60 NaN of 60 scores"):
        TargetRateThreshold(Broken()).fit(*data)


def test_in_a_pipeline_in_a_search_around_a_pipeline(data):
    X, y = data
    features = LayerFeatures({"a": X[:, :1], "b": X})
    threshold = TargetRateThreshold(Mahalanobis(), 0.1)
    search = GridSearchCV(
        threshold,
        {"detector__layers": ["a", "b"], "max_false_alarm": [0.05, 0.1]},
        scoring=auroc_scorer,
        cv=InlierKFold(3),
        error_score="raise",
    ).fit(features, y)
    assert search.best_params_["detector__layers"] == "b"
    assert set(search.best_estimator_.predict(features[y == -1])) == {-1}
    knn = KNN(5, normalize=False)
    scaled = Pipeline(
        [
            ("scale", StandardScaler()),
            ("threshold", TargetRateThreshold(make_pipeline(StandardScaler(), knn))),
        ]
    )
    flags = scaled.fit(X, y).predict(X)
    assert set(flags[y == -1]) == {-1}
    assert (flags[y >= 0] == 1).mean() > 0.85
    assert get_tags(scaled).estimator_type == "outlier_detector"


def test_forwards_what_the_detector_knows(data):
    X, y = data
    found = TargetRateThreshold(Mahalanobis()).fit(X, y)
    assert found.n_features_in_ == 3
    assert found.class_labels_.tolist() == [0, 1]
    assert TargetRateThreshold(Mahalanobis()).fit(X[:300]).class_labels_ is None
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(
        again.decision_function(X), found.decision_function(X)
    )
    with pytest.raises(AttributeError, match="no attribute 'fit_predict'"):
        found.fit_predict(X)


def test_the_same_seed_the_same_threshold(data):
    X, y = data
    offsets = [
        TargetRateThreshold(KNN(5), random_state=seed).fit(X, y).offset_
        for seed in (0, 0, 1)
    ]
    assert offsets[0] == offsets[1] != offsets[2]


def test_with_metadata_routing_and_frames(data):
    pandas = pytest.importorskip("pandas")
    X, y = data
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    with config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            TargetRateThreshold(IsolationForest(n_estimators=10, random_state=0)),
            {"max_false_alarm": [0.05, 0.1]},
            scoring=auroc_scorer,
            cv=InlierKFold(3),
            error_score="raise",
        ).fit(frame, y)
    assert search.best_estimator_.feature_names_in_.tolist() == ["a", "b", "c"]


def test_after_two_folds_the_detector_is_fitted_on_all_rows(data):
    X, y = data
    found = TargetRateThreshold(KNN(5), max_false_alarm=0.1, cv=2).fit(X, y)
    whole = KNN(5).fit(X[y >= 0])
    np.testing.assert_allclose(found.score_samples(X), whole.score_samples(X))
