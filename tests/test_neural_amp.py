"""AMP: its identities, its scores against plain loops, and what a detector promises."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from references.amp import amp_score, logits_from_anchors
from references.threshold import kth_smallest
from scipy.special import log_softmax, softmax
from scipy.stats import entropy
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from torch import nn

from skood.estimator_checks import parametrize_with_checks, synthetic_features
from skood.metrics import auroc
from skood.model_selection import InlierKFold, auroc_scorer
from skood.neural import AMP, MLP, AnchoredClassifier
from skood.neural.scores import SCORES, calibrated, spread, temperatures

LOGITS = arrays(
    float,
    st.tuples(st.integers(2, 5), st.integers(1, 4), st.integers(2, 6)),
    elements=st.floats(-30, 30),
)


def head(**params):
    return AnchoredClassifier(
        MLP,
        module__n_features=10,
        module__n_classes=3,
        **{"max_epochs": 8, "batch_size": 32, "lr": 0.01, "random_state": 0, **params},
    )


@pytest.fixture(scope="module")
def rows():
    features, y = synthetic_features()
    return features.block("penultimate", "avg"), y


@pytest.fixture(scope="module")
def fitted(rows):
    return AMP(head(), random_state=0).fit(*rows)


# Identities --------------------------------------------------------------------------


@given(LOGITS)
def test_the_score_is_minus_the_mean_log_softmax(logits):
    z = logits[0]
    expected = -log_softmax(z, axis=1).mean(axis=1)
    np.testing.assert_allclose(SCORES["amp"](z), expected, rtol=1e-12, atol=1e-12)
    assert (SCORES["amp"](z) >= np.log(z.shape[1]) - 1e-12).all()


@given(LOGITS, st.sampled_from(["exp", "ratio"]))
def test_the_score_of_plain_loops(logits, kind):
    scores = SCORES["amp"](calibrated(logits, kind))
    expected = [
        amp_score(logits[:, row].tolist(), kind) for row in range(logits.shape[1])
    ]
    np.testing.assert_allclose(scores, expected, rtol=1e-9)


@given(LOGITS)
def test_identical_anchors_give_temperature_two(logits):
    same = np.broadcast_to(logits[0], logits.shape)
    np.testing.assert_allclose(spread(same, "sum"), 0, atol=1e-15)
    np.testing.assert_allclose(temperatures(same, "exp", "auto"), 2, rtol=1e-12)
    np.testing.assert_allclose(calibrated(same), logits[0] / 2, rtol=1e-12)


@given(LOGITS)
def test_other_scores_of_the_tempered_logits(logits):
    z = calibrated(logits)
    p = softmax(z, axis=1)
    for name, expected in {
        "entropy": -entropy(p, axis=1),
        "energy": np.log(np.exp(z).sum(axis=1)),
        "msp": p.max(axis=1),
    }.items():
        np.testing.assert_allclose(SCORES[name](z), expected, rtol=1e-9, atol=1e-9)


def test_the_sum_over_classes_would_make_all_scores_agree():
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=3, size=(5, 20, 100))
    mean = temperatures(logits, "exp", "auto")
    assert ((mean > 2) & (mean < 1 + np.exp(0.71))).all()
    np.testing.assert_array_equal(temperatures(logits, "exp", "mean"), mean)
    summed = SCORES["amp"](calibrated(logits, "exp", "sum"))
    np.testing.assert_allclose(summed, np.log(100), rtol=1e-6)
    ratio = temperatures(logits, "ratio", "auto")
    np.testing.assert_allclose(ratio, spread(logits, "sum") + 1e-6)
    np.testing.assert_allclose(spread(logits, "sum"), 100 * spread(logits, "mean"))


def test_agreeing_anchors_do_not_divide_by_zero():
    logits = np.ones((3, 2, 4)) * [1.0, 2.0, 3.0, 4.0]
    assert np.isfinite(SCORES["amp"](calibrated(logits, "ratio"))).all()


# The detector ------------------------------------------------------------------------


def test_scores_are_those_of_plain_loops(fitted, rows):
    X, _ = rows
    network = fitted.classifier_.module_.network.eval().double()
    anchors = torch.from_numpy(fitted.classifier_.anchors_[:5]).double()
    expected = [
        amp_score(logits_from_anchors(network, torch.from_numpy(row), anchors))
        for row in X[:20]
    ]
    fitted.classifier_.module_.float()
    np.testing.assert_allclose(fitted.score_samples(X[:20]), expected, rtol=1e-9)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"temperature": "ratio"},
        {"score_type": "entropy"},
        {"score_type": "energy"},
        {"score_type": "msp"},
        {"n_anchors": 20},
    ],
)
def test_every_variant_ranks_outliers_below(fitted, rows, params):
    X, y = rows
    detector = AMP(FrozenEstimator(fitted.classifier_), **params).fit(X[y >= 0])
    assert auroc(y, detector.score_samples(X)) > 0.9


def test_identical_anchors_in_the_bank(fitted, rows):
    X, _ = rows
    detector = pickle.loads(pickle.dumps(fitted))
    bank = detector.classifier_.anchors_
    detector.classifier_.anchors_ = np.repeat(bank[:1], len(bank), axis=0)
    one = detector.classifier_.anchored_logits(X, 1)[0]
    np.testing.assert_allclose(detector.score_samples(X), SCORES["amp"](one / 2))


def test_a_row_s_score_is_its_own(fitted, rows):
    X, _ = rows
    whole = fitted.score_samples(X)
    alone = [fitted.score_samples(row[None])[0] for row in X[:30]]
    np.testing.assert_allclose(alone, whole[:30], rtol=1e-9)


def test_the_threshold_is_of_rows_that_were_held_out(rows):
    X, y = rows
    detector = AMP(head(), held_out=0.25, contamination=0.1, random_state=0).fit(X, y)
    known = X[y >= 0]
    assert len(detector.held_out_) == 60
    held_out = detector.score_samples(known[detector.held_out_])
    np.testing.assert_allclose(detector.offset_, kth_smallest(held_out, 0.1))
    kept = np.setdiff1d(np.arange(len(known)), detector.held_out_)
    alone = head().fit(known[kept], y[y >= 0][kept])
    np.testing.assert_array_equal(
        alone.anchored_logits(X), detector.classifier_.anchored_logits(X)
    )
    with_all = AMP(head(), held_out=0, random_state=0).fit(X, y)
    assert len(with_all.held_out_) == 240


def test_a_class_of_one_row_is_trained_on():
    X = np.random.default_rng(0).normal(size=(21, 10))
    y = np.array([0] * 10 + [1] * 10 + [2])
    for seed in range(5):
        detector = AMP(head(train_split=None), random_state=seed, held_out=0.5)
        assert 20 not in detector.fit(X, y).held_out_


def test_the_classifier_stays_reachable(rows):
    X, y = rows
    names = np.array(["a", "b", "c", "-1"])[y]
    detector = AMP(head(), random_state=0).fit(X, names)
    assert detector.classifier_.classes_.tolist() == ["a", "b", "c"]
    assert detector.classifier_.score(X, names) > 0.9
    assert set(np.unique(detector.predict(X))) == {-1, 1}


def test_outliers_are_dropped(rows):
    X, y = rows
    alone = AMP(head(), random_state=0).fit(X[y >= 0], y[y >= 0])
    mixed = AMP(head(), random_state=0).fit(X, y)
    np.testing.assert_array_equal(mixed.score_samples(X), alone.score_samples(X))


def test_a_fitted_classifier_is_not_fitted_again(rows):
    X, y = rows
    net = head().fit(X, y)
    before = {k: v.clone() for k, v in net.module_.state_dict().items()}
    detector = AMP(net).fit(X[:100])
    assert detector.classifier_ is net
    assert all(torch.equal(before[k], v) for k, v in net.module_.state_dict().items())
    # The fifth of 100 scores is an inlier itself.
    assert np.mean(detector.predict(X[:100]) == -1) == 0.04
    assert len(detector.held_out_) == 100
    initialised = AMP(head().initialize(), random_state=0).fit(X, y)
    assert initialised.classifier_ is not initialised.classifier
    with pytest.raises(NotFittedError):
        AMP(head()).predict(X)


def test_searches_over_network_and_detector(rows):
    X, y = rows
    grid = {
        "amp__classifier__module__width": [2, 32],
        "amp__classifier__corruption": [None, "auto"],
        "amp__n_anchors": [2, 5],
    }
    pipe = make_pipeline(StandardScaler(), AMP(head(max_epochs=3), random_state=0))
    search = GridSearchCV(
        pipe, grid, scoring=auroc_scorer, cv=InlierKFold(2), error_score="raise"
    ).fit(X, y)
    assert search.best_score_ > 0.8
    frozen = AMP(FrozenEstimator(head().fit(X, y)))
    search = GridSearchCV(
        frozen, {"n_anchors": [2, 5, 10]}, scoring=auroc_scorer, cv=InlierKFold(2)
    ).fit(X, y)
    assert search.best_estimator_.classifier_.estimator is frozen.classifier.estimator
    assert clone(frozen).classifier.estimator is frozen.classifier.estimator


def test_layer_features_side_by_side(rows):
    features, y = synthetic_features()
    both = AMP(layers=["layer1", "penultimate"], random_state=0).fit(features, y)
    assert both.classifier_.input_shape_ == (22,)
    assert auroc(y, both.score_samples(features)) > 0.9
    one = AMP(head(), layers="penultimate", random_state=0).fit(features, y)
    bare = AMP(head(), random_state=0).fit(*rows)
    np.testing.assert_array_equal(
        one.score_samples(features), bare.score_samples(rows[0])
    )


def test_images():
    X, y = load_digits(return_X_y=True)
    images = (X.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    labels = np.where(y < 7, y, -1)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(144, 7)
    )
    classifier = AnchoredClassifier(
        network, max_epochs=10, lr=0.01, random_state=0, train_split=None
    )
    detector = AMP(classifier, random_state=0).fit(images[:1000], labels[:1000])
    scores = detector.score_samples(images[1000:])
    assert scores.dtype == np.float64
    assert auroc(labels[1000:], scores) > 0.8
    tensors = detector.score_samples(torch.from_numpy(images[1000:]))
    np.testing.assert_array_equal(tensors, scores)
    double = detector.score_samples(images[1000:].astype(float))
    np.testing.assert_array_equal(double, scores)
    again = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(again.score_samples(images[1000:]), scores)
    for other in (images[:3].reshape(3, 64), images[:3].reshape(3, 1, 4, 16)):
        with pytest.raises(ValueError, match=r"fitted on rows of shape \(1, 8, 8\)"):
            detector.predict(other)
    with pytest.raises(ValueError, match=r"images of shape \(1, 8, 8\), for which"):
        AMP().fit(images, y)


def test_without_labels_it_learns_to_tell_clusters_and_says_so(rows):
    X, _ = rows
    detector = AMP(n_pseudo_classes=3, random_state=0).fit(X[:240])
    with pytest.warns(UserWarning, match="y is None: .* tells 3 clusters of the rows"):
        by_default = AMP(random_state=0).fit(X[:240])
    np.testing.assert_array_equal(
        by_default.score_samples(X), detector.score_samples(X)
    )
    images = np.zeros((20, 1, 8, 8), dtype=np.float32)
    with pytest.raises(ValueError, match="y is None: AMP trains a classifier"):
        AMP().fit(images)
    assert auroc(np.repeat([1, -1], [240, 60]), detector.score_samples(X)) > 0.8
    with pytest.raises(
        ValueError, match="n_pseudo_classes=9, but there are n_samples=5"
    ):
        AMP(n_pseudo_classes=9).fit(X[:5])


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"n_anchors": 1}, "'n_anchors' parameter of AMP"),
        ({"temperature": "log"}, "'temperature' parameter"),
        ({"score_type": "max"}, "'score_type' parameter"),
        ({"spread": "max"}, "'spread' parameter"),
        ({"held_out": 1.0}, "'held_out' parameter"),
        ({"contamination": 0.6}, "'contamination' parameter"),
        ({"n_pseudo_classes": 1}, "'n_pseudo_classes' parameter"),
        ({"classifier": StandardScaler()}, "'classifier' parameter"),
        ({"n_anchors": 200}, "n_anchors=200, but the bank has 128 anchors"),
        ({"layers": "layer1"}, "X is a plain array, which has no named layers"),
    ],
)
def test_parameters_are_validated_in_fit(rows, params, text):
    X, y = rows
    params = {"classifier": head(max_epochs=1), **params}
    with pytest.raises(ValueError, match=text):
        AMP(**params).fit(X, y)


def test_too_few_rows(rows):
    X, y = rows
    with pytest.raises(
        ValueError, match=r"n_anchors=5 but there are 4 in-distribution"
    ):
        AMP(head(train_split=None)).fit(X[:5], np.arange(5) % 3)
    with pytest.raises(ValueError, match=r"y has one class \(\[0\]\)"):
        AMP().fit(X, np.where(y == 0, 0, -1))


# Batteries ---------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:y is None. AMP trains a classifier")
@pytest.mark.parametrize("detector", [AMP(), AMP(n_pseudo_classes=3, random_state=0)])
def test_battery_of_scikit_learn(detector):
    report = check_estimator(detector, on_skip=None, on_fail=None)
    failed = {
        r["check_name"]: r["exception"] for r in report if r["status"] == "failed"
    }
    assert not failed
    assert not any(result["expected_to_fail"] for result in report)
    count = Counter(result["status"] for result in report)
    assert len(report) >= 44
    assert count["passed"] >= len(report) - 1


@parametrize_with_checks([AMP(held_out=0.3, random_state=0)])
def test_battery_for_detectors(estimator, check):
    check()
