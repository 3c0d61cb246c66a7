"""The displays: what they hold, mark and label."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.covariance import EllipticEnvelope
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from skood import KNN, AutoOOD, LayerEnsemble, LayerFeatures, Mahalanobis
from skood.calibration import ConformalDetector, ShiftMonitor
from skood.estimator_checks import synthetic_features
from skood.metrics import auroc, fpr_at_tpr
from skood.model_selection import InlierKFold, ood_scorer
from skood.plotting import (
    DetDisplay,
    EnsembleReportDisplay,
    FlowDisplay,
    GridHeatmapDisplay,
    LayerAurocDisplay,
    MartingaleDisplay,
    NormRatioDisplay,
    PValueCalibrationDisplay,
    RocDisplay,
    ScoreHistogramDisplay,
)

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def _close_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(200, 3)), rng.normal(2, 1, size=(60, 3))])
    return X, np.repeat([0, -1], [200, 60])


def texts(legend):
    return [text.get_text() for text in legend.get_texts()]


SCORE_DISPLAYS = [ScoreHistogramDisplay, RocDisplay, DetDisplay]


@pytest.mark.parametrize("display", SCORE_DISPLAYS)
def test_estimator_and_its_scores_give_the_same_picture(display, data):
    X, y = data
    detector = make_pipeline(StandardScaler(), EllipticEnvelope(random_state=0))
    detector.fit(X[:100])
    scores = detector.score_samples(X)
    of_estimator = display.from_estimator(detector, X, y)
    of_scores = display.from_predictions(y, scores, name="EllipticEnvelope")
    for name, value in vars(of_scores).items():
        if name not in ("ax_", "figure_", "line_", "threshold"):
            np.testing.assert_array_equal(getattr(of_estimator, name), value)
    assert of_estimator.figure_ is not of_scores.figure_
    of_estimator.figure_.canvas.draw()


@pytest.mark.parametrize("display", SCORE_DISPLAYS)
def test_given_axes_are_drawn_on(display, data):
    X, y = data
    _, (first, second) = plt.subplots(1, 2)
    drawn = display.from_predictions(y, X[:, 0], ax=second)
    assert drawn.ax_ is second
    assert not first.has_data()
    assert second.get_xlabel()
    assert second.get_ylabel()


def test_histogram_shares_and_threshold(data):
    X, y = data
    detector = Mahalanobis().fit(X, y)
    display = ScoreHistogramDisplay.from_estimator(detector, X, y)
    assert display.threshold == detector.offset_
    flags = detector.predict(X)
    flagged, accepted = (flags[y == 0] == -1).mean(), (flags[y == -1] == 1).mean()
    assert texts(display.ax_.get_legend()) == [
        f"in-distribution ({flagged:.1%} flagged)",
        f"outliers ({accepted:.1%} accepted)",
        "threshold",
    ]
    heights = [bar.get_height() for bar in display.ax_.patches]
    assert sum(heights) == pytest.approx(2)


def test_histogram_of_far_and_infinite_scores():
    scores = np.r_[np.linspace(0, 1, 200), -1e9, -np.inf]
    y = np.r_[np.zeros(200), -1, -1]
    display = ScoreHistogramDisplay.from_predictions(y, scores)
    assert sum(b.get_height() for b in display.ax_.patches) == pytest.approx(2)


@pytest.mark.parametrize("far", [-5e7, 5e7, -np.inf])
@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
def test_histogram_tells_the_bulk_apart_however_far_outliers_lie(far, share):
    rng = np.random.default_rng(0)
    known, unlike = rng.normal(size=500), rng.normal(-2, 1, size=200)
    unlike[: int(share * 200)] = far
    y = np.repeat([0, -1], [500, 200])
    display = ScoreHistogramDisplay.from_predictions(y, np.r_[known, unlike])
    left, right = display.ax_.get_xlim()
    assert np.ptp(known) > 0.08 * (right - left)
    side = "below" if far < 0 else "above"
    note = display.ax_.get_xlabel().split("\n")[1]
    assert note == f"beyond the axis: {int(share * 200)} outliers {side}"
    assert sum(b.get_height() for b in display.ax_.patches) == pytest.approx(2)


def test_histogram_shows_all_where_nothing_is_far():
    scores = np.r_[np.linspace(0, 1, 100), np.linspace(-4, 0, 100)]
    y = np.repeat([0, -1], 100)
    display = ScoreHistogramDisplay.from_predictions(y, scores, threshold=0.1)
    assert "\n" not in display.ax_.get_xlabel()
    ends = [display.ax_.patches[0].get_x(), display.ax_.patches[49].get_x()]
    np.testing.assert_allclose(ends, [-4, 1 - 5 / 50])
    far = ScoreHistogramDisplay.from_predictions(y, scores, threshold=-5e7)
    assert far.ax_.get_xlabel().endswith("beyond the axis: the threshold, -5e+07")
    assert far.ax_.get_xlim()[0] > -10


def test_histogram_of_equal_and_of_infinite_scores():
    for known in (np.zeros(5), np.full(5, np.inf)):
        display = ScoreHistogramDisplay.from_predictions(
            np.repeat([0, -1], 5), np.r_[known, np.linspace(-1, 0, 5)]
        )
        assert np.isfinite(display.ax_.get_xlim()).all()


def test_histogram_without_score_samples_has_its_threshold_at_zero(data):
    class OnlyDecisions:
        offset_ = 5.0

        def decision_function(self, X):
            return X[:, 0]

    display = ScoreHistogramDisplay.from_estimator(OnlyDecisions(), *data)
    assert display.threshold == 0
    svm = OneClassSVM().fit(data[0])
    display = ScoreHistogramDisplay.from_estimator(svm, *data)
    assert display.threshold == pytest.approx(svm.offset_[0])


def test_roc_and_det_mark_fpr95_of_every_detector(data):
    X, y = data
    for display, height in ((RocDisplay, 0.95), (DetDisplay, -1.6448536)):
        one = display.from_predictions(y, X[:, 0] * -1, name="one")
        two = display.from_predictions(y, -X.sum(axis=1), name="two", ax=one.ax_)
        assert one.fpr95 == fpr_at_tpr(y, -X[:, 0])
        marks = [
            line.get_ydata()[0]
            for line in one.ax_.get_lines()
            if line.get_marker() == "o"
        ]
        np.testing.assert_allclose(marks, [height, height])
        assert one.line_.get_color() != two.line_.get_color()
        assert [t.split()[0] for t in texts(one.ax_.get_legend())] == ["one", "two"]


def test_roc_figures(data):
    X, y = data
    display = RocDisplay.from_predictions(y, -X[:, 0])
    assert display.auroc == auroc(y, -X[:, 0])
    assert np.trapezoid(display.tpr, display.fpr) == pytest.approx(display.auroc)
    (label,) = texts(display.ax_.get_legend())
    assert label == f"AUROC {display.auroc:.3f}, FPR95 {display.fpr95:.1%}"


def test_layers(data):
    X, y = data
    features = LayerFeatures({"early": X[:, :1], "late": X, ("late", "max"): X[:, :1]})
    display = LayerAurocDisplay.from_estimator(
        KNN(5, normalize=False), features, y, cv=InlierKFold(3)
    )
    assert display.layers == ["early", "late"]
    assert display.auroc[0] < display.auroc[1]
    assert (display.spread > 0).all()
    labels = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert labels == ["early", "late"]
    given = LayerAurocDisplay.from_predictions(y, {"a": -X[:, 0], "b": X[:, 0]})
    assert given.auroc.sum() == pytest.approx(1)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("method", ["split", "cross"])
def test_p_values_lie_in_the_band(method, log, data):
    rng = np.random.default_rng(1)
    fit, test = rng.normal(size=(2, 400, 2))
    detector = ConformalDetector(Mahalanobis(), method=method).fit(fit)
    X = np.vstack([test, rng.normal(3, 1, size=(50, 2))])
    y = np.repeat([0, -1], [400, 50])
    display = PValueCalibrationDisplay.from_estimator(detector, X, y, log=log)
    assert display.n_calibration == (80 if method == "split" else 400)
    levels = np.linspace(0.05, 1, 50)
    low, high = display._band(levels)
    share = (display.inlier_p_values <= levels[:, None]).mean(axis=1)
    assert ((low <= share) & (share <= high)).mean() > 0.8
    assert display.ax_.get_xscale() == ("log" if log else "linear")


def test_band_holds_shares_with_95_percent():
    rng = np.random.default_rng(0)
    level, inside = 0.2, 0
    for _ in range(1000):
        calibration, test = np.sort(rng.random(49)), rng.random(100)
        p = (1 + np.searchsorted(calibration, test, "right")) / 50
        display = PValueCalibrationDisplay(p, np.zeros(0), n_calibration=49)
        low, high = display._band(np.array([level]))
        inside += low[0] <= (p <= level).mean() <= high[0]
    assert 0.93 <= inside / 1000 <= 0.99


def test_grid(data):
    X, y = data
    search = GridSearchCV(
        make_pipeline(StandardScaler(), KNN(normalize=False)),
        {"knn__n_neighbors": [10, 1, 5], "knn__normalize": [False, True]},
        scoring=ood_scorer,
        refit="auroc",
        cv=InlierKFold(3),
    ).fit(X, y)
    display = GridHeatmapDisplay.from_estimator(
        search, "n_neighbors", "knn__normalize", metric="auroc"
    )
    assert display.rows == ("knn__n_neighbors", [1, 5, 10])
    assert display.columns == ("knn__normalize", [False, True])
    assert display.scores.max() == pytest.approx(search.best_score_)
    written = [text.get_text() for text in display.ax_.texts]
    assert f"{search.best_score_:.3f}" in written
    assert len(written) == 6


def test_colours_of_a_grid_tell_scores_apart_beside_a_far_one():
    scores = np.array([[0.80, 0.85, 0.90], [0.82, np.nan, -5e7]])
    display = GridHeatmapDisplay(scores, ("a", [1, 2]), ("b", [1, 2, 3])).plot()
    (image,) = display.ax_.get_images()
    low, high = image.get_clim()
    assert (low, high) == (pytest.approx(0.80 - 5 * 0.05), 0.90)
    (bar,) = [ax for ax in display.figure_.axes if ax is not display.ax_]
    assert bar.get_ylabel() == "mean test score (1 below the bar)"
    assert "-5e+07" in [text.get_text() for text in display.ax_.texts]
    given = GridHeatmapDisplay(scores, ("a", [1, 2]), ("b", [1, 2, 3])).plot(vmin=0)
    assert given.ax_.get_images()[0].get_clim()[0] == 0


def test_grid_takes_the_best_over_other_parameters_and_leaves_gaps():
    results = {
        "params": [
            {"a": 1, "b": "x", "c": 1},
            {"a": 1, "b": "x", "c": 2},
            {"a": 2, "b": ["y", "z"], "c": 1},
        ],
        "mean_test_score": [0.1, 0.7, np.nan],
    }
    display = GridHeatmapDisplay.from_predictions(results, "a", "b")
    np.testing.assert_array_equal(display.scores, [[0.7, np.nan], [np.nan, np.nan]])
    assert [t.get_text() for t in display.ax_.get_xticklabels()] == ["x", "y, z"]
    with pytest.raises(ValueError, match=r"parameter 'd': the search varied \['a'"):
        GridHeatmapDisplay.from_predictions(results, "a", "d")
    with pytest.raises(ValueError, match=r"metric='auroc': the search has \['score'\]"):
        GridHeatmapDisplay.from_predictions(results, "a", "b", metric="auroc")


def test_norm_ratios():
    ratios = {"layer1": 1.0, "layer2": 1.5}

    class Chosen:
        norm_ratios_, selected_layer_ = ratios, "layer2"

    display = NormRatioDisplay.from_estimator(Chosen())
    heights = [bar.get_height() for bar in display.ax_.patches]
    assert heights == [1.0, 1.5]
    colours = {bar.get_facecolor() for bar in display.ax_.patches}
    assert len(colours) == 2
    with pytest.raises(ValueError, match="KNN has no norm_ratios_"):
        NormRatioDisplay.from_estimator(KNN())


def test_flow_draws_a_ribbon_for_every_pair_of_components():
    rng = np.random.default_rng(0)
    pairs, y = rng.integers(0, 4, size=(50, 2)), np.repeat([0, -1], [30, 20])
    display = FlowDisplay.from_predictions(y, pairs, layers=("early", "late"))
    assert display.inlier_counts.sum() == 30
    for ax, rows in zip(display.axes_, (pairs[:30], pairs[30:]), strict=True):
        ribbons = [p for p in ax.patches if type(p).__name__ == "PathPatch"]
        assert len(ribbons) == len(np.unique(rows, axis=0))
        width = sum(np.ptp(r.get_path().vertices[[0, -2], 1]) for r in ribbons)
        assert width == pytest.approx(1)
    with pytest.raises(ValueError, match=r"components has shape \(50, 4\)"):
        FlowDisplay.from_predictions(y, np.hstack([pairs, pairs]))


def test_flow_asks_the_detector_for_its_counts():
    class Detector:
        def transition_counts(self, X, from_layer, to_layer):
            assert (from_layer, to_layer) == ("early", "late")
            return np.array([[len(X), 0], [0, 0]])

    X, y = np.zeros((5, 2)), [0, 0, 0, -1, -1]
    display = FlowDisplay.from_estimator(Detector(), X, y, "early", "late")
    assert display.inlier_counts[0, 0] == 3
    assert display.outlier_counts[0, 0] == 2
    assert display.layers == ("early", "late")
    with pytest.raises(ValueError, match=r"rows of one kind only \(5 of them\)"):
        FlowDisplay.from_estimator(Detector(), X, [0] * 5, "early", "late")


def test_flow_without_outliers_and_of_one_component():
    assert len(FlowDisplay(np.array([[3]]), np.array([[0]])).plot().axes_) == 2


def test_martingale():
    rng = np.random.default_rng(0)
    monitor = ShiftMonitor(Mahalanobis(), 0.05).fit(rng.normal(size=(300, 2)))
    monitor.update(rng.normal(3, 1, size=(50, 2)))
    display = MartingaleDisplay.from_estimator(monitor)
    assert display.alarm_at == monitor.alarm_at_
    assert "alarm, level 0.05" in texts(display.ax_.get_legend())
    np.testing.assert_allclose(
        display.line_.get_ydata() * np.log(10), monitor.log_martingale_
    )
    quiet = MartingaleDisplay.from_predictions([0.1, -0.2], ax=display.ax_)
    assert quiet.alarm_at is None


@pytest.mark.parametrize("display", [ScoreHistogramDisplay, PValueCalibrationDisplay])
def test_rows_must_be_usable(display):
    with pytest.raises(ValueError, match="one number a row is wanted"):
        display.from_predictions([0, 0, -1], [0.1, 0.2])
    with pytest.raises(ValueError, match="in-distribution rows are needed"):
        display.from_predictions([-1, -1], [0.1, 0.2])


def test_without_matplotlib_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"skood\[plot\]"):
        RocDisplay.from_predictions([0, -1], [1.0, 0.0])


@pytest.fixture(scope="module")
def ensemble():
    class Backwards(Mahalanobis):
        def _score(self, chunk):
            return -super()._score(chunk)

    features, y = synthetic_features(300, 60)
    members = [("knn", KNN(5)), ("back", Backwards()), ("far", Mahalanobis("layer1"))]
    return AutoOOD(members).fit(features, y)


def test_a_report_is_drawn_as_it_is(ensemble):
    display = EnsembleReportDisplay.from_estimator(make_pipeline(ensemble))
    ax, report = display.ax_, ensemble.report_
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        "knn",
        "far",
        "back (left out)",
    ]
    widths = [bar.get_width() for bar in ax.patches]
    np.testing.assert_allclose(widths, np.r_[100 * report["weight"][:2], 0])
    views = [text.get_text() for text in ax.texts]
    assert views == report["view"].tolist()
    marks = {line.get_label(): line.get_xdata() for line in ax.get_lines()}
    assert display.kinds == ["jigsaw", "outliers"]
    for kind in display.kinds:
        np.testing.assert_allclose(marks[kind], 100 * report[f"auroc_{kind}"])
    assert set(texts(ax.get_legend())) == {"weight", "jigsaw", "outliers"}
    assert ax.get_xlabel() == "weight and AUROC by kind of outliers, %"
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first member on top
    display.figure_.canvas.draw()


def test_a_report_shows_what_its_rule_has(data):
    X, _ = data
    features = LayerFeatures({"a": X, "b": X**3})
    fisher = LayerEnsemble(Mahalanobis(), combine="fisher").fit(features)
    display = EnsembleReportDisplay.from_estimator(fisher, name="both")
    assert not display.ax_.patches
    assert display.ax_.get_legend() is None
    assert display.ax_.get_title() == "both"
    mean = LayerEnsemble(Mahalanobis()).fit(features)
    _, (_, ax) = plt.subplots(1, 2)
    drawn = EnsembleReportDisplay(mean.report_).plot(ax, color="k")
    assert drawn.ax_ is ax
    assert drawn.kinds == []
    assert [bar.get_width() for bar in ax.patches] == [50, 50]
    assert ax.get_xlabel() == "weight, %"


def test_what_has_no_report_is_said(data):
    with pytest.raises(TypeError, match="Mahalanobis has no report_: give a fitted"):
        EnsembleReportDisplay.from_estimator(Mahalanobis().fit(data[0]))
    with pytest.raises(ValueError, match="not fitted yet"):
        EnsembleReportDisplay.from_estimator(AutoOOD())
    with pytest.raises(ValueError, match="no column 'view', 'weight', 'left_out'"):
        EnsembleReportDisplay({"a": 1})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda y, p: ScoreHistogramDisplay.from_predictions(y, p * np.nan),
            "y_score has 260 NaN of 260",
        ),
        (
            lambda y, p: PValueCalibrationDisplay.from_predictions(y, p + 1),
            r"p_values has 1\.\d+ at row 0",
        ),
        (lambda y, p: LayerAurocDisplay.from_predictions(y, {}), "y_scores is empty"),
        (
            lambda y, p: MartingaleDisplay.from_predictions([0, np.nan]),
            "log_martingale has 1 NaN of 2",
        ),
        (
            lambda y, p: MartingaleDisplay.from_predictions([0.0], level=2),
            "level=2: give a share",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message, data):
    with pytest.raises(ValueError, match=message):
        call(data[1], np.linspace(0.1, 0.9, 260))
