"""Weighted p-values: against plain sums, and whether they hold in simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from references import conformal as reference
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from skood.calibration import (
    conformal_p_values,
    likelihood_ratios,
    weighted_conformal_p_values,
)

ROWS = st.lists(
    st.tuples(st.integers(-5, 5).map(float), st.floats(0.01, 9)), min_size=1, max_size=9
)
LEVEL = 0.05


@given(ROWS, ROWS)
def test_p_values_are_sums_of_weights(known, new):
    (scores, weights), (new_scores, new_weights) = (
        [*zip(*rows, strict=True)] for rows in (known, new)
    )
    found = weighted_conformal_p_values(scores, new_scores, weights, new_weights)
    expected = [reference.weighted_p_value(scores, weights, *row) for row in new]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_equal_weights_are_plain_p_values():
    rng = np.random.default_rng(0)
    known, new = rng.normal(size=50), rng.normal(size=30)
    found = weighted_conformal_p_values(known, new, np.full(50, 3.0), np.full(30, 3.0))
    np.testing.assert_allclose(found, conformal_p_values(known, new), rtol=1e-12)


def experiment(scenario, repetitions=50):
    """Yield (calibration rows, new rows, true ratio) of Gaussians that change."""
    rng = np.random.default_rng(0)
    for _ in range(repetitions):
        known, new = rng.normal(size=(2, 300, 3))
        if scenario == "moved":
            new[:, 0] += 1
            yield known, new, lambda X: np.exp(X[:, 0] - 0.5)
        else:
            new[:, 0] *= 1.4
            yield known, new, lambda X: np.exp(X[:, 0] ** 2 * (1 - 1 / 1.96) / 2) / 1.4


def scores(X):
    """Those of a detector that was fitted elsewhere."""
    return -(X**2).sum(axis=1)


def alarms(scenario, weights_of):
    """The share of flagged in-distribution rows in each repetition."""
    found = []
    for known, new, ratio in experiment(scenario):
        then, now = weights_of(known, new, ratio)
        p = weighted_conformal_p_values(scores(known), scores(new), then, now)
        found.append(np.mean(p <= LEVEL))
    return np.array(found)


def exact(known, new, ratio):
    return ratio(known), ratio(new)


def none(known, new, ratio):
    return np.ones(len(known)), np.ones(len(new))


def linear(known, new, ratio):
    return likelihood_ratios(known, new)


def quadratic(known, new, ratio):
    model = make_pipeline(PolynomialFeatures(2), LogisticRegression(max_iter=500))
    return likelihood_ratios(known, new, model)


@pytest.mark.parametrize(
    ("scenario", "weights_of"),
    [
        ("moved", exact),
        ("moved", linear),
        ("moved", quadratic),
        ("spread", exact),
        ("spread", quadratic),
    ],
)
def test_the_rate_holds_with_ratios_that_are_right(scenario, weights_of):
    found = alarms(scenario, weights_of)
    assert found.mean() <= LEVEL + 3 * found.std() / np.sqrt(len(found))
    assert found.mean() > LEVEL / 3


@pytest.mark.parametrize(
    ("scenario", "weights_of"), [("moved", none), ("spread", linear)]
)
def test_it_does_not_hold_without_them(scenario, weights_of):
    """As the docstring says: neither unweighted nor with a model that cannot bend."""
    found = alarms(scenario, weights_of)
    assert found.mean() > 2 * LEVEL - 3 * found.std() / np.sqrt(len(found))


def test_outliers_among_the_new_rows_hide_behind_a_classifier():
    """Why the weights must be about what is allowed to change."""
    shares = {}
    for n_outliers in (0, 60):
        found = []
        for known, new, _ in experiment("moved", 12):
            apart = np.random.default_rng(1).normal([1, 4, 0], 0.5, size=(60, 3))
            seen = np.vstack([new, apart[:n_outliers]])
            then, now = quadratic(known, np.vstack([new, apart]), None)
            if n_outliers == 0:
                model = make_pipeline(
                    PolynomialFeatures(2), LogisticRegression(max_iter=500)
                ).fit(np.vstack([known, seen]), np.repeat([0, 1], [300, 300]))
                odds = [
                    model.predict_proba(X) for X in (known, np.vstack([new, apart]))
                ]
                then, now = (p[:, 1] / p[:, 0] for p in odds)
            p = weighted_conformal_p_values(
                scores(known), scores(apart), then, now[-60:]
            )
            found.append(np.mean(p <= LEVEL))
        shares[n_outliers] = np.mean(found)
    assert shares[60] < 0.3 < 0.7 < shares[0]


def test_ratios_do_not_depend_on_the_numbers_of_rows():
    rng = np.random.default_rng(0)
    then, now = rng.normal(size=(4000, 1)), rng.normal(1, 1, size=(1000, 1))
    for weights, X in zip(likelihood_ratios(then, now), (then, now), strict=True):
        truth = np.exp(X[:, 0] - 0.5)
        assert np.median(np.abs(np.log(weights / truth))) < 0.1


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], "calibration_weights has 1 entries for 2 scores"),
        ([1.0, -1.0], "calibration_weights has -1.0 at row 1"),
        ([np.nan, 1.0], "calibration_weights has nan at row 0"),
        ([0.0, 0.0], "calibration_weights are all 0"),
    ],
)
def test_weights_are_checked(weights, message):
    with pytest.raises(ValueError, match=message):
        weighted_conformal_p_values([0.0, 1.0], [0.5], weights, [1.0])


def test_a_certain_classifier_gives_finite_ratios():
    then, now = np.zeros((50, 1)), np.ones((50, 1))
    forest = LogisticRegression(C=1e9)
    for weights in likelihood_ratios(then, now, forest):
        assert np.isfinite(weights).all()
        assert (weights > 0).all()
