"""Probabilities from scores, beside the regression written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from skood.calibration.probability import LogisticCalibration

INSIDE = np.random.default_rng(0).normal(7, 2, 81)
OUTSIDE = np.random.default_rng(1).normal(2, 5, 30)
NEW = np.array([-1e30, -40.0, 0.0, 5.0, 7.0, 30.0])


def squashed(scores):
    low, centre, high = np.sort(INSIDE)[[20, 40, 60]]  # the quartiles of 81
    return np.arcsinh((scores - centre) / (high - low))


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_probabilities_are_a_logistic_regression_on_squashed_scores(weight):
    def loss(parameters):
        slope, intercept = parameters
        logits = squashed(np.concatenate([INSIDE, OUTSIDE])) * slope + intercept
        signs = np.repeat([1, -1], [81, 30])
        weights = np.repeat([weight, 1], [81, 30])
        return weights @ np.log1p(np.exp(-signs * logits)) + slope**2 / 2

    slope, intercept = minimize(loss, [1.0, 0.0], tol=1e-10).x
    expected = 1 / (1 + np.exp(-(squashed(NEW) * slope + intercept)))
    found = LogisticCalibration.of(INSIDE, OUTSIDE, weight)(NEW)
    np.testing.assert_allclose(found[:, 1], expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (np.diff(found[:, 1]) > 0).all()


def test_scores_that_do_not_vary_or_are_infinite_have_probabilities():
    same = LogisticCalibration.of(np.full(9, 2.0), np.array([-1.0, -np.inf]))
    low, high = same(np.array([-np.inf, 2.0]))[:, 1]
    assert 0 <= low < 0.5 < high <= 1
    assert (same.standard.centre, same.standard.spread) == (2, 1)
    none = LogisticCalibration.of(np.full(3, np.inf), np.array([0.0, 1.0, 2.0]))
    assert (none.standard.centre, none.standard.spread) == (0, 1)
    assert np.isfinite(none(np.array([0.0, np.inf]))).all()
