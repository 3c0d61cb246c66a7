"""Banks of penultimate rows: which are kept, and who is whose neighbour."""

from __future__ import annotations

import numpy as np
import pytest
from references.head_parts import balanced_rows as rows_by_turns

from skood import KPCA, ActSub, LayerFeatures, NNGuide, RelationGraph, WeiPer
from skood.detectors.head.bank import balanced_rows
from skood.detectors.training import Training
from skood.estimator_checks import synthetic_features


@pytest.mark.parametrize("size", [1, 7, 30, 59, 60, None])
def test_rows_are_drawn_by_turns_from_the_classes(size):
    y = np.array([0] * 40 + [1] * 15 + [2] * 5)
    features = LayerFeatures({"penultimate": np.zeros((60, 2))})
    training = Training(features, features[:0], y, np.array([0, 1, 2]))
    rows = balanced_rows(training, size, 3)
    assert rows.tolist() == rows_by_turns(y, 60 if size is None else size, 3)
    if size == 7:
        assert np.bincount(y[rows]).tolist() in ([3, 2, 2], [2, 3, 2], [2, 2, 3])


@pytest.mark.parametrize("detector", [NNGuide(n_neighbors=4), ActSub()], ids=repr)
def test_thresholds_leave_each_row_out(detector):
    features, y = synthetic_features(40, 0)
    detector.fit(features, y)
    training = detector._training(features, y)
    found = detector._unseen_scores(training, np.arange(40))
    choices = {"_choices": detector._choices}
    for row in range(40):
        others = np.delete(np.arange(40), row)
        without = type(detector)(**detector.get_params())
        vars(without).update(choices)
        without._learn(training.alone(others))
        (expected,) = without._scores(training.features[[row]])
        assert found[row] == pytest.approx(expected)


def test_the_relation_to_itself_is_that_to_another_of_its_class():
    features, y = synthetic_features(40, 0)
    detector = RelationGraph(cut=0.2, power=2.0).fit(features, y, features)
    found = detector._unseen_scores(detector._training(features, y), np.arange(40))
    edges = (detector.bank_ @ detector.bank_.T) * (
        detector.probabilities_ @ detector.probabilities_.T
    )
    edges = np.where(edges > 0.2, edges, 0) ** 2
    classes = detector.probabilities_.argmax(axis=1)
    for row in range(40):
        fellows = (classes == classes[row]) & (np.arange(40) != row)
        others = np.delete(edges[row], row).sum()
        expected = (others + edges[row, fellows].mean()) / 40
        assert found[row] == pytest.approx(expected)


def test_a_bank_needs_more_rows_than_neighbours():
    features, y = synthetic_features(40, 0)
    with pytest.raises(ValueError, match=r"has 10 rows \(n_samples=40, max_rows=10\)"):
        NNGuide(max_rows=10).fit(features, y)


@pytest.mark.parametrize(
    "detector",
    [
        WeiPer(n_copies=3),
        KPCA(kernel="cosine_rbf", n_random_features=64),
        NNGuide(max_rows=40),
    ],
    ids=repr,
)
def test_a_seed_set_after_fit_changes_nothing(detector):
    features, y = synthetic_features(80, 5)
    expected = detector.fit(features, y).score_samples(features)
    detector.set_params(random_state=9)
    np.testing.assert_array_equal(detector.score_samples(features), expected)
    assert not np.array_equal(
        detector.fit(features, y).score_samples(features), expected
    )
    drawn = detector.set_params(random_state=np.random.RandomState(0))
    assert np.isfinite(drawn.fit(features, y).offset_)
