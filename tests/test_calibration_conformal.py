"""ConformalDetector against plain loops, and what it refuses."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from references import conformal as reference
from sklearn.base import clone
from sklearn.covariance import EllipticEnvelope
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from sklearn.utils.estimator_checks import parametrize_with_checks

from skood import KNN, LayerFeatures, Mahalanobis
from skood.calibration import ConformalDetector
from skood.metrics import auroc
from skood.model_selection import InlierKFold, auroc_scorer
from skood.numerics import splits as splits

METHODS = ["split", "cross", "jackknife+"]


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = np.vstack(
        [
            rng.normal(size=(90, 3)),
            rng.normal(3, 2, size=(60, 3)),
            rng.normal(9, 1, size=(30, 3)),
        ]
    )
    return X, np.repeat([0, 1, -1], [90, 60, 30])


@pytest.fixture
def new():
    rng = np.random.default_rng(1)
    return rng.normal(2, 4, size=(50, 3))


def fitted(method, data, **parameters):
    parameters = {"cv": 0.4 if method == "split" else None, **parameters}
    return ConformalDetector(Mahalanobis(), 0.1, method, **parameters).fit(*data)


@parametrize_with_checks(
    [
        ConformalDetector(Mahalanobis()),
        ConformalDetector(EllipticEnvelope(random_state=0)),
        ConformalDetector(Mahalanobis(), 0.3, cv=0.5),
        ConformalDetector(Mahalanobis(), 0.3, "cross"),
        ConformalDetector(EllipticEnvelope(random_state=0), 0.3, cv=0.5),
    ]
)
@pytest.mark.filterwarnings("ignore:alpha=0.05 takes 19")
@pytest.mark.filterwarnings("ignore:classes with one row only")
@pytest.mark.filterwarnings("ignore:Determinant has increased")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def folds_of(method, n):
    """The rows held out, as the documentation says they are drawn."""
    if method == "jackknife+":
        return [np.array([i]) for i in range(n)]
    return splits.folds(n, 5)


@pytest.mark.parametrize("method", ["cross", "jackknife+"])
def test_p_values_compare_under_the_detector_that_saw_neither(method, data, new):
    X, y = (part[data[1] >= 0] for part in data)
    folds = folds_of(method, len(X))
    detectors, held = [], []
    for test in folds:
        train = np.setdiff1d(np.arange(len(X)), test)
        detectors.append(Mahalanobis().fit(X[train], y[train]))
        held.append(detectors[-1].score_samples(X[test]).tolist())
    scores = np.array([d.score_samples(new) for d in detectors]).T
    expected = [reference.cross_p_value(held, row) for row in scores]
    found = fitted(method, data)
    assert found.p_values(new).tolist() == expected
    assert len(found.detectors_) == len(folds)
    assert found.n_calibration_.tolist() == [150]


@pytest.mark.parametrize("by_class", [False, True])
def test_split_p_values_by_class(by_class, data, new):
    X, y = data
    fit_rows, held_out = np.arange(0, 150, 2), np.arange(1, 150, 2)
    found = ConformalDetector(
        Mahalanobis(), 0.1, cv=[(fit_rows, held_out)], class_conditional=by_class
    ).fit(X, y)
    alone = Mahalanobis().fit(X[fit_rows], y[fit_rows])
    scores, classes = alone.score_samples(X[held_out]), y[held_out]
    groups = [scores[classes == c] for c in (0, 1)] if by_class else [scores]
    expected = [
        max(reference.p_value(group, s) for group in groups)
        for s in alone.score_samples(new)
    ]
    assert found.p_values(new).tolist() == expected


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.29])
def test_flags_scores_and_p_values_agree(alpha, method, by_class, data, new):
    detector = fitted(method, data, class_conditional=by_class).set_params(alpha=alpha)
    detector.fit(*data)
    X = np.vstack([new, data[0]])
    p, scores = detector.p_values(X), detector.score_samples(X)
    np.testing.assert_array_equal(detector.predict(X) == -1, p <= alpha)
    np.testing.assert_array_equal(
        detector.decision_function(X), scores - detector.offset_
    )
    # The score never reverses or joins two p-values, and stays next to its own.
    assert ((scores >= p) & (scores - p < 1e-3)).all()
    for low, high in zip(np.unique(p)[:-1], np.unique(p)[1:], strict=True):
        assert scores[p == low].max() < scores[p == high].min()


def test_ranking_is_the_detectors_own(data, new):
    X, y = data
    rows = (np.arange(0, 150, 2), np.arange(1, 150, 2))
    detector = ConformalDetector(IsolationForest(random_state=0), cv=[rows]).fit(X, y)
    alone = detector.detectors_[0].score_samples(X)
    np.testing.assert_array_equal(
        np.argsort(alone, kind="stable"),
        np.argsort(detector.score_samples(X), kind="stable"),
    )
    assert auroc(y, detector.score_samples(X)) == auroc(y, alone)
    assert len(np.unique(detector.p_values(X))) < len(np.unique(alone))


@pytest.mark.parametrize("method", METHODS)
def test_outliers_are_never_compared_with_or_fitted_on(method, data, new):
    X, y = data
    elsewhere = X.copy()
    elsewhere[y == -1] = -1e6
    detector = make_pipeline(StandardScaler(), EllipticEnvelope(random_state=0))
    cv = 0.4 if method == "split" else None
    if method == "jackknife+":
        detector = make_pipeline(StandardScaler(), Mahalanobis())
    one = ConformalDetector(detector, 0.1, method, cv=cv).fit(X, y)
    other = ConformalDetector(detector, 0.1, method, cv=cv).fit(elsewhere, y)
    np.testing.assert_array_equal(one.score_samples(new), other.score_samples(new))


def test_bounds_are_told(data):
    assert fitted("split", data).false_alarm_bound_ == 6 / 61
    assert fitted("cross", data).false_alarm_bound_ == 2 * (15 + 4) / 155
    assert fitted("jackknife+", data).false_alarm_bound_ == (2 * 15 - 1) / 151
    by_class = fitted("split", data, class_conditional=True)
    assert by_class.n_calibration_.tolist() == [36, 24]
    assert by_class.false_alarm_bound_ == max(3 / 37, 2 / 25)


def test_prefit(data, new):
    X, y = data
    alone = Mahalanobis().fit(X[:60])
    found = ConformalDetector(alone, cv="prefit").fit(X[60:], y[60:])
    scores = alone.score_samples(X[60:150])
    expected = [reference.p_value(scores, s) for s in alone.score_samples(new)]
    assert found.p_values(new).tolist() == expected
    frozen = ConformalDetector(FrozenEstimator(alone), cv="prefit")
    assert clone(frozen).fit(X[60:150]).p_values(new).tolist() == expected


@pytest.mark.parametrize(
    ("method", "procedure"),
    [("split", "bh"), ("split", "by"), ("cross", "by"), ("jackknife+", "by")],
)
def test_select(method, procedure, data):
    detector = fitted(method, data, class_conditional=method == "split")
    X = data[0]
    chosen = detector.select(X, 0.3, procedure)
    p = _valid_p_values(detector, X)
    plain = {
        "bh": reference.benjamini_hochberg,
        "by": reference.benjamini_yekutieli,
    }[procedure]
    assert chosen.dtype == bool
    assert chosen.tolist() == plain(p, 0.3)


def _valid_p_values(detector, X):
    """P-values with P(p <= a) <= a from the plain ones (n and K are known here)."""
    p, n, k = detector.p_values(X), 150, len(detector.detectors_)
    if k == 1:
        return p
    below = np.rint(p * (n + 1)) - 1
    if k == n:
        return np.minimum((2 * below + 1) / (n + 1), 1)
    return np.minimum(2 * (k + below) / (n + k), 1)


def test_conditional_selection_is_the_most_careful_of_bh(data):
    detector = fitted("split", data)
    plain = detector.select(data[0], 0.3)
    careful = detector.select(data[0], 0.3, "conditional", confidence=0.5)
    more_careful = detector.select(data[0], 0.3, "conditional", confidence=0.99)
    assert plain.sum() >= careful.sum() > more_careful.sum()
    assert not (careful & ~plain).any()


@pytest.mark.parametrize("method", ["cross", "jackknife+"])
@pytest.mark.parametrize("procedure", ["bh", "conditional"])
def test_select_refuses_what_is_not_proved(method, procedure, data):
    detector = fitted(method, data)
    with pytest.raises(ValueError, match=f"'{procedure}'. is proved for one detector"):
        detector.select(data[0], method=procedure)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fdr": 0}, "fdr=0: give a number"),
        ({"confidence": 1.0}, "confidence=1.0: give a number"),
        ({"method": "holm"}, "method='holm': select takes"),
    ],
)
def test_select_checks_its_arguments(arguments, message, data):
    with pytest.raises(ValueError, match=message):
        fitted("split", data).select(data[0], **arguments)


def test_too_few_rows(data):
    X, y = data
    with pytest.raises(ValueError, match=r"alpha=0\.01 takes 99 held-out") as error:
        ConformalDetector(Mahalanobis(), 0.01, cv=0.2).fit(X, y)
    assert "method='split' with cv=0.2 holds out n_samples=30" in str(error.value)
    assert "Give 4 times as many rows" in str(error.value)
    with pytest.raises(
        ValueError, match=r"19 held-out in-distribution rows of class 1"
    ):
        ConformalDetector(Mahalanobis(), cv=0.3, class_conditional=True).fit(X, y)


@pytest.mark.parametrize(
    ("n", "held_out"), [(200, 40), (94, 19), (50, 19), (39, 19), (38, 19)]
)
def test_by_default_as_much_is_held_out_as_alpha_needs(n, held_out):
    X = np.random.default_rng(0).normal(size=(n, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ConformalDetector(Mahalanobis()).fit(X)
    assert found.n_calibration_.tolist() == [held_out]
    assert found.false_alarm_bound_ > 0


def test_by_default_the_rarest_class_gets_what_alpha_needs():
    X = np.random.default_rng(0).normal(size=(240, 2))
    y = np.repeat([0, 1], [200, 40])
    found = ConformalDetector(Mahalanobis(), class_conditional=True).fit(X, y)
    assert found.n_calibration_.tolist() == [95, 19]


@pytest.mark.parametrize("n", [2, 9, 37])
def test_by_default_it_says_that_nothing_can_be_flagged(n):
    X = np.random.default_rng(0).normal(size=(n, 2))
    with pytest.warns(UserWarning, match="takes 19 .* nothing can ever be flagged"):
        found = ConformalDetector(OneClassSVM()).fit(X)
    assert (found.predict(X + 99) == 1).all()
    with pytest.raises(ValueError, match="nothing can ever be flagged"):
        ConformalDetector(OneClassSVM(), cv=0.5).fit(X)


def test_one_row_is_refused():
    with pytest.raises(ValueError, match="n_samples=1"):
        ConformalDetector(OneClassSVM()).fit([[1.0]])


@pytest.mark.parametrize(
    ("method", "cv", "message"),
    [
        ("split", 5, "holds out one set of rows. Give a share"),
        ("split", KFold(3), "gives 3 splits, but method='split' holds out one set"),
        ("cross", 0.3, "fits a detector a fold"),
        ("cross", "prefit", "fits a detector a fold"),
        ("cross", [(range(9), range(9, 40))] * 2, "62 held-out rows, 31 of them diff"),
        ("jackknife+", 5, "takes no cv"),
    ],
)
def test_cv_that_does_not_suit_the_method(method, cv, message, data):
    with pytest.raises(ValueError, match=message):
        ConformalDetector(Mahalanobis(), method=method, cv=cv).fit(*data)


def test_by_class_without_classes(data):
    with pytest.raises(ValueError, match="calibrates within classes: give y"):
        ConformalDetector(Mahalanobis(), class_conditional=True).fit(data[0])


@pytest.mark.parametrize("method", METHODS)
def test_probabilities_when_outliers_are_known(method):
    rng = np.random.default_rng(0)
    near = np.vstack([rng.normal(size=(600, 3)), rng.normal(2, 1, size=(200, 3))])
    kinds = np.repeat([0, -1], [600, 200])
    rows = rng.permutation(800)
    train, test = rows[:200], rows[200:]
    detector = fitted(method, (near[train], kinds[train]))
    probabilities = detector.predict_proba(near[test])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    order = np.argsort(np.mean(detector._scores(near[test]), axis=0))
    assert (np.diff(probabilities[order, 1]) >= 0).all()
    truth = kinds[test] >= 0
    assert probabilities[:, 1].mean() == pytest.approx(truth.mean(), abs=0.05)
    base = np.tile([0.25, 0.75], (len(test), 1))
    assert log_loss(truth, probabilities) < 0.6 * log_loss(truth, base)
    assert np.isfinite(detector.predict_proba([[1e9, 1e9, 1e9]])).all()


def test_no_probabilities_without_outliers_that_are_new(data):
    X, y = data
    for detector in (
        fitted("split", (X[:150], y[:150])),
        fitted("split", data, pass_outliers=True),
    ):
        assert not hasattr(detector, "predict_proba")
    assert not hasattr(ConformalDetector(Mahalanobis()), "predict_proba")


def test_in_a_search_and_a_file(data, new):
    X, y = data
    features = LayerFeatures({"a": X[:, :1], "b": X})
    search = GridSearchCV(
        ConformalDetector(KNN(5, normalize=False), 0.1, "cross"),
        {"detector__layers": ["a", "b"], "detector__n_neighbors": [2, 5]},
        scoring=auroc_scorer,
        cv=InlierKFold(3),
        error_score="raise",
    ).fit(features, y)
    best = search.best_estimator_
    assert best.class_labels_.tolist() == [0, 1]
    again = pickle.loads(pickle.dumps(best))
    np.testing.assert_array_equal(
        again.score_samples(features), best.score_samples(features)
    )
    assert (best.predict(features[y == -1]) == -1).all()


def test_string_labels(data, new):
    X, y = data
    named = np.array(["-1", "zero", "one"])[y + 1]
    rows = [(np.arange(0, 150, 2), np.arange(1, 150, 2))]
    one, other = (
        ConformalDetector(OneClassSVM(), 0.1, cv=rows, class_conditional=True).fit(X, v)
        for v in (y, named)
    )
    np.testing.assert_array_equal(one.p_values(new), other.p_values(new))
