"""The checks: each takes an estimator and raises AssertionError if it breaks a rule."""

from __future__ import annotations

import pickle
import warnings
from copy import deepcopy
from io import BytesIO
from typing import Any
from unittest import mock

import joblib
import numpy as np
from scipy.stats import betabinom
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags

from skood.detectors.base import BaseDetector
from skood.detectors.training import Training
from skood.estimator_checks.hard import HARD, hard_features
from skood.estimator_checks.synthetic import synthetic_features
from skood.features import LayerFeatures, chunks
from skood.model_selection import InlierKFold, auroc_scorer
from skood.numerics.ranks import rank_for_rate


def check_outliers_score_lower(estimator: Any) -> None:
    """In-distribution rows score higher: no flipped sign."""
    features, y = synthetic_features()
    scores = _fitted(estimator).score_samples(features)
    auroc = roc_auc_score(y >= 0, scores)
    assert auroc > 0.9, f"AUROC {auroc:.3f} on easy outliers: is the sign flipped?"


def check_outlier_rows_are_not_fitted(estimator: Any) -> None:
    """Rows labelled -1 change nothing, bit for bit."""
    features, y = synthetic_features()
    order = np.random.default_rng(0).permutation(len(y))
    mixed = clone(estimator).fit(features[order], y[order])
    kept = order[y[order] >= 0]
    alone = clone(estimator).fit(features[kept], y[kept])
    np.testing.assert_array_equal(
        mixed.score_samples(features), alone.score_samples(features)
    )
    np.testing.assert_array_equal(mixed.offset_, alone.offset_)


def check_refit_of_a_search(estimator: Any) -> None:
    """A grid search runs, and its refit has not learnt from the outliers."""
    features, y = synthetic_features()
    search = GridSearchCV(
        make_pipeline(clone(estimator)),
        {f"{type(estimator).__name__.lower()}": [clone(estimator)]},
        scoring=auroc_scorer,
        cv=InlierKFold(2),
        error_score="raise",
    ).fit(features, y)
    alone = _fitted(estimator)
    np.testing.assert_array_equal(
        search.best_estimator_.score_samples(features), alone.score_samples(features)
    )


def check_decisions(estimator: Any) -> None:
    """``predict`` is the sign of ``decision_function``, a shift of the scores."""
    features, _ = synthetic_features()
    fitted = _fitted(estimator)
    decision = fitted.decision_function(features)
    assert decision.dtype == np.float64
    assert decision.shape == (len(features),)
    np.testing.assert_allclose(
        decision, fitted.score_samples(features) - fitted.offset_, atol=1e-12
    )
    np.testing.assert_array_equal(
        fitted.predict(features), np.where(decision >= 0, 1, -1)
    )


def check_false_alarms_on_new_rows(estimator: Any) -> None:
    """About the share ``contamination`` of new in-distribution rows is rejected."""
    features, y = synthetic_features(n_outliers=0)
    new, _ = synthetic_features(2000, 0, random_state=1)
    _check_rate(estimator, features, y, new)


def check_false_alarms_on_hard_data(estimator: Any) -> None:
    """The rate holds on data with few rows, decaying spectra, other units and ties.

    Up to two kinds of the data may be refused instead, by a ``ValueError`` of ``fit``.
    """
    if "layers" in estimator.get_params():
        estimator = clone(estimator).set_params(layers=None)
    refused: dict[str, str] = {}
    for case in HARD:
        for dtype in (np.float32, np.float64):
            kind: dict[str, Any] = {
                "dtype": dtype,
                "positive": _refuses_negatives(estimator),
            }
            features, y = hard_features(case, **kind)
            new, _ = hard_features(case, 1000, random_state=1, **kind)
            try:
                _check_rate(estimator, features, y, new)
            except ValueError as error:
                refused[case] = str(error)
            except Exception as error:
                where = f"on {case!r} in {dtype.__name__}: "
                raise AssertionError(f"{where}{error}") from error
    assert len(refused) <= 2, f"most ordinary data are refused: {refused}"


def check_container_equals_array(estimator: Any) -> None:
    """One layer in a container gives what the bare array gives, bit for bit."""
    features, y = synthetic_features()
    matrix = features.block("penultimate", "avg")
    try:
        bare = clone(estimator).set_params(**_without_layers(estimator))
        bare.fit(matrix, y)
    except ValueError as error:
        # A detector that cannot take an array has to say what it does take.
        assert "LayerFeatures" in str(error), f"unclear: {error}"
        return
    held = LayerFeatures({_key_of(bare): matrix})
    contained = clone(bare).fit(held, y)
    np.testing.assert_array_equal(
        bare.score_samples(matrix), contained.score_samples(held)
    )


def check_chunks_equal_whole(estimator: Any) -> None:
    """Fitting and scoring in small chunks gives what one piece gives."""
    features, y = synthetic_features()
    whole = _fitted(estimator)
    expected = whole.score_samples(features)
    with mock.patch.object(chunks, "chunk_rows", return_value=32):
        chunked = clone(estimator).fit(features, y)
        np.testing.assert_allclose(
            chunked.score_samples(features), expected, rtol=1e-6, atol=1e-9
        )
        np.testing.assert_allclose(chunked.offset_, whole.offset_, rtol=1e-6)


def check_batch_size_is_no_matter(estimator: Any) -> None:
    """In float32 a row's score does not depend on the rows beside it."""
    features, y = synthetic_features()
    single = _as_float32(features)
    fitted = clone(estimator).fit(single, y)
    whole = fitted.score_samples(single)
    parts = [fitted.score_samples(chunk) for chunk in single.iter_chunks(7)]
    np.testing.assert_allclose(
        np.concatenate(parts), whole, rtol=1e-6, atol=1e-6 * np.abs(whole).max()
    )


def check_units_do_not_matter(estimator: Any) -> None:
    """Features in other units separate as well as before, and stay finite."""
    features, y = synthetic_features()
    inlier = y >= 0
    for factor in (1e-4, 1e4):
        scaled = _scaled(features, factor)
        fitted = clone(estimator).fit(scaled, y)
        scores = fitted.score_samples(scaled)
        assert np.isfinite(scores).all(), f"not finite at a scale of {factor}."
        auroc = roc_auc_score(inlier, scores)
        assert auroc > 0.9, f"AUROC {auroc:.3f} at a scale of {factor}."


def check_labels_of_any_type(estimator: Any) -> None:
    """The names of the classes do not matter, only which rows share one."""
    features, y = synthetic_features()
    expected = _fitted(estimator).score_samples(features)
    names = np.array(["a", "b", "c", "-1"])[y]
    for labels in (names, y.astype(float), y.astype(np.int8), y.astype(object)):
        scores = clone(estimator).fit(features, labels).score_samples(features)
        np.testing.assert_array_equal(scores, expected)


def check_order_of_rows(estimator: Any) -> None:
    """Scores follow their rows."""
    features, _ = synthetic_features()
    fitted = _fitted(estimator)
    order = np.random.default_rng(1).permutation(len(features))
    np.testing.assert_allclose(
        fitted.score_samples(features[order]),
        fitted.score_samples(features)[order],
        rtol=1e-9,
    )


def check_files(estimator: Any) -> None:
    """A detector from a file scores as it did before."""
    features, _ = synthetic_features()
    fitted = _fitted(estimator)
    expected = fitted.decision_function(features)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.decision_function(features), expected)
    file = BytesIO()
    joblib.dump(fitted, file)
    file.seek(0)
    np.testing.assert_array_equal(
        joblib.load(file).decision_function(features), expected
    )


def check_input_is_left_alone(estimator: Any) -> None:
    """``fit`` and scoring change neither features nor labels."""
    features, y = synthetic_features()
    before, labels = deepcopy(features), y.copy()
    clone(estimator).fit(features, y).predict(features)
    np.testing.assert_array_equal(np.asarray(features), np.asarray(before))
    np.testing.assert_array_equal(y, labels)


def check_bad_input_is_refused(estimator: Any) -> None:
    """NaN, no rows, and labels of no use raise ``ValueError``."""
    features, y = synthetic_features()
    fitted = _fitted(estimator)
    spoilt = {name: features.block(*name).copy() for name in features.block_names}
    for block in spoilt.values():
        block[5] = np.nan
    bad = LayerFeatures(spoilt, features.head, features.views)
    if not get_tags(estimator).input_tags.allow_nan:
        _assert_refused(lambda: clone(estimator).fit(bad, y), "NaN in fit")
        _assert_refused(lambda: fitted.score_samples(bad), "NaN in score_samples")
    _assert_refused(lambda: fitted.score_samples(features[:0]), "no rows")
    only_outliers = np.full(len(y), -1)
    _assert_refused(lambda: clone(estimator).fit(features, only_outliers), "only -1")
    _assert_refused(lambda: clone(estimator).fit(features, y[:-3]), "too few labels")


CHECKS = [value for name, value in list(globals().items()) if name.startswith("check_")]
"""Every check, in the order of this file."""


def _check_rate(
    estimator: Any, features: LayerFeatures, y: Any, new: LayerFeatures
) -> None:
    """Compare the share of new rows rejected with what chance would make of it.

    The k-th smallest of n scores, k = floor(rate * (n + 1)), has a share of all new
    rows below it that is Beta(k, n + 1 - k), of which those given are a sample. Where
    ``fit`` warns that the rate cannot be kept (ties, few rows), only the upper end
    counts.
    """
    rate = getattr(estimator, "contamination", 0.05)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = clone(estimator).fit(features, y)
    found = np.mean(fitted.predict(new) == -1)
    n = len(features) // (5 if _may_keep_rows_out(fitted, features) else 1)
    m = len(new)
    k = max(rank_for_rate(n, rate), 1)
    highest = betabinom.ppf(1 - 1e-5, m, k, n + 1 - k) / m
    lowest = betabinom.ppf(1e-5, m, k, n + 1 - k) / m
    if any("contamination=" in str(warning.message) for warning in caught):
        lowest = 0.0
    assert lowest <= found <= highest, (
        f"{found:.1%} of new rows are rejected where contamination={rate} asks for "
        f"{k / (n + 1):.1%}; chance makes {lowest:.1%} to {highest:.1%} of it."
    )


def _may_keep_rows_out(fitted: Any, features: LayerFeatures) -> bool:
    """Return whether a fifth of the rows may have set the threshold alone."""
    if not isinstance(fitted, BaseDetector):
        return "random_state" in fitted.get_params()
    rows = Training(features, features[:0])
    return fitted._differs_by_chance() or fitted._hangs_on_few(rows)


def _refuses_negatives(estimator: Any) -> bool:
    features, y = hard_features("units_apart", 60)
    try:
        clone(estimator).fit(features, y)
    except ValueError as error:
        return "negative" in str(error)
    return False


def _fitted(estimator: Any) -> Any:
    features, y = synthetic_features()
    return clone(estimator).fit(features, y)


def _without_layers(estimator: Any) -> dict[str, None]:
    return {"layers": None} if "layers" in estimator.get_params() else {}


def _key_of(estimator: Any) -> tuple[str, str]:
    key = getattr(estimator, "_array_key", None)
    return ("array", "avg") if key is None else key()


def _mapped(features: LayerFeatures, change: Any) -> LayerFeatures:
    blocks = {name: change(features.block(*name)) for name in features.block_names}
    views = {name: _mapped(view, change) for name, view in features.views.items()}
    return LayerFeatures(blocks, features.head, views)


def _as_float32(features: LayerFeatures) -> LayerFeatures:
    return _mapped(features, lambda block: block.astype(np.float32))


def _scaled(features: LayerFeatures, factor: float) -> LayerFeatures:
    """Return the hidden layers in other units; logits have none to change."""
    blocks = {
        (layer, statistic): features.block(layer, statistic)
        * factor ** {"avg": 1, "max": 1, "l2": 1, "gram": 2}.get(statistic, 0)
        for layer, statistic in features.block_names
    }
    views = {name: _scaled(view, factor) for name, view in features.views.items()}
    return LayerFeatures(blocks, features.head, views)


def _assert_refused(call: Any, what: str) -> None:
    try:
        call()
    except ValueError:
        return
    raise AssertionError(f"no ValueError for {what}.")
