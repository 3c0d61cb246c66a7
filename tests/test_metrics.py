"""Metrics against plain loops, scikit-learn, and what must not change them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from skood.metrics import (
    aupr,
    auroc,
    detection_accuracy,
    fpr_at_tpr,
    ood_report,
)

METRICS = [auroc, aupr, fpr_at_tpr, detection_accuracy]
BOTH_SIDES = pytest.mark.parametrize("pos_label", ["id", "ood"])


@st.composite
def labelled_scores(draw, max_size=25):
    """Labels with both sides, and integer scores with many ties."""
    inliers = draw(st.lists(st.integers(-6, 6), min_size=1, max_size=max_size))
    outliers = draw(st.lists(st.integers(-6, 6), min_size=1, max_size=max_size))
    y = [0] * len(inliers) + [-1] * len(outliers)
    order = draw(st.permutations(range(len(y))))
    scores = np.array(inliers + outliers, dtype=float)
    return np.array(y)[order], scores[order]


def sides(y, scores, pos_label):
    """Positives and negatives, with a score that is high for positives."""
    inliers, outliers = scores[y != -1], scores[y == -1]
    return (inliers, outliers) if pos_label == "id" else (-outliers, -inliers)


def slow_auroc(positives, negatives):
    wins = [(p > n) + 0.5 * (p == n) for p in positives for n in negatives]
    return np.mean(wins)


def slow_aupr(positives, negatives):
    area, recall_before = 0.0, 0.0
    for t in sorted({*positives, *negatives}, reverse=True):
        hits, false = sum(p >= t for p in positives), sum(n >= t for n in negatives)
        recall = hits / len(positives)
        area += (recall - recall_before) * hits / (hits + false)
        recall_before = recall
    return area


def slow_fpr(positives, negatives, tpr):
    allowed = [
        t
        for t in {*positives, *negatives}
        if sum(p >= t for p in positives) / len(positives) >= tpr
    ]
    return sum(n >= max(allowed) for n in negatives) / len(negatives)


def slow_accuracy(positives, negatives):
    thresholds = [*positives, *negatives, np.inf]
    return max(
        0.5 * np.mean([p >= t for p in positives])
        + 0.5 * np.mean([n < t for n in negatives])
        for t in thresholds
    )


@BOTH_SIDES
@given(data=labelled_scores(), tpr=st.sampled_from([0.05, 0.5, 0.8, 0.95, 1.0]))
def test_metrics_equal_plain_loops(pos_label, data, tpr):
    y, scores = data
    positives, negatives = sides(y, scores, pos_label)
    close = {"rel": 1e-12, "abs": 1e-12}
    side = {"pos_label": pos_label}
    assert auroc(y, scores, **side) == pytest.approx(
        slow_auroc(positives, negatives), **close
    )
    assert aupr(y, scores, **side) == pytest.approx(
        slow_aupr(positives, negatives), **close
    )
    assert fpr_at_tpr(y, scores, tpr=tpr, **side) == pytest.approx(
        slow_fpr(positives, negatives, tpr), **close
    )
    assert detection_accuracy(y, scores, **side) == pytest.approx(
        slow_accuracy(positives, negatives), **close
    )


@given(data=labelled_scores())
def test_areas_equal_scikit_learn(data):
    y, scores = data
    inlier = y != -1
    assert auroc(y, scores) == pytest.approx(roc_auc_score(inlier, scores), abs=1e-12)
    assert aupr(y, scores) == pytest.approx(
        average_precision_score(inlier, scores), abs=1e-12
    )
    assert aupr(y, scores, pos_label="ood") == pytest.approx(
        average_precision_score(~inlier, -scores), abs=1e-12
    )


@pytest.mark.parametrize("metric", METRICS)
@given(data=labelled_scores())
def test_only_the_order_of_scores_matters(metric, data):
    y, scores = data
    value = metric(y, scores)
    assert metric(y, 2 * scores + 1) == value
    assert metric(y, scores**3) == value
    assert metric(y, np.arctan(scores)) == value


@pytest.mark.parametrize("metric", METRICS)
@given(data=labelled_scores(), seed=st.integers(0, 99))
def test_order_of_rows_does_not_matter(metric, data, seed):
    y, scores = data
    order = np.random.default_rng(seed).permutation(len(y))
    assert metric(y[order], scores[order]) == metric(y, scores)


@pytest.mark.parametrize("metric", METRICS)
@given(data=labelled_scores())
def test_pos_label_ood_swaps_roles_and_sign(metric, data):
    y, scores = data
    swapped = np.where(y == -1, 0, -1)
    assert metric(y, scores, pos_label="ood") == metric(swapped, -scores)


@pytest.mark.parametrize("metric", [auroc, detection_accuracy])
@given(data=labelled_scores())
def test_symmetric_metrics_are_the_same_for_both_sides(metric, data):
    y, scores = data
    other = metric(y, scores, pos_label="ood")
    assert metric(y, scores) == pytest.approx(other, abs=1e-12)


@given(data=labelled_scores())
def test_negating_scores_mirrors_auroc(data):
    y, scores = data
    assert auroc(y, -scores) == pytest.approx(1 - auroc(y, scores), abs=1e-12)


def test_fpr_threshold_is_the_largest_that_accepts_enough():
    y = [0] * 20 + [-1] * 4
    scores = [*range(1, 21), 2, 1.5, 1, 0.5]
    # 19 of 20 are accepted from score 2 up, and >= accepts the outlier at 2 itself
    assert fpr_at_tpr(y, scores) == 0.25
    assert fpr_at_tpr(y, scores, tpr=0.951) == 0.75
    assert fpr_at_tpr(y, scores, tpr=1) == 0.75


def test_fpr_of_the_two_sides_differs():
    y = [0, 0, 0, 0, -1, -1]
    scores = [5, 4, 3, 0, 2, 1]
    assert fpr_at_tpr(y, scores, tpr=0.95) == 1.0
    assert fpr_at_tpr(y, scores, tpr=0.95, pos_label="ood") == 0.25


def test_constant_scores_are_worth_a_coin():
    y, scores = [0, 0, -1, -1, -1], [1.0] * 5
    assert auroc(y, scores) == 0.5
    assert aupr(y, scores) == 0.4
    assert aupr(y, scores, pos_label="ood") == 0.6
    assert fpr_at_tpr(y, scores) == 1.0
    assert detection_accuracy(y, scores) == 0.5


@pytest.mark.parametrize("metric", METRICS)
def test_infinite_scores_are_ranked(metric):
    y = [0, 0, 0, -1, -1]
    assert metric(y, [np.inf, 2, 1, 1, -np.inf]) == metric(y, [3, 2, 1, 1, 0])


@pytest.mark.parametrize("metric", METRICS)
def test_any_container_and_label_type_will_do(metric):
    y, scores = np.array([3, 7, -1, 3, -1]), np.array([0.9, 0.2, 0.4, 0.8, 0.1])
    value = metric(y, scores)
    assert isinstance(value, float)
    assert metric(y.tolist(), scores.tolist()) == value
    assert metric(y.astype(str), scores.astype(np.float32)) == value
    assert metric(pd.Series(y), pd.Series(scores)) == value
    assert metric(y.astype(float), scores[:, None]) == value


@pytest.mark.parametrize("metric", METRICS)
def test_bad_input_is_named(metric):
    with pytest.raises(ValueError, match=r"y_true has no outliers.*-1.*make_pseudo_ou"):
        metric([0, 1, 2], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"y_true has no inliers: every label is -1"):
        metric([-1, -1], [1.0, 2.0])
    with pytest.raises(ValueError, match="y_score has 1 NaN of 3"):
        metric([0, 1, -1], [1.0, np.nan, 3.0])
    with pytest.raises(ValueError, match="y_score has 2 rows but y_true 3"):
        metric([0, 1, -1], [1.0, 2.0])
    with pytest.raises(ValueError, match=r'pos_label must be "id".*got 1'):
        metric([0, -1], [1.0, 2.0], pos_label=1)


@pytest.mark.parametrize("tpr", [0, -0.1, 1.01, 95, np.nan])
def test_tpr_must_be_a_share(tpr):
    with pytest.raises(ValueError, match=r"tpr must lie in \(0, 1\].*pass 0.95"):
        fpr_at_tpr([0, -1], [1.0, 2.0], tpr=tpr)


@pytest.fixture
def example():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, -1, -1], [60, 40, 30, 50])
    source = np.repeat(["", "near", "far"], [100, 30, 50]).astype(object)
    source[0] = None  # an inlier's entry is nobody's business
    good = np.repeat([2.0, 1.0, -3.0], [100, 30, 50]) + rng.normal(size=180)
    bad = rng.normal(size=180).round(1)
    return y, source, {"good": good, "bad": bad}


def expected(y, scores):
    return {
        "auroc": auroc(y, scores),
        "aupr_in": aupr(y, scores),
        "aupr_out": aupr(y, scores, pos_label="ood"),
        "fpr95": fpr_at_tpr(y, scores),
        "detection_accuracy": detection_accuracy(y, scores),
    }


def test_report_has_a_row_per_source_and_their_mean(example):
    y, source, scores = example
    report = ood_report(y, scores["good"], sources=source, n_bootstrap=0)
    assert report.index.tolist() == ["near", "far", "mean"]
    assert report.index.name == "source"
    assert report["n_id"].tolist() == [100, 100, 100]
    assert report["n_ood"].tolist() == [30, 50, 80]
    for name in ("near", "far"):
        rows = (y != -1) | (source == name)
        values = expected(y[rows], scores["good"][rows])
        assert report.loc[name, list(values)].to_dict() == pytest.approx(values)
    columns = list(values)
    mean = report.loc[["near", "far"], columns].mean()
    assert report.loc["mean", columns].to_dict() == pytest.approx(mean.to_dict())


def test_groups_of_sources_have_rows_of_means(example):
    y, source, scores = example
    options = {"sources": source, "n_bootstrap": 0}
    groups = {"near": "both", "far": "both"}
    report = ood_report(y, scores["good"], groups=groups, **options)
    assert report.index.tolist() == ["near", "far", "both", "mean"]
    assert report.loc["both", "auroc"] == report.loc[["near", "far"], "auroc"].mean()
    assert report.loc["both", "n_ood"] == 80
    alone = ood_report(y, scores["good"], groups={"far": "distant"}, **options)
    assert alone.loc["distant", "auroc"] == alone.loc["far", "auroc"]
    assert alone.loc["distant", "n_ood"] == 50
    with pytest.raises(ValueError, match=r"groups has \['nowhere'\], which are no"):
        ood_report(y, scores["good"], groups={"nowhere": "both"}, **options)
    with pytest.raises(ValueError, match="groups has the name 'far', which another"):
        ood_report(y, scores["good"], groups={"near": "far"}, **options)
    with pytest.raises(ValueError, match="groups has the name 'mean', which another"):
        ood_report(y, scores["good"], groups={"near": "mean"}, **options)


def test_report_shapes(example):
    y, source, scores = example
    single = ood_report(y, scores["good"], n_bootstrap=0)
    assert single.index.tolist() == ["all"]
    assert list(single.columns) == ["n_id", "n_ood", *expected(y, scores["good"])]
    detectors = ood_report(y, scores, n_bootstrap=0)
    assert detectors.index.tolist() == ["good", "bad"]
    assert detectors.index.name == "detector"
    for name in scores:
        values = expected(y, scores[name])
        assert detectors.loc[name, list(values)].to_dict() == pytest.approx(values)
    both = ood_report(y, scores, sources=source, n_bootstrap=0)
    assert both.index.names == ["detector", "source"]
    assert len(both) == 6
    assert both.loc[("bad", "mean"), "n_ood"] == 80
    only = np.where(source == "near", "far", source)
    assert ood_report(y, scores, sources=only, n_bootstrap=0).index.tolist() == [
        ("good", "far"),
        ("bad", "far"),
    ]


def test_report_bounds_follow_each_metric_and_hold_its_value(example):
    y, source, scores = example
    report = ood_report(y, scores, sources=source, n_bootstrap=200)
    names = list(expected(y, scores["good"]))
    wanted = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    assert list(report.columns) == ["n_id", "n_ood", *wanted]
    for name in names:
        assert (report[f"{name}_low"] <= report[name]).all()
        assert (report[name] <= report[f"{name}_high"]).all()


def test_report_is_seeded_and_draws_the_same_rows_for_every_detector(example):
    y, source, scores = example
    options = {"sources": source, "n_bootstrap": 50}
    first = ood_report(y, scores["bad"], **options)
    pd.testing.assert_frame_equal(first, ood_report(y, scores["bad"], **options))
    other = ood_report(y, scores["bad"], **options, random_state=1)
    assert not first.equals(other)
    twins = ood_report(y, {"one": scores["bad"], "two": 2 * scores["bad"]}, **options)
    pd.testing.assert_frame_equal(twins.loc["one"], twins.loc["two"])
    pd.testing.assert_frame_equal(twins.loc["one"], first)


def test_report_draws_the_same_inliers_for_every_source():
    y = np.repeat([0, -1, -1], [20, 80, 80])
    scores = np.random.default_rng(0).normal(size=180)
    scores[100:] = scores[20:100]
    apart = np.repeat(["", "a", "b"], [20, 80, 80])
    report = ood_report(y, scores, sources=apart, n_bootstrap=400)
    width = report["auroc_high"] - report["auroc_low"]
    # were the inliers drawn anew, the mean would be narrower by the root of 2
    assert width["mean"] > 0.83 * width["a"]
    assert width["mean"] < width["a"]


def test_bounds_agree_with_a_plain_stratified_bootstrap(example):
    y, _, scores = example
    rng = np.random.default_rng(1)
    inliers, outliers = np.flatnonzero(y != -1), np.flatnonzero(y == -1)
    draws = []
    for _ in range(1000):
        rows = np.r_[rng.choice(inliers, 100), rng.choice(outliers, 80)]
        draws.append(expected(y[rows], scores["good"][rows]))
    slow = pd.DataFrame(draws).quantile([0.05, 0.95])
    report = ood_report(y, scores["good"], n_bootstrap=1000, confidence_level=0.9).loc[
        "all"
    ]
    for name in slow:
        assert report[f"{name}_low"] == pytest.approx(slow.loc[0.05, name], abs=0.02)
        assert report[f"{name}_high"] == pytest.approx(slow.loc[0.95, name], abs=0.02)


def test_bounds_hold_the_truth_about_as_often_as_they_say():
    truth = norm.cdf(1 / np.sqrt(2))
    y = np.repeat([0, -1], [80, 80])
    held = []
    for seed in range(150):
        scores = np.random.default_rng(seed).normal(size=160) + (y == 0)
        row = ood_report(
            y, scores, n_bootstrap=150, confidence_level=0.9, random_state=seed
        ).loc["all"]
        held.append(row["auroc_low"] <= truth <= row["auroc_high"])
    assert 0.8 <= np.mean(held) <= 0.97


def test_report_takes_a_random_state_instance(example):
    y, _, scores = example
    frames = [
        ood_report(y, scores, n_bootstrap=5, random_state=np.random.RandomState(3))
        for _ in range(2)
    ]
    pd.testing.assert_frame_equal(*frames)


def test_report_names_what_is_wrong(example):
    y, source, scores = example
    broken = scores["bad"].copy()
    broken[5] = np.nan
    with pytest.raises(ValueError, match=r"scores\['bad'\] has 1 NaN of 180"):
        ood_report(y, {**scores, "bad": broken})
    with pytest.raises(ValueError, match=r"scores\['good'\] has 9 rows but y_true 180"):
        ood_report(y, {"good": np.zeros(9)})
    with pytest.raises(ValueError, match=r"^scores has 9 rows but y_true 180"):
        ood_report(y, np.zeros(9))
    with pytest.raises(ValueError, match="sources has 5 rows but y 180"):
        ood_report(y, scores, sources=source[:5])
    unnamed = source.copy()
    unnamed[-1] = np.nan
    with pytest.raises(ValueError, match="sources has 1 missing names among the outl"):
        ood_report(y, scores, sources=unnamed)
    with pytest.raises(ValueError, match=r'source called "mean".*rename it'):
        ood_report(y, scores, sources=np.where(source == "far", "mean", source))
    with pytest.raises(ValueError, match="n_bootstrap must be an integer >= 0; got -1"):
        ood_report(y, scores, n_bootstrap=-1)
    for level in (0, 1, 95):
        with pytest.raises(ValueError, match=r"confidence_level must lie in \(0, 1\)"):
            ood_report(y, scores, confidence_level=level)
    with pytest.raises(ValueError, match="random_state must not be negative; got -3"):
        ood_report(y, scores, random_state=-3)
    with pytest.raises(ValueError, match="y_true has no outliers"):
        ood_report(np.zeros(180, int), scores, sources=source)
    with pytest.raises(ValueError, match="scores is an empty mapping"):
        ood_report(y, {})
