"""Numbers at the ends of what float64 holds, and bytes in another machine's order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hard_rows import LAYOUTS, mapped

from skood import (
    NECO,
    PNML,
    CADRef,
    FeatureNorm,
    GaussianMixtureDetector,
    Gram,
    LayerFeatures,
    Mahalanobis,
    Residual,
    TemperatureScaledMSP,
    ViM,
)
from skood.estimator_checks import synthetic_features
from skood.numerics.moments import ClassMoments
from skood.numerics.rows import lengths, nonzero, power_of_two
from skood.numerics.shrinkage import Shrinkage


def times(factor):
    features, y = synthetic_features(60, 0)
    return mapped(features, lambda block: block * factor), y


@pytest.mark.parametrize("of", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_lengths_of_rows_whose_squares_do_not_fit(of):
    x = np.array([[3.0, 4.0], [3e200, -4e200], [0.0, 0.0], [1e308, 0.0]])
    found = np.asarray(lengths(of(x)))
    np.testing.assert_allclose(found, [5.0, 5e200, 0.0, 1e308])
    assert found[0] == np.sqrt(np.sum(x[0] ** 2))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("entry", [np.nan, np.inf])
def test_what_has_no_length_ends(entry):
    found = lengths(np.array([[entry, 1.0], [3.0, 4.0]]))
    assert not np.isfinite(found[0])
    assert found[1] == 5.0


def test_only_a_divisor_of_zero_becomes_one():
    found = nonzero(np.array([0.0, np.inf, 2.0, -3.0]))
    np.testing.assert_array_equal(found, [1.0, np.inf, 2.0, -3.0])


@pytest.mark.parametrize("size", [1.0, 3.0, 1e-300, 5e-324, 1e300])
def test_units_are_powers_of_two(size):
    unit = power_of_two(size)
    assert unit <= size < 2 * unit
    assert np.frexp(unit)[0] == 0.5
    assert power_of_two(0.0) == power_of_two(np.inf) == 1.0


@pytest.mark.parametrize("kind", ["oas", "ledoit_wolf"])
def test_shrinkage_is_the_same_in_all_units(kind):
    x = np.random.default_rng(0).normal(size=(40, 6)) * [1, 2, 3, 4, 5, 6]
    plain = ClassMoments.of(x, np.zeros(40, np.intp), 1)
    fourth = float((((x - x.mean(axis=0)) ** 2).sum(axis=1) ** 2).sum())
    expected = Shrinkage.of(kind, plain, fourth)
    assert 0 < expected.intensity < 1
    for power in (-200, 60, 250):
        factor = 2.0**power
        moments = ClassMoments.of(x * factor, np.zeros(40, np.intp), 1)
        # What overflows in the sum of fourth powers is the caller's.
        if kind == "ledoit_wolf" and abs(power) > 200:
            continue
        found = Shrinkage.of(kind, moments, fourth * factor**4)
        assert found.intensity == pytest.approx(expected.intensity, rel=1e-9)
        assert found.level == pytest.approx(expected.level * factor**2)


def test_a_mixture_of_large_features_is_that_of_small_ones():
    features, y = times(1.0)
    mixture = GaussianMixtureDetector(layers="layer1")
    plain = mixture.fit(features, y).score_samples(features)
    large, _ = times(2.0**330)
    found = mixture.fit(large, y).score_samples(large)
    np.testing.assert_allclose(found - found.mean(), plain - plain.mean(), atol=1e-6)


@pytest.mark.parametrize("power", [-700, -60, 40, 900])
def test_the_temperature_is_in_the_unit_of_the_logits(power):
    features, y = times(1.0)
    plain = TemperatureScaledMSP().fit(features, y).temperature_
    other, _ = times(2.0**power)
    found = TemperatureScaledMSP().fit(other, y).temperature_
    assert found == pytest.approx(plain * 2.0**power)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("detector", [ViM(), Residual(), NECO()], ids=repr)
def test_features_that_cannot_be_squared_are_refused(detector):
    with pytest.raises(ValueError, match="their squares do not fit float64"):
        detector.fit(*times(1e200))


@pytest.mark.parametrize("shrinkage", ["oas", 0.1])
def test_a_mixture_names_the_column_that_cannot_be_squared(shrinkage):
    X = np.random.default_rng(0).normal(size=(60, 4)) * [1.0, 1.0, 1e155, 1.0]
    for y in (None, np.arange(60) % 2):
        with pytest.raises(ValueError, match=r"'array' .*column 2 are too large"):
            GaussianMixtureDetector(shrinkage=shrinkage).fit(X, y)


def test_features_of_zeros_are_refused_or_said_not_to_vary():
    with pytest.raises(ValueError, match="all features of the training rows are zero"):
        PNML().fit(*times(0.0))
    with pytest.raises(ValueError, match="no row deviates from the range"):
        Gram().fit(*times(0.0))


def test_a_row_of_denormal_numbers_counts_as_one_of_zeros():
    features, y = times(1.0)
    detector = CADRef().fit(features, y)
    small = detector.score_samples(mapped(features, lambda b: 1e-310 * b))
    assert np.isfinite(small).all()
    assert small.min() > -1e6


def test_rows_beyond_float64_have_finite_scores_and_are_outliers():
    rng = np.random.default_rng(0)
    detector = Mahalanobis().fit(rng.normal(size=(50, 3)) * 1e-5)
    found = detector.score_samples([[1e300, 1e300, 0.0], [0.0, 0.0, 0.0]])
    assert found[0] < -1e100
    assert np.isfinite(found).all()
    assert detector.predict([[1e300, 1e300, 0.0]])[0] == -1
    mixture = GaussianMixtureDetector().fit(rng.normal(size=(50, 3)))
    assert mixture.predict([[1e200, 0.0, 0.0]])[0] == -1


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4", ">f8", ">i4", "<f2", ">f2"])
def test_blocks_come_in_the_machines_order_of_bytes(dtype):
    block = np.arange(12.0).reshape(4, 3).astype(dtype)
    features = LayerFeatures({("a", "l2"): block})
    for rows in (features, features[1:3], features[[2, 0]], features[::-1]):
        assert rows.block("a").dtype.isnative
    assert features.block("a").dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(features[[2, 0]].block("a"), block[[2, 0]])
    if np.dtype(dtype).isnative:
        assert features.block("a") is block


def test_norms_of_swapped_bytes():
    features, y = times(1.0)
    swapped = mapped(features, LAYOUTS["swapped bytes"])
    plain = FeatureNorm().fit(features, y)
    found = FeatureNorm().fit(swapped, y)
    assert found.norm_ratios_ == plain.norm_ratios_
    np.testing.assert_array_equal(
        found.score_samples(swapped), plain.score_samples(features)
    )
