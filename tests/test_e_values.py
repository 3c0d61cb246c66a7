"""E-values over splits: against plain loops, and whether the rate holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from references import conformal as reference

from skood import ConformalDetector, Mahalanobis
from skood.calibration import conformal_e_values, conformal_p_values, e_discoveries

SCORES = st.lists(st.integers(-9, 9).map(float), min_size=1, max_size=30)


@given(SCORES, SCORES, st.sampled_from([0.1, 0.3, 0.6]))
def test_e_values_come_from_the_threshold(known, new, fdr):
    found = conformal_e_values(conformal_p_values(known, new), fdr)
    expected = reference.conformal_e_values(known, new, fdr)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@given(st.lists(st.integers(0, 20).map(float), min_size=1, max_size=12))
def test_e_discoveries_are_the_largest_set(values):
    found = e_discoveries(values, 0.2)
    assert found.tolist() == reference.e_benjamini_hochberg(values, 0.2)


@given(SCORES, SCORES)
def test_with_one_split_they_choose_what_benjamini_hochberg_does(known, new):
    p = conformal_p_values(known, new)
    chosen = e_discoveries(conformal_e_values(p, 0.3), 0.3)
    assert chosen.tolist() == reference.benjamini_hochberg(p.tolist(), 0.3)


def test_those_of_inliers_sum_to_at_most_the_number_of_rows():
    rng, sums = np.random.default_rng(0), []
    for _ in range(1000):
        known, new = rng.normal(size=40), rng.normal(size=20)
        new[:5] -= 3
        e = conformal_e_values(conformal_p_values(known, new), 0.2)
        sums.append(e[5:].sum())
    assert np.mean(sums) <= 20 + 3 * np.std(sums) / np.sqrt(len(sums))


@pytest.fixture(scope="module")
def selections():
    """False and found shares of a "cross" detector's selections, 40 times."""
    rng, fdr = np.random.default_rng(1), 0.2
    found = {"e-values": [], "by": []}
    for _ in range(40):
        X, new = rng.normal(size=(400, 3)), rng.normal(size=(60, 3))
        new[:15] += 3
        detector = ConformalDetector(Mahalanobis(), method="cross").fit(X)
        for method, own in found.items():
            chosen = detector.select(new, fdr, method)
            own.append((chosen[15:].sum() / max(chosen.sum(), 1), chosen[:15].mean()))
    return {method: np.array(own) for method, own in found.items()}


def test_the_rate_holds_over_folds(selections):
    false = selections["e-values"][:, 0]
    assert false.mean() <= 0.2 + 3 * false.std() / np.sqrt(len(false))


def test_they_find_what_any_dependence_forbids_otherwise(selections):
    assert selections["e-values"][:, 1].mean() > 0.5
    assert selections["by"][:, 1].mean() < 0.1


def test_over_folds_and_classes_they_are_means_and_least_ones():
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(300, 2)), np.repeat([0, 1], 150)
    X[y == 1] += 6
    new = np.vstack([X[:20], rng.normal(20, 1, size=(10, 2))])
    detector = ConformalDetector(
        Mahalanobis(), method="cross", class_conditional=True
    ).fit(X, y)
    scores = [one.score_samples(new) for one in detector.detectors_]
    by_class = []
    for of_class in detector._reference.scores:
        each = [
            reference.conformal_e_values(known.tolist(), own.tolist(), 0.2)
            for known, own in zip(of_class, scores, strict=True)
        ]
        by_class.append(np.mean(each, axis=0))
    expected = reference.e_benjamini_hochberg(np.min(by_class, axis=0).tolist(), 0.2)
    chosen = detector.select(new, 0.2, "e-values")
    assert chosen.tolist() == expected
    assert chosen[20:].all()


def test_one_row_a_split_is_refused():
    X = np.random.default_rng(0).normal(size=(30, 2))
    detector = ConformalDetector(Mahalanobis(), method="jackknife+").fit(X)
    with pytest.raises(ValueError, match=r"use select\(method='by'\)"):
        detector.select(X, 0.3, "e-values")
