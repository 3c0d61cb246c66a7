"""AutoOOD with few rows, odd data and wrong arguments: it fits, or says what to do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.utils import get_tags

import skood
from skood import (
    FDBD,
    KNN,
    AutoOOD,
    DetectorEnsemble,
    Energy,
    Gram,
    InlierKFold,
    LayerEnsemble,
    LayerFeatures,
    Mahalanobis,
    auroc_scorer,
    compare,
)
from skood.detectors import BaseDetector
from skood.ensemble.comparable import Comparable
from skood.estimator_checks import synthetic_features


@pytest.fixture(scope="module")
def data():
    features, y = synthetic_features(240, 60)
    return features, y


def changed(features, name=None, row=None, view=None, keys=None):
    """The features with a NaN in one block of one row, or of one row of a view."""
    source = features if view is None else features.views[view]
    keys = features.block_names if keys is None else keys
    blocks = {key: source.block(*key).copy() for key in keys}
    if row is not None:
        for key in keys if name is None else [name]:
            blocks[key][row] = np.nan
    made = LayerFeatures(blocks, features.head)
    if view is None:
        return made
    whole = {key: features.block(*key) for key in features.block_names}
    return LayerFeatures(whole, features.head, {view: made})


FEW = pytest.mark.filterwarnings(
    "ignore:contamination=0.05 takes 19", "ignore:classes with one row only"
)


@FEW
@pytest.mark.parametrize("n_rows", [5, 6, 7, 9, 14, 20, 28, 30])
def test_few_rows_give_scores_that_differ(n_rows, data):
    features, y = data
    inliers = features[:n_rows]
    full = AutoOOD().fit(inliers, y[:n_rows])
    assert full.combine_ == "mean" or n_rows >= 30  # weights of few rows are noise
    assert len(np.unique(full.score_samples(features))) > 200
    lda = AutoOOD(combine="lda").fit(inliers, y[:n_rows])
    assert np.isfinite(lda.weights_).all()
    X = features.block("layer1")
    for combine in ("auto", "fisher", "min"):
        fitted = AutoOOD(combine=combine).fit(X[:n_rows])
        # above all that make them comparable, scores tie
        assert len(np.unique(fitted.score_samples(X))) > 100
        assert len(fitted.calibration_scores_) >= 1


@FEW
@pytest.mark.parametrize("calibration", [1e-6, 1 - 1e-6])
def test_any_share_leaves_rows_to_fit_and_to_calibrate(calibration, data):
    features, y = data
    fitted = AutoOOD(calibration=calibration).fit(features, y)
    n_rows = len(
        fitted.members_["KNN, penultimate"].detector.banks_["penultimate", "avg"]
    )
    assert n_rows == (237 if calibration < 0.5 else 2)
    assert len(fitted.calibration_scores_) == (1 if calibration < 0.5 else 159)


@FEW
def test_threshold_data_of_few_rows(data):
    features, y = data
    assert AutoOOD().fit(features, y, threshold_data=features[:3]).combine_ == "mean"
    with pytest.raises(ValueError, match="threshold_data: n_samples=2, and a minimum"):
        AutoOOD().fit(features, y, threshold_data=features[:2])


@pytest.mark.parametrize("factor", [1e-200, 1e200, 1e-30])
def test_scores_of_any_size_are_comparable(factor):
    scores = np.random.default_rng(0).normal(size=300)
    expected = Comparable.of(scores).standardised(scores)
    found = Comparable.of(scores * factor).standardised(scores * factor)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("members", "error", "text"),
    [
        ("autos", ValueError, "'members' parameter of AutoOOD must be"),
        (None, ValueError, "'members' parameter of AutoOOD must be"),
        ([], ValueError, "members has the names .*at least one"),
        (["KNN", "MSP"], ValueError, r"members=\['KNN', 'MSP'\]: give a list of \(na"),
        ([KNN(), Energy()], ValueError, r"members=\[KNN\(\), Energy\(\)\]: give a l"),
        ([("knn", "KNN")], TypeError, "members has 'KNN' as 'knn': give an instance"),
        ([("knn", KNN)], TypeError, "members has <class.*as 'knn'"),
        ([("a__b", KNN())], ValueError, "members__name__parameter is how"),
        ([([1], KNN())], ValueError, r"members has the name \[1\]: give text"),
        ([("a", KNN()), ("a", KNN())], ValueError, "each once"),
        ([("a", "drop")], ValueError, "every one of members is 'drop'"),
        (
            [("far", KNN(layers="layr1"))],
            ValueError,
            r"member 'far': there is no layer 'layr1'.*Did you mean 'layer1'",
        ),
    ],
)
def test_what_are_no_members_is_said(members, error, text, data):
    features, y = data
    with pytest.raises(error, match=text):
        AutoOOD(members).fit(features, y)


def test_a_member_that_gives_no_number_a_row_is_named(data):
    features, y = data
    with pytest.raises(ValueError, match=r"member 'lr': LogisticReg.*\(16, 3\) for 16"):
        AutoOOD([("lr", LogisticRegression())]).fit(features, y)
    with pytest.raises(ValueError, match=r"detectors='KNN': give a list of \(name"):
        compare("KNN", features[:240], y[:240], outliers={"a": features[240:]})


class NotANumber(BaseDetector):
    value: float = np.nan

    def _fit(self, training):
        self.value_ = np.array(self.value)

    def _score(self, chunk):
        return np.full(len(chunk), float(self.value_))


class SometimesNot(NotANumber):
    """NaN on pseudo outliers alone, so that its own threshold is found."""

    def _score(self, chunk):
        norms = chunk.block("layer1", "avg").sum(axis=1)
        return np.where(norms < 3.5, np.nan, norms)


@pytest.mark.parametrize(
    "member",
    [NotANumber(), NotANumber(value=np.inf), NotANumber(value=-np.inf), SometimesNot()],
)
def test_members_without_numbers_are_left_out_and_named(member, data):
    features, y = data
    fitted = AutoOOD([("knn", KNN(5)), ("no", member)]).fit(features, y)
    assert list(fitted.members_) == ["knn"]
    assert "NaN" in fitted.left_out_["no"] or "not finite" in fitted.left_out_["no"]
    assert fitted.report_.loc["no", "left_out"] == fitted.left_out_["no"]
    with pytest.raises(ValueError, match=r"NaN|not finite"):
        AutoOOD([("no", member)]).fit(features, y)
    with pytest.raises(ValueError, match=r"member 'no': .*(NaN|not finite)"):
        DetectorEnsemble([("knn", KNN(5)), ("no", member)], combine="lda").fit(
            features, y
        )


def test_nan_is_found_wherever_it_is(data):
    features, y = data
    with pytest.raises(ValueError, match=r"^Input layer 'layer1'.*contains NaN"):
        AutoOOD([("energy", Energy())]).fit(changed(features, ("layer1", "avg"), 5), y)
    with pytest.raises(ValueError, match=r"^rows of label -1: Input.*contains NaN"):
        AutoOOD().fit(changed(features, row=250), y)
    with pytest.raises(ValueError, match=r"^threshold_data: Input.*contains NaN"):
        AutoOOD().fit(features, y, threshold_data=changed(features[:90], row=[1, 2, 3]))
    rows = slice(None, 240)
    with pytest.raises(ValueError, match=r"^views\['jigsaw'\]: Input.*contains NaN"):
        AutoOOD().fit(changed(features, row=rows, view="jigsaw"), y)


def test_a_view_that_lacks_blocks_is_named(data):
    features, y = data
    partial = changed(features, view="jigsaw", keys=[("layer1", "avg")])
    with pytest.raises(ValueError, match=r"views\['jigsaw'\] lacks \d+ of the blocks"):
        AutoOOD().fit(partial, y)
    pairs = [("near", KNN(layers="layer1")), ("far", Mahalanobis(layers="layer2"))]
    message = r"views\['jigsaw'\] lacks 1 of the blocks, layer2/avg"
    with pytest.raises(ValueError, match=message):
        DetectorEnsemble(pairs, combine="lda").fit(partial, y)
    DetectorEnsemble(pairs).fit(partial, y)  # which looks at no view
    near = DetectorEnsemble(pairs[:1], combine="lda").fit(partial, y)
    both = DetectorEnsemble(pairs, combine="lda").fit(features, y)
    assert np.isfinite(near.score_samples(partial)).all()
    assert np.isfinite(both.score_samples(partial)).all()  # nor do new rows' count
    with pytest.raises(ValueError, match=f"^threshold_data: {message}"):
        DetectorEnsemble(pairs, combine="lda").fit(features, y, threshold_data=partial)


def test_known_outliers_have_a_column_beside_a_view_of_that_name(data):
    features, y = data
    view = LayerFeatures({"layer1": features.block("layer1")}, features.head)
    named = LayerFeatures(
        {"layer1": -features.block("layer1")}, None, {"outliers": view}
    )
    report = AutoOOD([("knn", KNN())]).fit(named, y).report_
    assert {"auroc_outliers", "auroc_known outliers"} <= set(report)


@pytest.mark.parametrize("error", [RuntimeError, KeyError, ZeroDivisionError])
@pytest.mark.parametrize("method", ["_fit", "_score"])
def test_an_error_of_any_kind_names_the_member(method, error, data):
    def broken(*_):
        raise error("a reason")

    features, y = data
    kind = type("Broken", (KNN,), {method: broken})
    with pytest.raises(RuntimeError, match=r"member 'broken':.*a reason"):
        DetectorEnsemble([("knn", KNN()), ("broken", kind())]).fit(features, y)


@pytest.mark.parametrize(
    "labels",
    [
        lambda y: np.where(y < 0, "-1", np.array(["a", "b", "c"])[y]),
        lambda y: pd.Series(np.where(y < 0, -1, y * 7), index=range(9, 9 + len(y))),
        lambda y: y.astype(float),
        lambda y: y.tolist(),
    ],
)
def test_labels_of_any_kind_are_the_same_classes(labels, data):
    features, y = data
    expected = AutoOOD().fit(features, y).score_samples(features)
    found = AutoOOD().fit(features, labels(y)).score_samples(features)
    np.testing.assert_array_equal(found, expected)


def test_one_class_is_no_classes(data):
    features, _ = data
    inliers = features[:240]
    fitted = AutoOOD().fit(inliers, np.full(240, 3))
    plain = AutoOOD().fit(inliers)
    assert list(fitted.members_) == list(plain.members_)
    np.testing.assert_allclose(
        fitted.score_samples(features), plain.score_samples(features)
    )


def test_frames_are_tables(data):
    features, y = data
    X = features.block("layer2")
    frame = pd.DataFrame(X, columns=[f"c{number}" for number in range(X.shape[1])])
    fitted = AutoOOD().fit(frame, y)
    np.testing.assert_array_equal(
        fitted.score_samples(frame), AutoOOD().fit(X, y).score_samples(X)
    )
    assert fitted.explain(frame.iloc[[0]]).shape == (2, 5)
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame.rename(columns={"c0": "other"}))


def test_a_search_reaches_the_members(data):
    features, y = data
    auto = AutoOOD([("knn", KNN(3)), ("energy", Energy())])
    search = GridSearchCV(
        auto,
        {
            "members__knn__n_neighbors": [1, 5],
            "members__energy": [Energy(), "drop"],
            "combine": ["mean", "fisher"],
        },
        scoring=auroc_scorer,
        cv=InlierKFold(2),
        error_score="raise",
    ).fit(features, y)
    best = search.best_params_
    found = search.best_estimator_
    assert (
        found.members_["knn"].detector.n_neighbors == best["members__knn__n_neighbors"]
    )
    assert ("energy" in found.members_) == (best["members__energy"] != "drop")
    assert auto.members[0][1].n_neighbors == 3
    assert clone(auto).get_params()["members__knn__n_neighbors"] == 3
    chosen = GridSearchCV(
        AutoOOD(),
        {"members": ["auto", [("knn", KNN(3))]]},
        scoring=auroc_scorer,
        cv=InlierKFold(2),
        error_score="raise",
    ).fit(features, y)
    assert chosen.best_params_["members"] in ("auto", [("knn", KNN(3))])


def test_parameters_that_are_not_there_are_said():
    with pytest.raises(ValueError, match="members has no 'knn'; it is 'auto'"):
        AutoOOD().set_params(members__knn=KNN())
    with pytest.raises(ValueError, match="members has no 'far'; its names are 'knn'"):
        AutoOOD([("knn", KNN())]).set_params(members__far=KNN())
    with pytest.raises(ValueError, match="members has 'drop' as 'knn', which has no p"):
        AutoOOD([("knn", "drop")]).set_params(members__knn__n_neighbors=2)
    with pytest.raises(ValueError, match="detectors has 'drop' as 'knn'"):
        DetectorEnsemble([("knn", "drop")]).set_params(detectors__knn__n_neighbors=2)


def test_tags_of_auto_say_whether_arrays_will_do():
    assert get_tags(AutoOOD()).input_tags.two_d_array
    far = AutoOOD([("knn", KNN(layers="layer1"))])
    assert not get_tags(far).input_tags.two_d_array


@pytest.mark.parametrize(
    "ensemble",
    [
        AutoOOD([("knn", KNN(3)), ("distance", Mahalanobis())], combine="fisher"),
        LayerEnsemble(Mahalanobis()),
    ],
)
def test_a_saved_ensemble_says_the_same(ensemble, data, tmp_path):
    features, y = data
    fitted = clone(ensemble).fit(features, y)
    skood.save(fitted, tmp_path / "saved")
    again = skood.load(tmp_path / "saved")
    np.testing.assert_array_equal(again.p_values(features), fitted.p_values(features))
    pd.testing.assert_frame_equal(again.report_, fitted.report_)
    pd.testing.assert_frame_equal(
        again.explain(features[3]), fitted.explain(features[3])
    )


def test_an_unfitted_ensemble_says_so(data):
    for ensemble in (AutoOOD(), LayerEnsemble(KNN())):
        for ask in (ensemble.p_values, ensemble.explain, ensemble.score_samples):
            with pytest.raises(NotFittedError):
                ask(data[0])


@FEW
def test_few_rows_are_no_evidence_against_a_member():
    # Two rows against two pseudo outliers: one order in six has an AUROC of 0.
    for seed in range(40):
        X = np.random.default_rng(seed).normal(size=(30, 8))
        assert not AutoOOD(random_state=seed).fit(X).left_out_


@pytest.mark.parametrize("combine", ["mean", "fisher", "min"])
def test_members_below_chance_are_left_out_under_any_rule(combine, data):
    features, y = data
    members = [("knn", KNN(5)), ("back", Backwards())]
    fitted = AutoOOD(members, combine=combine).fit(features, y)
    assert "below chance" in fitted.left_out_["back"]
    assert fitted.report_.loc["knn", "auroc_jigsaw"] > 0.5


class Backwards(Mahalanobis):
    def _score(self, chunk):
        return -super()._score(chunk)


def test_a_head_is_used_without_labels(data):
    features, y = data
    key = ("penultimate", "avg")
    one = LayerFeatures({key: features.block(*key)}, features.head)
    assert "FDBD" in AutoOOD().fit(one, y).members_
    assert "FDBD" in AutoOOD().fit(one[:240]).members_


class OneIsInfinite(Mahalanobis):
    """Infinite for rows that are near, which hides how far the others are."""

    def _score(self, chunk):
        scores = super()._score(chunk)
        return np.where(scores > -1.5, np.inf, scores)


@pytest.mark.parametrize("ensemble", [AutoOOD, DetectorEnsemble])
def test_members_that_are_infinite_now_and_then_are_left_out(ensemble):
    X = np.random.default_rng(0).normal(size=(300, 4))
    fitted = ensemble([("knn", KNN(3)), ("bad", OneIsInfinite())]).fit(X)
    assert list(fitted.members_) == ["knn"]
    assert fitted.left_out_["bad"] == "not finite on in-distribution rows"


def test_an_infinite_score_makes_no_ties_of_the_others():
    scores = np.random.default_rng(0).normal(size=300)
    for extreme in (np.inf, -np.inf, 1e200):
        scale = Comparable.of(np.append(scores, extreme))
        assert len(np.unique(scale.gaussian(scores))) > 250


class Refuses(Mahalanobis):
    error: type = ValueError

    def _score(self, chunk):
        scores = super()._score(chunk)
        if (scores < -100).any():
            raise self.error("too far")
        return scores


class Unfit(Mahalanobis):
    def _fit(self, training):
        raise TypeError("not these")


@pytest.mark.parametrize("error", [ValueError, TypeError])
def test_a_member_that_raises_is_named(error):
    X = np.random.default_rng(0).normal(size=(200, 3))
    members = [("knn", KNN(3)), ("far", Refuses(error=error))]
    for fitted in (AutoOOD(members).fit(X), DetectorEnsemble(members).fit(X)):
        for ask in (fitted.score_samples, fitted.predict, fitted.explain):
            with pytest.raises(error, match=r"^member 'far': too far"):
                ask(np.full((2, 3), 1e4))
    with pytest.raises(TypeError, match=r"^member 'no': not these"):
        AutoOOD([("knn", KNN(3)), ("no", Unfit())]).fit(X)


@pytest.mark.parametrize("given", [iter, lambda pairs: np.array(pairs, dtype=object)])
def test_pairs_that_can_be_read_once_only_are_refused(given):
    X = np.random.default_rng(0).normal(size=(100, 3))
    with pytest.raises(ValueError, match=r"give a list of \(name, detector\) pairs"):
        DetectorEnsemble(given([("a", KNN(3)), ("b", Mahalanobis())])).fit(X)


@pytest.mark.parametrize("detector", [Energy(), FDBD()])
def test_a_detector_of_the_networks_end_has_no_layers(detector, data):
    features, y = data
    name = type(detector).__name__
    with pytest.raises(ValueError, match=rf"detector={name}\(\) reads the end"):
        LayerEnsemble(detector).fit(features, y)
    layers = LayerEnsemble(Gram()).fit(features, y).members_  # reads both
    assert list(layers) == ["layer1", "layer2", "penultimate"]


@pytest.mark.filterwarnings("error::UserWarning")
def test_one_row_of_a_frame_is_explained():
    X = np.random.default_rng(0).normal(size=(300, 3))
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    fitted = AutoOOD().fit(frame)
    expected = fitted.explain(frame.iloc[[7]])
    pd.testing.assert_frame_equal(fitted.explain(frame.iloc[7]), expected)
