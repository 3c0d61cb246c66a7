"""Scorers: what they return, what they refuse, and that every search takes them."""

from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pytest
import sklearn
from pyod.models.iforest import IForest
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
    StratifiedKFold,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from skood import PyODDetector
from skood.metrics import aupr, auroc, detection_accuracy, fpr_at_tpr
from skood.model_selection import (
    ClassHoldout,
    InlierKFold,
    OODScorer,
    OutliersIgnored,
    aupr_in_scorer,
    aupr_out_scorer,
    auroc_scorer,
    balanced_accuracy_scorer,
    fpr95_scorer,
    ood_scorer,
)

SCORERS = {
    "auroc": auroc_scorer,
    "neg_fpr95": fpr95_scorer,
    "aupr_in": aupr_in_scorer,
    "aupr_out": aupr_out_scorer,
    "balanced_accuracy": balanced_accuracy_scorer,
}
EACH = pytest.mark.parametrize("scorer", SCORERS.values(), ids=SCORERS)
ROUTING = pytest.mark.parametrize("routing", [False, True], ids=["plain", "routing"])


class Given:
    """A detector whose scores and flags are the columns of X."""

    def score_samples(self, X):
        return X[:, 0]

    def decision_function(self, X):
        return X[:, 1]

    def predict(self, X):
        return X[:, 2].astype(int)


class GivenDecision:
    """The same without score_samples."""

    def decision_function(self, X):
        return X[:, 1]


@pytest.fixture
def answers():
    rng = np.random.default_rng(0)
    X = np.c_[rng.normal(size=(40, 2)), rng.choice([-1, 1], 40)]
    return X, np.repeat([0, 3, -1], [15, 10, 15])


def test_scorers_are_the_metrics(answers):
    X, y = answers
    scores = X[:, 0]
    hits = [np.mean(X[y != -1, 2] == 1), np.mean(X[y == -1, 2] == -1)]
    wanted = {
        "auroc": auroc(y, scores),
        "neg_fpr95": -fpr_at_tpr(y, scores, tpr=0.95),
        "aupr_in": aupr(y, scores),
        "aupr_out": aupr(y, scores, pos_label="ood"),
        "balanced_accuracy": np.mean(hits),
    }
    for name, scorer in SCORERS.items():
        assert scorer(Given(), X, y) == pytest.approx(wanted[name])
        assert isinstance(scorer(Given(), X, y), float)
    assert ood_scorer(Given(), X, y) == pytest.approx(wanted)
    accuracy = OODScorer("detection_accuracy")(Given(), X, y)
    assert accuracy == detection_accuracy(y, scores)


def test_decision_function_stands_in_for_score_samples(answers):
    X, y = answers
    assert auroc_scorer(GivenDecision(), X, y) == auroc(y, X[:, 1])


def test_best_fpr_is_plain_zero():
    X = np.c_[[1.0, 0.0], [1.0, 0.0], [1, -1]]
    assert str(fpr95_scorer(Given(), X, [0, -1])) == "0.0"


@EACH
def test_scorers_survive_pickling_and_compare(scorer):
    assert pickle.loads(pickle.dumps(scorer)) == scorer
    assert clone(scorer, safe=False) == scorer
    assert repr(scorer) == f"OODScorer(metric={scorer.metric!r}, " + (
        "unseen_as_outliers=False)"
    )


@EACH
def test_one_sided_rows_are_refused(scorer, answers):
    X, _ = answers
    with pytest.raises(
        ValueError, match=r"y has inliers only \(40 rows\).*InlierKFold"
    ):
        scorer(Given(), X, np.zeros(40))
    with pytest.raises(ValueError, match=r"return_train_score=False"):
        scorer(Given(), X, np.zeros(40))
    with pytest.raises(ValueError, match=r"y has outliers only \(40 rows\)"):
        scorer(Given(), X, -np.ones(40))
    with pytest.raises(ValueError, match="y is missing: the score needs class labels"):
        scorer(Given(), X)


def test_unknown_metric_is_refused(answers):
    with pytest.raises(ValueError, match=r"metric must be one of \['aupr_in'.*'fpr95'"):
        OODScorer("fpr95")(Given(), *answers)


def test_flags_must_be_ours(answers):
    X, y = answers
    X[:, 2] = X[:, 2] > 0
    with pytest.raises(ValueError, match=r"Given.predict must give \+1.*gave \[0, 1\]"):
        balanced_accuracy_scorer(Given(), X, y)


def test_estimators_without_scores_are_refused(answers):
    X, y = answers
    detector = LocalOutlierFactor().fit(X)
    with pytest.raises(TypeError, match=r"neither score_samples nor.*novelty=True"):
        auroc_scorer(detector, X, y)


def test_nan_scores_are_refused(answers):
    X, y = answers
    X[3, 0] = np.nan
    with pytest.raises(ValueError, match="y_score has 1 NaN of 40"):
        auroc_scorer(Given(), X, y)


@pytest.fixture
def blobs():
    rng = np.random.default_rng(0)
    centres = np.repeat([[0, 0], [3, 3], [9, -9]], [60, 60, 40], axis=0)
    return centres + rng.normal(size=centres.shape), np.repeat([0, 1, -1], [60, 60, 40])


@pytest.mark.filterwarnings("ignore:y should not be presented")  # PyOD's, about y
def test_pyod_detectors_are_refused_wherever_they_hide(blobs):
    X, y = blobs
    bare = IForest(n_estimators=5, random_state=0).fit(X[y >= 0])
    chained = make_pipeline(StandardScaler(), clone(bare)).fit(X[y >= 0])
    for detector in (bare, chained, FrozenEstimator(bare)):
        for scorer in SCORERS.values():
            with pytest.raises(TypeError, match=r"IForest is a PyOD.*PyODDetector"):
                scorer(detector, X, y)
    search = GridSearchCV(
        chained,
        {"iforest__n_estimators": [5]},
        cv=InlierKFold(2),
        scoring=auroc_scorer,
        error_score="raise",
    )
    with pytest.raises(TypeError, match="IForest is a PyOD detector"):
        search.fit(X, y)
    chained.steps[-1] = ("ours", PyODDetector(bare))
    assert auroc_scorer(chained.fit(X, y), X, y) > 0.95


@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: make_pipeline(d)])
def test_unseen_classes_count_as_outliers_when_asked(blobs, wrap):
    X, y = blobs
    detector = wrap(OutliersIgnored(IsolationForest(n_estimators=8, random_state=0)))
    detector.fit(X[y == 0], y[y == 0])
    truth = np.where(y == 0, 0, -1)
    scorer = OODScorer("auroc", unseen_as_outliers=True)
    assert scorer(detector, X, y) == auroc_scorer(detector, X, truth)
    assert scorer(detector, X, y) != auroc_scorer(detector, X, y)
    # without a row of -1 there are outliers all the same
    assert scorer(detector, X[y >= 0], y[y >= 0]) > 0.5
    every = partial(ood_scorer, unseen_as_outliers=True)
    assert every(detector, X, y) == ood_scorer(detector, X, truth)


def test_unseen_classes_need_a_detector_that_knows_its_own(blobs):
    X, y = blobs
    scorer = OODScorer("auroc", unseen_as_outliers=True)
    with pytest.raises(
        TypeError, match=r"OneClassSVM has no class_labels_.*OutliersIgnored"
    ):
        scorer(OneClassSVM().fit(X), X, y)


def chain(detector):
    return make_pipeline(StandardScaler(), detector)


FOREST = chain(IsolationForest(n_estimators=6, random_state=0))
FOREST_GRID = {"isolationforest__max_samples": [8, 32]}
SVM = chain(OneClassSVM())
SVM_GRID = {"oneclasssvm__nu": [0.1, 0.4]}
DETECTORS = pytest.mark.parametrize(
    ("detector", "grid"),
    [(FOREST, FOREST_GRID), (SVM, SVM_GRID)],
    ids=["forest", "svm"],
)


@ROUTING
@DETECTORS
@EACH
def test_every_scorer_in_grid_search(blobs, scorer, detector, grid, routing):
    X, y = blobs
    with sklearn.config_context(enable_metadata_routing=routing):
        search = GridSearchCV(
            detector,
            grid,
            scoring=scorer,
            cv=InlierKFold(3),
            refit=False,
            error_score="raise",
        ).fit(X, y)
    # the first fold, by hand
    train, test = next(InlierKFold(3).split(X, y))
    first = clone(detector).set_params(**search.cv_results_["params"][0])
    score = scorer(first.fit(X[train]), X[test], y[test])
    assert search.cv_results_["split0_test_score"][0] == pytest.approx(score)


@ROUTING
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_all_scorers_at_once_in_one_and_two_processes(blobs, n_jobs, routing):
    X, y = blobs
    with sklearn.config_context(enable_metadata_routing=routing):
        search = GridSearchCV(
            OutliersIgnored(FOREST),
            {f"estimator__{name}": values for name, values in FOREST_GRID.items()},
            scoring=SCORERS,
            refit="auroc",
            cv=InlierKFold(3),
            n_jobs=n_jobs,
            error_score="raise",
        ).fit(X, y)
        at_once = GridSearchCV(
            search.estimator,
            search.param_grid,
            scoring=ood_scorer,
            refit="auroc",
            cv=InlierKFold(3),
            n_jobs=n_jobs,
            error_score="raise",
        ).fit(X, y)
        score = search.score(X, y)
    assert score == auroc_scorer(search.best_estimator_, X, y)
    for name in SCORERS:
        np.testing.assert_array_equal(
            search.cv_results_[f"mean_test_{name}"],
            at_once.cv_results_[f"mean_test_{name}"],
        )


@ROUTING
@EACH
def test_scorers_in_random_and_halving_search(blobs, scorer, routing):
    X, y = blobs
    options = {
        "scoring": scorer,
        "cv": InlierKFold(3),
        "random_state": 0,
        "refit": False,
        "error_score": "raise",
    }
    with sklearn.config_context(enable_metadata_routing=routing):
        random = RandomizedSearchCV(SVM, SVM_GRID, n_iter=2, **options).fit(X, y)
        halving = HalvingRandomSearchCV(
            SVM, SVM_GRID, min_resources=60, return_train_score=False, **options
        ).fit(X, y)
    assert np.isfinite(random.cv_results_["mean_test_score"]).all()
    assert np.isfinite(halving.cv_results_["mean_test_score"]).all()


def test_halving_search_is_told_not_to_score_training_folds(blobs):
    X, y = blobs
    search = HalvingRandomSearchCV(
        SVM,
        SVM_GRID,
        n_candidates=2,
        cv=InlierKFold(3),
        scoring=auroc_scorer,
        error_score="raise",
    )
    with pytest.raises(ValueError, match="halving searches default to True"):
        search.fit(X, y)


@ROUTING
def test_cross_validate_with_a_dict_of_scorers(blobs, routing):
    X, y = blobs
    with sklearn.config_context(enable_metadata_routing=routing):
        result = cross_validate(
            SVM, X, y, cv=InlierKFold(4), scoring=SCORERS, error_score="raise"
        )
    assert {f"test_{name}" for name in SCORERS} <= set(result)
    assert (result["test_auroc"] > 0.9).all()


def test_a_density_model_is_scored_by_its_score_samples(blobs):
    X, y = blobs
    mixture = GaussianMixture(2, random_state=0).fit(X[y >= 0])
    assert auroc_scorer(mixture, X, y) == auroc(y, mixture.score_samples(X))


@pytest.mark.filterwarnings("ignore:The scoring .* does not support sample_weight")
def test_sample_weight_for_fit_goes_past_a_dict_of_scorers(blobs):
    X, y = blobs
    search = GridSearchCV(
        OutliersIgnored(IsolationForest(n_estimators=4, random_state=0)),
        {"estimator__max_samples": [8]},
        scoring=SCORERS,
        refit="auroc",
        cv=InlierKFold(2),
        error_score="raise",
    )
    search.fit(X, y, sample_weight=np.ones(len(y)))
    assert search.best_score_ > 0.9


# Tools that also score the training fold ---------------------------------------------


@pytest.fixture
def two_kinds():
    rng = np.random.default_rng(0)
    X = np.r_[rng.normal(size=(90, 2)), rng.normal(5, 1, size=(60, 2))]
    return X, np.repeat([0, 1, 2, -1], [30, 30, 30, 60])


INLIERS_ONLY = r"StratifiedKFold\(shuffle=True\) as cv"


@pytest.mark.parametrize("scorer", [auroc_scorer, balanced_accuracy_scorer])
def test_curves_work_by_following_the_advice(two_kinds, scorer):
    X, y = two_kinds
    detector = OutliersIgnored(LocalOutlierFactor(novelty=True))
    neighbours = {"param_name": "estimator__n_neighbors", "param_range": [5, 20]}
    common = {"scoring": scorer, "error_score": "raise"}
    drawn = {"train_sizes": [0.5, 1.0], "shuffle": True, "random_state": 0}
    with pytest.raises(ValueError, match=INLIERS_ONLY):
        learning_curve(detector, X, y, cv=InlierKFold(3), **drawn, **common)
    with pytest.raises(ValueError, match=INLIERS_ONLY):
        validation_curve(detector, X, y, cv=InlierKFold(3), **neighbours, **common)
    common["cv"] = StratifiedKFold(3, shuffle=True, random_state=0)
    _, *learned = learning_curve(detector, X, y, **drawn, **common)
    validated = validation_curve(detector, X, y, **neighbours, **common)
    for scores in (*learned, *validated):
        assert scores.shape == (2, 3)
        assert (scores > 0.7).all()


def test_a_halving_search_works_by_following_the_advice(two_kinds):
    X, y = two_kinds
    search = HalvingGridSearchCV(
        OutliersIgnored(LocalOutlierFactor(novelty=True)),
        {"estimator__n_neighbors": [3, 9]},
        scoring=auroc_scorer,
        cv=InlierKFold(3),
        min_resources=60,
        error_score="raise",
        random_state=0,
    )
    with pytest.raises(ValueError, match="return_train_score=False"):
        clone(search).fit(X, y)
    search.set_params(return_train_score=False).fit(X, y)
    assert search.best_score_ > 0.9
    both = StratifiedKFold(3, shuffle=True, random_state=0)
    search.set_params(cv=both, return_train_score=True).fit(X, y)
    assert search.best_score_ > 0.9


@pytest.mark.parametrize("scorer", [auroc_scorer, ood_scorer])
def test_classes_held_out_before_a_plain_scorer(two_kinds, scorer):
    X, y = two_kinds
    X, y = X[y >= 0], y[y >= 0]
    detector = OutliersIgnored(OneClassSVM())
    with pytest.raises(
        ValueError,
        match=r"not fitted on the class 0: .* OODScorer\(..., unseen_as_outliers=True",
    ):
        cross_validate(
            detector, X, y, cv=ClassHoldout(), scoring=scorer, error_score="raise"
        )
    told = OODScorer("auroc", unseen_as_outliers=True)
    found = cross_validate(detector, X, y, cv=ClassHoldout(), scoring=told)
    assert np.isfinite(found["test_score"]).all()
