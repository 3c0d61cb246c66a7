"""LSGM on rows that it has not seen, in many columns and in any unit."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from test_lsgm import COVARIANCES, three_layers

from skood import LSGM, LayerFeatures


def test_rows_no_one_has_seen_score_low_and_finite():
    far = LayerFeatures(
        {f"layer{i + 1}": np.full((3, w), 1e200) for i, w in enumerate((3, 4, 2))}
    )
    fitted = LSGM([3, 4, 2], random_state=0).fit(three_layers())
    scores = fitted.score_samples(far)
    assert np.isfinite(scores).all()
    assert (fitted.predict(far) == -1).all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"covariance_type": "full"},
        {"covariance_type": "tied"},
        {"prior": "dirichlet_process"},
        {"weighting": "first_layer", "assignments": "soft"},
        {"temper": True, "scale_layers": True},
    ],
    ids=str,
)
def test_threshold_holds_on_new_rows(options):
    """With the plain training scores up to every new row would be rejected."""
    rng = np.random.default_rng(0)
    mixes = [rng.normal(size=(d, d)) / np.sqrt(d) for d in (20, 40)]
    centres = [rng.normal(size=(5, d)) for d in (20, 40)]

    def rows(n):
        group = rng.integers(0, 5, n)
        return LayerFeatures(
            {
                f"layer{i}": np.maximum(c[group] + rng.normal(size=(n, len(m))) @ m, 0)
                for i, (m, c) in enumerate(zip(mixes, centres, strict=True))
            }
        )

    detector = LSGM(10, random_state=0, **options).fit(rows(800))
    assert 0.02 < np.mean(detector.predict(rows(4000)) == -1) < 0.1


def test_a_trace_that_crosses_groups_is_an_outlier():
    features = three_layers(2000)
    detector = LSGM(3, random_state=0).fit(features)
    straight, crossed = three_layers(400, 1), three_layers(400, 1)
    shuffled = np.random.default_rng(0).permutation(400)
    crossed = LayerFeatures(
        {
            "layer1": straight.block("layer1"),
            "layer2": straight.block("layer2")[shuffled],
            "layer3": straight.block("layer3"),
        }
    )
    scores = np.concatenate([detector.score_samples(f) for f in (straight, crossed)])
    assert roc_auc_score(np.repeat([1, 0], 400), scores) > 0.6
    inliers, outliers = (
        detector.transition_counts(f, "layer1", "layer2") for f in (straight, crossed)
    )
    assert inliers.sum() == outliers.sum() == 400
    assert inliers.max() > outliers.max()


@pytest.mark.parametrize("n", [1000, 3000])
def test_the_threshold_holds_with_many_components(n):
    """Taking rows out in closed form left part of them in: 7 to 9 % for 5."""
    rates = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        detector = LSGM(50, random_state=0).fit(rng.normal(size=(n, 16)))
        rates.append(np.mean(detector.predict(rng.normal(size=(4000, 16))) == -1))
    assert np.mean(rates) == pytest.approx(0.05, abs=0.015)


def test_the_threshold_holds_with_fewer_rows_than_features():
    rates = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        X, new = rng.normal(size=(30, 50)), rng.normal(size=(500, 50))
        detector = LSGM(2, covariance_type="tied", random_state=0).fit(X)
        rates.append(np.mean(detector.predict(new) == -1))
    assert np.mean(rates) < 0.12


@pytest.mark.parametrize("covariance_type", COVARIANCES)
def test_units_of_columns_make_no_difference_to_outliers(covariance_type):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 2)) * [1e9, 1]
    odd = np.c_[1e9 * rng.normal(size=300), np.full(300, 50.0)]
    detector = LSGM(3, covariance_type=covariance_type, random_state=0).fit(X)
    assert (detector.predict(odd) == -1).all()


@pytest.mark.parametrize("unit", [1e20, 1e-25, 1e100, 1e-100])
@pytest.mark.parametrize("covariance_type", COVARIANCES)
def test_layers_of_any_unit_work(covariance_type, unit):
    dtype = np.float32 if 1e-30 < unit < 1e30 else np.float64
    X = three_layers().block("layer2")
    detector = LSGM(3, covariance_type=covariance_type, random_state=0)
    one = clone(detector).fit(X)
    other = clone(detector).fit((unit * X).astype(dtype))
    moved = X.shape[1] * np.log(unit)
    assert other.offset_ + moved == pytest.approx(one.offset_, abs=1e-3)
    scores = other.score_samples((unit * X).astype(dtype))
    np.testing.assert_allclose(scores + moved, one.score_samples(X), atol=1e-3)


def test_columns_whose_squares_float32_would_lose_work():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    small = (X * [1.0, 1e-20, 1e15]).astype(np.float32)
    odd = X[:50] + np.array([0, 9, 0])
    detector = LSGM(2, random_state=0).fit(small)
    assert (detector.predict(odd * [1.0, 1e-20, 1e15]) == -1).all()


def test_values_whose_squares_do_not_fit_are_refused_by_column():
    X = three_layers().block("layer2").copy()
    X[:, 1] *= 1e155
    with pytest.raises(
        ValueError, match=r"layer 'array'.*values of column 1 are too la"
    ):
        LSGM(2, random_state=0).fit(X)


def test_a_prior_leaves_components_that_the_rows_have():
    """With a belief of d rows in each variance all components but two die."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(12, 100))
    X = centres[np.arange(600) % 12] + rng.normal(size=(600, 100))
    prior = LSGM(12, prior="dirichlet_process", random_state=0).fit(X)
    free = LSGM(12, random_state=0).fit(X)
    new = centres[np.arange(600) % 12] + rng.normal(size=(600, 100))
    odd = rng.normal(size=(600, 100)) * np.sqrt(2)
    auroc = [
        roc_auc_score(
            np.repeat([1, 0], 600),
            np.concatenate([d.score_samples(new), d.score_samples(odd)]),
        )
        for d in (prior, free)
    ]
    assert (prior.mixtures_["array", "avg"].weights > 0.01).sum() >= 10
    assert auroc[0] > auroc[1] - 0.01
