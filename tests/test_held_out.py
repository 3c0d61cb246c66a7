"""Rows held out of fits, and the thresholds that come of them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skood import LSGM, LayerFeatures
from skood.detectors import BaseDetector
from skood.detectors.threshold import threshold_for
from skood.detectors.training import Training
from skood.numerics.splits import folds, held_out_splits, nested_splits, share


@given(st.integers(2, 300), st.integers(1, 5), st.integers(0, 5))
def test_folds_hold_each_row_once_and_spread_the_classes(n_rows, n_classes, seed):
    classes = np.random.default_rng(seed).integers(0, n_classes, n_rows)
    parts = folds(n_rows, min(10, n_rows), classes, seed)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(n_rows))
    sizes = np.array(
        [np.bincount(classes[part], minlength=n_classes) for part in parts]
    )
    assert np.ptp(sizes, axis=0).max() <= 1


@given(st.integers(2, 300), st.integers(1, 5), st.floats(0.01, 0.99))
def test_a_share_leaves_every_class_a_row(n_rows, n_classes, size):
    classes = np.arange(n_rows) % n_classes
    drawn = share(n_rows, size, classes)
    if n_rows > n_classes:
        assert len(drawn) >= 1
        assert set(np.delete(classes, drawn)) == set(classes)


@pytest.mark.parametrize("n_rows", [10, 99, 2_001, 5_000, 7_003])
def test_nested_splits_hold_out_the_same_rows(n_rows):
    coarse, fine = nested_splits(n_rows)
    held_out = [np.sort(np.concatenate([out for _, out in s])) for s in (coarse, fine)]
    np.testing.assert_array_equal(*held_out)
    assert all(len(kept) == pytest.approx(0.8 * n_rows, abs=2) for kept, _ in coarse)
    assert all(len(kept) == pytest.approx(0.9 * n_rows, abs=2) for kept, _ in fine)


def test_many_rows_are_held_out_once_and_not_too_many():
    ((kept, held_out),) = held_out_splits(100_000, at_most=10_000)
    assert len(held_out) == 10_000
    assert not np.intersect1d(kept, held_out).size
    with pytest.raises(ValueError, match=r"n_samples=1: .* at least 2"):
        held_out_splits(1)


class Overfits(BaseDetector):
    """The distance to the nearest training row: 0 for a row that was fitted on."""

    def _fit(self, training):
        (self.rows_,) = self._arrays(training.features)

    def _score(self, chunk):
        (x,) = self._arrays(chunk)
        return -np.linalg.norm(x[:, None] - self.rows_, axis=2).min(axis=1)


@pytest.mark.parametrize(("n_rows", "n_columns"), [(200, 2), (200, 40), (60, 100)])
def test_a_detector_that_overfits_keeps_its_rate(n_rows, n_columns):
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(30):
        X, new = rng.normal(size=(n_rows, n_columns)), rng.normal(size=(500, n_columns))
        detector = Overfits(contamination=0.1).fit(X)
        assert detector.rows_.shape == X.shape  # it was fitted on all
        rates.append(np.mean(detector.predict(new) == -1))
    assert np.mean(rates) == pytest.approx(0.1, abs=0.03)


def test_a_rate_that_rows_cannot_give_is_told():
    scores = np.random.default_rng(0).normal(size=30)
    with pytest.warns(
        UserWarning, match=r"=0\.01 takes 99 in-dist.* there are 30.*3\.2%"
    ):
        assert threshold_for(scores, 0.01) == scores.min()


def test_rows_too_few_for_their_columns_are_told():
    rows = np.random.default_rng(0).normal(size=(50, 60))
    with pytest.warns(UserWarning, match=r"=0\.2: 49 rows of 60 columns are few.*data"):
        Overfits(contamination=0.2).fit(rows[:49])
    for few, new in ((rows, None), (rows[:49, :49], None), (rows[:49], 2 * rows[:9])):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Overfits(contamination=0.2).fit(few, threshold_data=new)


def test_ties_at_the_threshold_are_told():
    scores = np.repeat(np.arange(10.0), 20)
    with pytest.warns(UserWarning, match=r"20 of the 200 scores .* 0\.0% .* 10\.0%"):
        assert threshold_for(scores, 0.05) == 0
    with pytest.warns(UserWarning, match="a constant score tells nothing"):
        threshold_for(np.ones(50), 0.1)


@pytest.mark.parametrize("n_rows", [60, 68, 75, 120])
@pytest.mark.parametrize("n_classes", [1, 3, 7])
def test_enough_rows_are_kept_out_whatever_the_classes(n_rows, n_classes):
    features = LayerFeatures({"a": np.zeros((n_rows, 50))})
    y = np.random.default_rng(n_rows).integers(0, n_classes, n_rows)
    names, classes = np.unique(y, return_inverse=True)
    training = Training(features, features[:0], classes, names)
    kept_out = LSGM()._kept_out(training)
    assert 19 <= len(kept_out) <= 0.4 * n_rows + n_classes / 2


def test_a_mixture_of_hardly_more_rows_than_columns_keeps_the_rate():
    rates = []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        X, new = rng.normal(size=(68, 64)), rng.normal(size=(500, 64))
        rates.append(np.mean(LSGM(2).fit(X).predict(new) == -1))
    assert np.mean(rates) == pytest.approx(0.05, abs=0.03)
