"""MSP, MaxLogit and Energy against plain loops, and their invariances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from references import logits as reference
from references.threshold import kth_smallest
from sklearn.base import clone

from skood import MSP, Energy, LayerFeatures, MaxLogit
from skood.numerics.logsumexp import log_sum_exp

CASES = [
    (MSP(), reference.msp),
    (MaxLogit(), reference.max_logit),
    (Energy(), reference.energy),
    (Energy(2.5), lambda logits: reference.energy(logits, 2.5)),
    (Energy(0.1), lambda logits: reference.energy(logits, 0.1)),
]
DETECTORS = [detector for detector, _ in CASES]

some_logits = hnp.arrays(
    np.float64,
    st.tuples(st.integers(2, 8), st.integers(2, 6)),
    elements=st.floats(-50, 50),
)


@pytest.fixture
def logits():
    return 4 * np.random.default_rng(0).normal(size=(60, 10))


def scores_of(detector, logits):
    return clone(detector).fit(logits).score_samples(logits)


def name_of(part):
    """What a test is called by, the same in every process."""
    return getattr(part, "__name__", str(part))


@pytest.mark.parametrize(("detector", "expected"), CASES, ids=name_of)
def test_equals_the_plain_loops(logits, detector, expected):
    np.testing.assert_allclose(
        scores_of(detector, logits), expected(logits), rtol=1e-12
    )


@pytest.mark.parametrize(("detector", "expected"), CASES, ids=name_of)
def test_float32_loses_no_more_than_its_input(logits, detector, expected):
    narrow = logits.astype(np.float32)
    np.testing.assert_allclose(
        scores_of(detector, narrow), expected(narrow.astype(float)), rtol=1e-12
    )


@pytest.mark.parametrize("detector", DETECTORS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_kernel_is_the_same(logits, detector, dtype):
    tensor = torch.tensor(logits, dtype=dtype)
    np.testing.assert_allclose(
        detector._logit_scores(tensor),
        detector._logit_scores(tensor.numpy()),
        rtol=1e-12,
    )


@pytest.mark.parametrize("detector", DETECTORS, ids=str)
def test_only_the_logits_are_read(logits, detector):
    features = LayerFeatures({"layer1": np.full((60, 2), np.nan), "logits": logits})
    fitted = clone(detector).fit(features)
    np.testing.assert_array_equal(
        fitted.score_samples(features), scores_of(detector, logits)
    )
    with pytest.raises(ValueError, match="no layer 'logits'; there are \\['layer1'\\]"):
        clone(detector).fit(features.select("layer1"))


@pytest.mark.parametrize("detector", DETECTORS, ids=str)
def test_threshold_counts_the_inliers_and_a_new_row(logits, detector):
    y = np.where(np.arange(60) < 50, 0, -1)
    fitted = clone(detector).set_params(contamination=0.2).fit(logits, y)
    expected = kth_smallest(fitted.score_samples(logits[:50]), 0.2)
    assert fitted.offset_ == expected
    # The tenth of 50 scores is an inlier itself: a new row is below it 10 times in 51.
    assert np.sum(fitted.predict(logits[:50]) == -1) == 9


@settings(max_examples=50)
@given(some_logits, st.floats(-1000, 1000))
def test_a_shift_of_all_logits(logits, shift):
    np.testing.assert_allclose(
        scores_of(MSP(), logits + shift), scores_of(MSP(), logits), rtol=1e-9
    )
    for detector in (MaxLogit(), Energy(3.0)):
        np.testing.assert_allclose(
            scores_of(detector, logits + shift),
            scores_of(detector, logits) + shift,
            rtol=1e-9,
            atol=1e-9,
        )


@settings(max_examples=50)
@given(some_logits, st.randoms(use_true_random=False))
def test_the_order_of_classes_is_no_matter(logits, random):
    order = random.sample(range(logits.shape[1]), logits.shape[1])
    for detector in DETECTORS:
        np.testing.assert_allclose(
            scores_of(detector, logits[:, order]),
            scores_of(detector, logits),
            rtol=1e-9,
            atol=1e-14,  # rounding of 50, where an energy is close to zero
        )


@settings(max_examples=50)
@given(some_logits, st.floats(0.01, 100))
def test_bounds(logits, temperature):
    n_classes = logits.shape[1]
    msp = scores_of(MSP(), logits)
    assert (msp >= 1 / n_classes - 1e-15).all()
    assert (msp <= 1).all()
    above = scores_of(Energy(temperature), logits) - scores_of(MaxLogit(), logits)
    assert (above >= -1e-9).all()
    assert (above <= temperature * np.log(n_classes) + 1e-9).all()


def test_energy_tends_to_the_largest_logit(logits):
    np.testing.assert_allclose(
        scores_of(Energy(1e-9), logits), scores_of(MaxLogit(), logits), atol=1e-7
    )


def test_huge_logits_do_not_overflow():
    logits = np.array([[1e30, 0.0], [-1e30, -1e30], [1e4, 1e4]])
    np.testing.assert_allclose(scores_of(MSP(), logits), [1, 0.5, 0.5])
    expected = [1e30, -1e30, 1e4 + np.log(2)]
    np.testing.assert_allclose(scores_of(Energy(), logits), expected, rtol=1e-12)
    np.testing.assert_allclose(log_sum_exp(logits.astype(np.float32)), expected)


def test_sure_rows_are_told_apart_beyond_the_digits_of_float32():
    logits = np.array([[20.0, 0.0], [25.0, 0.0], [36.0, 0.0]], dtype=np.float32)
    assert (np.diff(scores_of(MSP(), logits)) > 0).all()


def test_msp_of_one_column_is_refused():
    with pytest.raises(ValueError, match=r"n_features = 1.*give the logits"):
        MSP().fit(np.arange(5.0)[:, None])
    np.testing.assert_array_equal(
        scores_of(Energy(), np.arange(3.0)[:, None]), [0, 1, 2]
    )


@pytest.mark.parametrize("temperature", [0, -1.0, "one"])
def test_a_temperature_that_is_none(logits, temperature):
    with pytest.raises(ValueError, match="'temperature' parameter of Energy"):
        Energy(temperature).fit(logits)


def test_parameters_are_those_that_matter():
    assert set(MaxLogit().get_params()) == {"contamination", "device"}
    assert set(MSP().get_params()) == {"contamination", "device", "temperature"}
    assert set(Energy().get_params()) == {"contamination", "device", "temperature"}
