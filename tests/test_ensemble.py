"""Ensembles: the rules against plain loops, rates, members, panel, comparison."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, kstest, norm
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import GridSearchCV
from sklearn.utils import get_tags

from skood import (
    KNN,
    MSP,
    AutoOOD,
    DetectorEnsemble,
    Energy,
    InlierKFold,
    LayerEnsemble,
    LayerFeatures,
    Mahalanobis,
    auroc,
    auroc_scorer,
    compare,
    ood_report,
)
from skood.detectors import BaseDetector
from skood.ensemble.comparable import Comparable
from skood.ensemble.rules import RULES, mean_by_view
from skood.ensemble.weights import lda_weights, logistic_weights
from skood.estimator_checks import synthetic_features


def by_loops(name, z):
    """Return a rule's score of one row's comparable scores, from its formula."""
    p, m = [norm.cdf(value) for value in z], len(z)
    formulas = {
        "fisher": sum(math.log(value) for value in p),
        "stouffer": sum(z) / math.sqrt(m),
        "simes": math.log(min(m / (j + 1) * v for j, v in enumerate(sorted(p)))),
        "cauchy": -math.asinh(sum(math.tan((0.5 - v) * math.pi) for v in p) / m),
        "harmonic": math.log(m / sum(1 / v for v in p)),
        "min": min(z),
    }
    return formulas[name]


@pytest.mark.parametrize("name", RULES)
def test_rules_are_their_formulas(name):
    z = np.random.default_rng(0).normal(-1, 2, size=(200, 5)).clip(-6, 4)
    expected = [by_loops(name, row) for row in z]
    np.testing.assert_allclose(RULES[name](z), expected, rtol=1e-7)


@pytest.mark.parametrize("name", RULES)
def test_rules_tell_far_outliers_apart(name):
    z = -np.logspace(0, 6, 50)[:, None] * np.array([1.0, 0.9, 0.8])
    scores = RULES[name](z)
    assert np.isfinite(scores).all()
    assert (np.diff(scores) < 0).all()


def test_the_mean_gives_views_equal_votes():
    weights = mean_by_view(["a", "b", "a", "c", "a"])
    np.testing.assert_allclose(weights, [1 / 9, 1 / 3, 1 / 9, 1 / 3, 1 / 9])


def test_comparable_scores_are_normal_and_monotone():
    rng = np.random.default_rng(0)
    scale = Comparable.of(rng.gamma(2, size=2000))
    new = rng.gamma(2, size=2000)
    assert kstest(scale.gaussian(new), "norm").pvalue > 0.01
    grid = np.linspace(-1e3, 30, 5000)
    steps = np.diff(scale.gaussian(grid))
    assert (steps >= 0).all()
    assert (steps[grid[1:] < 0] > 0).all()  # below all held-out scores: no ties
    assert np.isfinite(scale.gaussian(np.array([-np.inf, np.inf]))).all()


def test_comparable_scores_of_ties_do_not_hang_on_rounding():
    scores = np.repeat([1.0, 2.0, 3.0], 50)
    noisy = scores * (1 + 1e-12 * np.random.default_rng(0).normal(size=150))
    one, other = Comparable.of(scores), Comparable.of(noisy)
    np.testing.assert_allclose(one.gaussian(scores), other.gaussian(noisy), atol=1e-6)


def test_lda_weights_are_the_direction():
    rng = np.random.default_rng(0)
    mixing = np.array([[1.0, 0.8, 0.0], [0.0, 0.6, 0.0], [0.0, 0.0, 1.0]])
    inliers = rng.normal(size=(4000, 3)) @ mixing
    outliers = rng.normal(size=(4000, 3)) @ mixing - [1.0, 0.2, 0.5]
    covariance = np.cov(inliers, rowvar=False)
    shrunk = 0.7 * covariance + 0.3 * np.trace(covariance) / 3 * np.eye(3)
    expected = np.linalg.inv(shrunk) @ (inliers.mean(axis=0) - outliers.mean(axis=0))
    expected = np.maximum(expected, 0) / np.maximum(expected, 0).sum()
    assert expected[1] == 0  # it adds nothing but noise that the first has, too
    np.testing.assert_allclose(lda_weights(inliers, [outliers], 0.3), expected)
    assert lda_weights(inliers, [inliers + 1.0], 0.3) is None


def test_logistic_weights_lean_on_the_prior_where_outliers_are_few():
    rng = np.random.default_rng(0)
    inliers, noise = rng.normal(size=(500, 2)), rng.normal(size=(500, 2))
    outliers, prior = noise - [3.0, 0.0], np.array([0.5, 0.5])
    many = logistic_weights(inliers, outliers, prior)
    few = logistic_weights(inliers, outliers[:2], prior)
    assert many[0] > 0.9
    assert 0.4 < few[0] < many[0]


def gaussian_rows(n_rows, seed):
    return np.random.default_rng([seed, 3]).normal(size=(n_rows, 3))


@pytest.mark.parametrize("combine", ["mean", "lda", "fisher", "min"])
def test_false_alarms_and_p_values_are_exact(combine):
    rates, p_values = {0.01: [], 0.05: [], 0.1: []}, []
    ensemble = DetectorEnsemble(
        [("knn", KNN(3)), ("again", KNN(4)), ("distance", Mahalanobis())],
        combine=combine,
        calibration=0.5,
    )
    for seed in range(200):
        fitted = clone(ensemble).set_params(random_state=seed)
        fitted.fit(gaussian_rows(600, seed))
        p = fitted.p_values(gaussian_rows(50, 1000 + seed))
        p_values.append(p[0])
        for level, found in rates.items():
            found.append((p <= level).sum())
    n = 200 * 50
    for level, found in rates.items():
        # rows of one fit share its threshold: the variance is that of a beta-binomial
        k = int(level * 201)
        sd = math.sqrt(level * (1 - level) / n * (1 + 49 / 202))
        assert abs(sum(found) / n - k / 201) < 4 * sd
    assert binom.cdf(sum(p <= 0.05 for p in p_values), 200, 0.05) > 1e-4
    assert kstest(p_values, "uniform").pvalue > 1e-3


def test_p_values_and_flags_agree():
    features, y = synthetic_features(500, 100)
    fitted = DetectorEnsemble([("knn", KNN(5)), ("energy", Energy())]).fit(features, y)
    p = fitted.p_values(features)
    flags = fitted.predict(features)
    # the threshold is the k-th smallest: a row below it has at most k - 1 no higher
    k = int(0.05 * (len(fitted.calibration_scores_) + 1))
    count = len(fitted.calibration_scores_) + 1
    np.testing.assert_array_equal(flags == -1, p * count - 1 < k - 0.5)


def test_rows_of_the_threshold_take_part_in_nothing_else():
    features, y = synthetic_features(400, 0)
    fitted = LayerEnsemble(Mahalanobis()).fit(features, y)
    again = LayerEnsemble(Mahalanobis())
    spoilt = {key: features.block(*key).copy() for key in features.block_names}
    new = fitted.score_samples(features)
    held_out = np.isin(new, fitted.calibration_scores_)
    assert held_out.sum() == len(fitted.calibration_scores_) == 53
    for block in spoilt.values():
        block[held_out] *= 3.0
    again.fit(LayerFeatures(spoilt, features.head, features.views), y)
    np.testing.assert_array_equal(again.score_samples(features), new)


def test_threshold_data_calibrates_and_all_rows_are_fitted():
    features, y = synthetic_features(600, 0)
    fitted = DetectorEnsemble([("knn", KNN(5))]).fit(
        features[:400], y[:400], threshold_data=features[400:]
    )
    assert len(fitted.members_["knn"].detector.banks_["layer1", "avg"]) == 400
    assert len(fitted.calibration_scores_) == 133
    with pytest.raises(
        ValueError, match="threshold_data: n_samples=1, and a minimum of 3"
    ):
        DetectorEnsemble([("knn", KNN(5))]).fit(
            features[:400], y[:400], threshold_data=features[:1]
        )


def test_a_search_reaches_inside():
    features, y = synthetic_features(240, 60)
    ensemble = DetectorEnsemble([("knn", KNN()), ("energy", Energy())])
    search = GridSearchCV(
        ensemble,
        {
            "detectors__knn__n_neighbors": [2, 7],
            "detectors__energy": [MSP(), "drop"],
            "combine": ["mean", "fisher"],
        },
        scoring=auroc_scorer,
        cv=InlierKFold(2),
        error_score="raise",
    ).fit(features, y)
    best = search.best_params_
    members = search.best_estimator_.members_
    assert members["knn"].detector.n_neighbors == best["detectors__knn__n_neighbors"]
    assert ("energy" in members) == (best["detectors__energy"] != "drop")
    inside = LayerEnsemble(KNN()).set_params(detector__n_neighbors=3)
    assert inside.fit(features, y).members_["layer1"].detector.n_neighbors_ == 3


def test_tags_say_whether_arrays_will_do():
    named_layers = DetectorEnsemble([("knn", KNN()), ("far", KNN(layers="layer1"))])
    assert not get_tags(named_layers).input_tags.two_d_array
    assert get_tags(DetectorEnsemble([("knn", KNN())])).input_tags.two_d_array
    assert not get_tags(LayerEnsemble(KNN(), layers="a")).input_tags.two_d_array
    with pytest.raises(ValueError, match="LayerFeatures"):
        named_layers.fit(gaussian_rows(50, 0))


def test_parameters_of_members_after_fit_change_nothing():
    X = gaussian_rows(100, 0)
    fitted = DetectorEnsemble([("knn", KNN(3))]).fit(X)
    before = fitted.score_samples(X)
    fitted.set_params(detectors__knn__n_neighbors=9, combine="min")
    np.testing.assert_array_equal(fitted.score_samples(X), before)


def test_detectors_of_others_are_members():
    X = gaussian_rows(300, 0)
    forest = IsolationForest(n_estimators=20, random_state=0)
    fitted = DetectorEnsemble([("forest", forest), ("knn", KNN(3))]).fit(X)
    assert fitted.predict([[9.0, 9, 9]]) == [-1]
    by_layer = LayerEnsemble(forest).fit(LayerFeatures({"a": X, "b": X**3}))
    assert list(by_layer.members_) == ["a", "b"]
    again = pickle.loads(pickle.dumps(by_layer))
    features = LayerFeatures({"a": X, "b": X**3})
    np.testing.assert_array_equal(
        again.score_samples(features), by_layer.score_samples(features)
    )


@pytest.mark.parametrize(
    ("detectors", "error", "text"),
    [
        ([], ValueError, "at least one"),
        ([("a", KNN()), ("a", KNN())], ValueError, "each once"),
        ([("a__b", KNN())], ValueError, "without two underscores"),
        ([KNN()], ValueError, "pairs"),
        (3, ValueError, "pairs"),
        ([("a", KNN)], TypeError, "an instance"),
        ([("a", "drop")], ValueError, "'drop'"),
    ],
)
def test_what_are_no_detectors_is_said(detectors, error, text):
    with pytest.raises(error, match=text):
        DetectorEnsemble(detectors).fit(gaussian_rows(50, 0))


def test_a_rule_without_what_it_learns_from_is_refused():
    X = gaussian_rows(50, 0)
    with pytest.raises(ValueError, match="label them -1 in y"):
        DetectorEnsemble([("knn", KNN(3))], combine="logistic").fit(X)
    with pytest.raises(ValueError, match="views has 'cnn'"):
        DetectorEnsemble([("knn", KNN(3))], views={"cnn": "a"}).fit(X)
    with pytest.raises(ValueError, match="minimum of 5 is required"):
        DetectorEnsemble([("knn", KNN(3))]).fit(X[:4])


def test_known_outliers_weigh_members():
    rng = np.random.default_rng(0)
    blocks = {"seen": rng.normal(size=(700, 2)), "blind": rng.normal(size=(700, 2))}
    blocks["seen"][600:] += 4.0
    features, y = LayerFeatures(blocks), np.repeat([0, -1], [600, 100])
    fitted = LayerEnsemble(Mahalanobis(), combine="logistic").fit(features, y)
    assert fitted.weights_[0] > 0.7
    assert fitted.report_.loc["seen", "auroc_outliers"] > 0.99


class Constant(BaseDetector):
    def _fit(self, training):
        self.value_ = np.array(1.0)

    def _score(self, chunk):
        return np.full(len(chunk), float(self.value_))


class Backwards(Mahalanobis):
    def _score(self, chunk):
        return -super()._score(chunk)


class NotANumber(Constant):
    def _score(self, chunk):
        return np.full(len(chunk), np.nan)


@pytest.mark.filterwarnings("ignore:contamination=0.05. .* tie")
def test_members_that_say_nothing_are_left_out_and_named():
    features, y = synthetic_features(400, 100)
    members = [("knn", KNN(5)), ("one", Constant()), ("back", Backwards())]
    auto = AutoOOD(members).fit(features, y)
    assert list(auto.members_) == ["knn"]
    assert "constant" in auto.left_out_["one"]
    assert "below chance" in auto.left_out_["back"]
    report = auto.report_
    assert report.index.tolist() == ["knn", "one", "back"]
    assert report.loc["knn", "weight"] == 1.0
    assert report.loc["back", "auroc_jigsaw"] < 0.5
    with pytest.raises(ValueError, match=r"'nan'|finite"):
        DetectorEnsemble([("knn", KNN(5)), ("nan", NotANumber())]).fit(features, y)


def full_block(features):
    return features.block("penultimate", "avg")


def test_the_panel_goes_by_what_features_carry():
    features, y = synthetic_features(300, 0)
    full = AutoOOD().fit(features, y)
    assert full.combine_ == "lda"
    assert 6 <= len(full.members_) <= 12
    assert len(set(full.views_.values())) == len(full.members_)
    same = {"conv": full_block(features), "penultimate": full_block(features)}
    assert "Mahalanobis, conv" not in AutoOOD().fit(LayerFeatures(same), y).members_
    hidden = LayerFeatures(
        {"a": features.block("layer1", "avg"), "b": -features.block("layer2", "avg")}
    )
    bare = AutoOOD().fit(hidden)
    assert bare.combine_ == "mean"
    assert not {"MSP", "Energy", "NAP", "FeatureNorm"} & set(bare.members_)
    array = AutoOOD().fit(np.asarray(hidden))
    assert list(array.members_) == ["KNN", "KNN, nearest", "Mahalanobis"]


def test_a_panel_is_found_for_few_blocks():
    features, y = synthetic_features(300, 0)
    one = features.select_blocks([("layer1", "max")])
    bare = LayerFeatures({("layer1", "max"): one.block("layer1", "max")})
    assert list(AutoOOD().fit(bare).members_) == ["KNN", "KNN, nearest", "Mahalanobis"]
    logits = LayerFeatures({"logits": features.block("logits")})
    assert set(AutoOOD().fit(logits).views_.values()) <= {"probabilities", "logits"}
    two = features.select(["layer1", "layer2"], "l2")
    assert len(AutoOOD().fit(two, y).members_) >= 3


def test_noise_views_do_not_weigh():
    features, y = synthetic_features(300, 0)
    only_noise = LayerFeatures(
        {key: features.block(*key) for key in features.block_names},
        features.head,
        {"gaussian": features.views["jigsaw"]},
    )
    assert AutoOOD().fit(only_noise, y).combine_ == "mean"


def test_explain_names_the_view_that_saw_a_row():
    rng = np.random.default_rng(0)
    features = LayerFeatures(
        {"early": rng.normal(size=(500, 4)), "late": rng.normal(size=(500, 3))}
    )
    odd = LayerFeatures({"early": np.full((2, 4), 9.0), "late": np.zeros((2, 3))})
    for ensemble in (
        LayerEnsemble(Mahalanobis()),
        LayerEnsemble(KNN(3), combine="min"),
    ):
        fitted = ensemble.fit(features)
        table = fitted.explain(odd[0])
        assert table.index[0] == "early"
        assert table.loc["early", "p_value"] < 0.01 < table.loc["late", "p_value"]
        both = fitted.explain(odd)
        pd.testing.assert_frame_equal(both.loc[0], fitted.explain(odd[[0]]))
    with pytest.raises(ValueError, match=r"give X\[\[i\]\]"):
        fitted.explain(np.zeros(3))
    full, y = synthetic_features(300, 0)
    auto = AutoOOD([("knn", KNN(3, layers="layer1"))]).fit(full, y)
    pd.testing.assert_frame_equal(auto.explain(full[7]), auto.explain(full[[7]]))
    mean = LayerEnsemble(Mahalanobis()).fit(features)
    total = mean.explain(features[0])["contribution"].sum()
    np.testing.assert_allclose(total, mean.score_samples(features[:1])[0])


@pytest.mark.parametrize("combine", ["mean", "lda"])
def test_one_sure_member_outweighs_several_that_doubt(combine):
    rng = np.random.default_rng(0)
    blocks = {name: rng.normal(size=(600, 3)) for name in "abcd"}
    fitted = LayerEnsemble(Mahalanobis(), combine=combine).fit(LayerFeatures(blocks))
    odd = {name: np.zeros((2, 3)) for name in "abcd"}
    odd["a"][0] = 30.0
    for block in odd.values():
        block[1] += 1.9
    table = fitted.explain(LayerFeatures(odd))
    weights = dict(zip(fitted.members_, fitted.weights_, strict=True))
    expected = [weights[name] * z for (_, name), z in table["z"].items()]
    np.testing.assert_allclose(table["contribution"], expected)
    sure, doubtful = fitted.score_samples(LayerFeatures(odd))
    assert sure < 10 * doubtful < 0


@pytest.fixture(scope="module")
def comparison():
    features, y = synthetic_features(500, 200)
    inliers, outliers = features[:500], features[500:]
    sets = {
        "near/a": outliers[:80],
        "near/b": outliers[80:140],
        "far/c": outliers[140:],
    }
    detectors = {"msp": MSP(), "knn": KNN(5), "auto": AutoOOD()}
    return compare(detectors, inliers, y[:500], outliers=sets, n_bootstrap=50)


def test_compare_measures_what_one_would_by_hand(comparison):
    table = comparison.table
    scores = comparison.scores["knn"]
    both = np.concatenate([scores[""], scores["near/a"]])
    expected = auroc(np.repeat([0, -1], [100, 80]), both)
    assert table.loc[("knn", "near/a"), "auroc"] == expected
    near = table.loc["knn"].loc[["near/a", "near/b"], "fpr95"].mean()
    np.testing.assert_allclose(table.loc[("knn", "near"), "fpr95"], near)
    assert table.index.unique("outliers").tolist()[-3:] == ["near", "far", "mean"]
    assert (table["false_alarms"] <= 0.2).all()
    assert (table["auroc_low"] <= table["auroc_high"]).all()


def test_differences_are_paired(comparison):
    table, differences = comparison.table, comparison.differences
    less = table.loc[("knn", "mean"), "auroc"] - table.loc[("msp", "mean"), "auroc"]
    np.testing.assert_allclose(differences.loc[("knn", "mean"), "auroc"], less)
    assert "msp" not in differences.index.unique("detector")


def test_a_comparison_is_written(comparison, tmp_path):
    comparison.to_csv(tmp_path / "table.csv")
    read = pd.read_csv(tmp_path / "table.csv", index_col=[0, 1])
    np.testing.assert_allclose(read["auroc"], comparison.table["auroc"])
    assert comparison.to_markdown().count("\n") == 4
    assert r"\bfseries" in comparison.to_latex("fpr95")
    display = comparison.plot()
    assert len(display.ax_.get_yticks()) == 6
    with pytest.raises(ValueError, match="the table has"):
        comparison.wide("accuracy")


def test_what_is_no_comparison_is_refused():
    features, y = synthetic_features(100, 50)
    sets = {"a": features[100:]}
    detectors = [("knn", KNN(3))]
    with pytest.raises(ValueError, match="shares 50 rows with features"):
        compare(detectors, features, y, outliers=sets)  # tuned on them
    with pytest.raises(ValueError, match="shares 5 rows with the in-distribution"):
        compare(
            detectors,
            features[:90],
            outliers={"a": features[95:]},
            inliers=features[90:100],
        )
    with pytest.raises(ValueError, match="every label is -1"):
        compare(detectors, features, np.full(150, -1), outliers=sets)
    with pytest.raises(ValueError, match="give a mapping"):
        compare(detectors, features[:100], outliers={})
    with pytest.raises(ValueError, match="is empty"):
        compare(detectors, features[:100], outliers={"a": features[:0]})


def test_a_report_has_groups():
    y = np.repeat([0, -1], [50, 30])
    scores = np.random.default_rng(0).normal(size=80) + (y == 0)
    sources = np.array([""] * 50 + ["a"] * 10 + ["b"] * 10 + ["c"] * 10)
    report = ood_report(
        y, scores, sources=sources, groups={"a": "near", "b": "near"}, n_bootstrap=20
    )
    assert report.index.tolist() == ["a", "b", "c", "near", "mean"]
    np.testing.assert_allclose(
        report.loc["near", "auroc"], report.loc[["a", "b"], "auroc"].mean()
    )
    with pytest.raises(ValueError, match="which are no sources"):
        ood_report(y, scores, sources=sources, groups={"d": "near"})
    with pytest.raises(ValueError, match="another row has"):
        ood_report(y, scores, sources=sources, groups={"a": "b"})
