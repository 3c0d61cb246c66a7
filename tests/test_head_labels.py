"""Labels of a head's classes: columns of its logits, or what it predicts."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone

from skood import SHE, CARef
from skood.detectors.label_columns import label_columns
from skood.detectors.registry import REGISTRY
from skood.estimator_checks import synthetic_features


@pytest.mark.parametrize(
    ("labels", "columns"),
    [
        (np.array([0, 1, 2]), [0, 1, 2]),
        (np.array([0, 2]), [0, 2]),
        (np.array([1.0, 2.0]), [1, 2]),
        (np.array(["0", "2"]), [0, 2]),
        (np.array([1, 2, 3]), [0, 1, 2]),
        (np.array([1, 2, 10]), [2, 0, 1]),
        (np.array(["1", "10", "2"]), [0, 2, 1]),
        (np.array(["bird", "cat", "dog"]), [1, 2, 0]),
        (np.array(["bird", "cat"]), [2, 1]),
        (np.array([0.5, 1, 2]), [0, 1, 2]),
    ],
    ids=str,
)
def test_labels_are_columns_or_what_the_network_predicts(labels, columns):
    classes = np.arange(60) % len(labels)
    predicted = np.array(columns)[classes]
    predicted[:9] = 0  # wrongly
    found = label_columns(labels, labels, classes, predicted, 3)
    assert found.tolist() == columns


@pytest.mark.parametrize("labels", [["cat", "dog"], [5, 6], list("abcd")], ids=str)
def test_labels_that_cannot_be_told_are_refused(labels):
    labels, rng = np.array(labels), np.random.default_rng(0)
    classes = np.arange(200) % len(labels)
    predicted = classes % 3 if len(labels) > 3 else rng.integers(0, 3, 200)
    with pytest.raises(ValueError, match="which belong together cannot be told"):
        label_columns(labels, labels, classes, predicted, 3)


def test_numbers_that_are_other_columns_are_refused():
    labels, classes = np.arange(3), np.arange(60) % 3
    with pytest.raises(ValueError, match=r"in which 0% .* match holds for 100%"):
        label_columns(labels, labels, classes, (classes + 1) % 3, 3)


@pytest.mark.parametrize("name", ["SHE", "OpenMax", "TemperatureScaledMSP"])
@pytest.mark.parametrize("names", [["2", "10", "9"], ["z", "y", "x"], [30, 7, 100]])
def test_names_of_classes_in_any_order_are_numbers(name, names):
    features, y = synthetic_features(120, 0)
    detector = REGISTRY[name].detector(**REGISTRY[name].on_features[0])
    expected = clone(detector).fit(features, y).score_samples(features)
    found = clone(detector).fit(features, np.array(names)[y]).score_samples(features)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_rows_without_a_class_do_not_shift_the_others():
    """Held-out folds that lack a class name their labels as all rows do."""
    features, y = synthetic_features()
    some = (y >= 0) & (y != 1)
    names = np.array(["bird", "cat", "dog"])[y]
    lacking = "no row is rightly predicted for 1 of the 3"
    with pytest.warns(UserWarning, match=lacking):
        few = SHE().fit(features[some], y[some])
    with pytest.warns(UserWarning, match=lacking):
        named = SHE().fit(features[some], names[some])
    np.testing.assert_array_equal(named.patterns_, few.patterns_)
    whole = SHE().fit(features[y >= 0], y[y >= 0])
    np.testing.assert_allclose(few.patterns_[[0, 2]], whole.patterns_[[0, 2]])
    both = few.patterns_[[0, 2]] * [[np.sum(y == 0)], [np.sum(y == 2)]]
    np.testing.assert_allclose(few.patterns_[1], both.sum(axis=0) / some.sum())


def test_she_needs_labels_that_are_those_of_the_head():
    features, y = synthetic_features()
    with pytest.raises(ValueError, match="SHE compares predictions with labels"):
        SHE().fit(features)
    turned = np.where(y >= 0, (y + 1) % 3, -1)
    with pytest.raises(ValueError, match="number the labels as the columns are"):
        SHE().fit(features, turned)


def test_caref_goes_by_predictions():
    features, y = synthetic_features()
    turned = np.where(y >= 0, (y + 1) % 3, -1)
    np.testing.assert_allclose(
        CARef().fit(features, turned).means_, CARef().fit(features, y).means_
    )
