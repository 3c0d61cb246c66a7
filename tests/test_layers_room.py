"""Gaussians of classes, Gram matrices, the activation prior, concept matching."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from references.layers import concept_matching
from sklearn.base import clone

from skood import (
    ActivationPrior,
    ConceptMatching,
    GaussianMixtureDetector,
    Gram,
    LayerFeatures,
)
from skood.detectors.layers.gram import Ranges
from skood.estimator_checks import synthetic_features


@pytest.fixture(scope="module")
def known():
    return synthetic_features(120, 0)


def test_negatives_in_groups_equal_the_plain_loops(known):
    features, y = known
    words = np.random.default_rng(0).normal(size=(11, 10))
    detector = ConceptMatching(layers="penultimate", negatives=words, groups=3)
    detector.fit(features, y)
    expected = concept_matching(features, y, features, "penultimate", words, 3)
    np.testing.assert_allclose(detector.score_samples(features), expected, rtol=1e-9)
    assert detector.negatives_.shape == (3, 3, 10)


def test_texts_may_be_given_in_any_length(known):
    features, y = known
    weight = features.head.weight
    expected = ConceptMatching().fit(features, y).score_samples(features)
    given = ConceptMatching(7 * weight, layers="penultimate").fit(features, y)
    np.testing.assert_allclose(given.score_samples(features), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"text_embeddings": np.ones((2, 4))}, r"text_embeddings has shape \(2, 4\)"),
        ({"negatives": np.ones((2, 4))}, r"negatives has shape \(2, 4\)"),
        ({"negatives": np.ones((2, 10)), "groups": 3}, "groups=3, and there are 2"),
        ({"text_embeddings": np.ones((2, 10)), "layers": None}, "say by layers which"),
    ],
)
def test_what_does_not_match_is_named(known, change, text):
    detector = ConceptMatching(layers="penultimate").set_params(**change)
    with pytest.raises(ValueError, match=text):
        detector.fit(*known)


def test_without_texts_or_a_head_there_is_nothing_to_match():
    with pytest.raises(ValueError, match="X carries none"):
        ConceptMatching().fit(np.random.default_rng(0).normal(size=(30, 4)))


def test_shrinkage_is_asked_for_where_rows_are_few(known):
    features, y = known
    few = features[:20]
    GaussianMixtureDetector(layers="layer2").fit(few, y[:20])
    with pytest.raises(ValueError, match="leaves a singular covariance"):
        GaussianMixtureDetector(layers="layer2", shrinkage=0.0).fit(few, y[:20])


def test_a_class_of_one_row_takes_the_covariance_of_all(known):
    features, y = known
    labels = y.copy()
    labels[0] = 7
    detector = GaussianMixtureDetector(layers="penultimate").fit(features, labels)
    assert np.isfinite(detector.score_samples(features)).all()


def test_the_threshold_of_gram_is_of_rows_left_out(known):
    features, y = known
    detector = Gram("layer1").fit(features, y)
    left_out = []
    for row in range(12):
        others = np.delete(np.arange(len(y)), row)
        other = Gram("layer1").fit(features[others], y[others])
        other.normalisers_ = detector.normalisers_
        left_out.append(other.score_samples(features[[row]])[0])
    training = detector._training(features, y)
    detector._fit(training)
    found = detector._unseen_scores(training, np.arange(len(y)))[:12]
    np.testing.assert_allclose(found, left_out, rtol=1e-6)
    assert np.count_nonzero(found) > 3


@pytest.mark.parametrize("least", [False, True], ids=["within", "outside"])
def test_the_only_row_of_a_class_is_compared_with_all_others(least):
    rng = np.random.default_rng(0)
    sums, logits = rng.uniform(1, 2, (40, 6)), np.eye(3)[np.arange(40) % 2]
    logits[7] = 0, 0, 1
    sums[7] = 0.5 if least else 1.5
    own = []
    for row, others in enumerate(map(np.arange(40).__ne__, range(40))):
        alike = others & (logits.argmax(axis=1) == logits[row].argmax())
        known = sums[alike if alike.any() else others]
        under = np.maximum(known.min(axis=0) - sums[row], 0) / known.min(axis=0)
        over = np.maximum(sums[row] - known.max(axis=0), 0) / known.max(axis=0)
        own.append((under + over).sum())
    features = LayerFeatures({("layer1", "gram"): sums, "logits": logits})
    detector = Gram().fit(features)
    assert detector.normalisers_["layer1", "gram"] == pytest.approx(np.mean(own), 1e-5)
    scores = detector._unseen_scores(detector._training(features, None), np.arange(40))
    mean, best = np.mean(own), np.e / (np.e + 2)
    np.testing.assert_allclose(scores, -np.array(own) / mean / best, rtol=1e-5)


def test_a_layer_that_does_not_vary_has_no_ranges(known):
    features, y = known
    blocks = {
        ("layer1", "gram"): np.ones((len(y), 4)),
        ("logits", "logits"): features.block("logits"),
    }
    with pytest.raises(ValueError, match="no row deviates from the range"):
        Gram().fit(LayerFeatures(blocks), y)


def test_the_prior_with_the_energy(known):
    features, y = known
    prior = ActivationPrior().fit(features, y).score_samples(features)
    both = ActivationPrior(energy_weight=0.25).fit(features, y).score_samples(features)
    energy = np.logaddexp.reduce(features.block("logits"), axis=1)
    np.testing.assert_allclose(both, energy**0.25 * prior**0.75, rtol=1e-12)


def test_the_prior_refuses_what_would_turn_it_around(known):
    features, y = known
    blocks = {name: features.block(*name) for name in features.block_names}
    low = LayerFeatures(
        blocks | {("logits", "logits"): blocks["logits", "logits"] - 99}
    )
    ActivationPrior().fit(low, y)
    with pytest.raises(ValueError, match="energy, which is not positive"):
        ActivationPrior(energy_weight=0.5).fit(low, y)
    signed = LayerFeatures(blocks | {("layer1", "avg"): blocks["layer1", "avg"] - 1})
    with pytest.raises(ValueError, match="made for layers behind a ReLU"):
        ActivationPrior().fit(signed, y)


def test_the_prior_says_which_statistics_it_reads(known):
    features, y = known
    with pytest.raises(ValueError, match="no layer has both statistics"):
        ActivationPrior().fit(features.select(statistic="max"), y)


def test_a_channel_that_is_nowhere_active_counts_nothing():
    blocks = {("a", "max"): [[2.0, 0.0]] * 20, ("a", "avg"): [[1.0, 0.0]] * 20}
    features = LayerFeatures({name: np.array(rows) for name, rows in blocks.items()})
    detector = clone(ActivationPrior(contamination=0.1))
    with pytest.warns(UserWarning, match="tie"):
        detector.fit(features)
    np.testing.assert_array_equal(detector.score_samples(features), np.ones(20))


@pytest.mark.parametrize(
    "detector",
    [
        ConceptMatching(),
        ConceptMatching(negatives=np.eye(10)),
        Gram(),
        ActivationPrior(energy_weight=0.3),
        GaussianMixtureDetector(),
    ],
    ids=repr,
)
def test_tensors_score_as_arrays_do(known, detector):
    features, y = known
    detector.fit(features, y)
    read = detector._array
    with mock.patch.object(
        type(detector), "_array", lambda self, *block: torch.tensor(read(*block))
    ):
        found = detector._score(detector._needed(features))
    assert isinstance(found, torch.Tensor)
    np.testing.assert_allclose(
        found.numpy(), detector.score_samples(features), rtol=1e-9
    )


def test_a_class_with_too_few_rows_has_the_range_of_all():
    values = np.array([[1.0, 5.0], [2.0, 4.0], [3.0, 9.0], [8.0, 7.0]])
    ranges = Ranges.of(values, np.array([0, 0, 0, 2]), 3)
    lower, upper = ranges.ends()
    np.testing.assert_array_equal(lower[0], [[1, 4], [1, 4], [8, 7]])
    np.testing.assert_array_equal(lower[1], [[2, 5], [1, 4], [8, 7]])
    np.testing.assert_array_equal(upper[0], [[3, 9], [8, 9], [8, 7]])
    np.testing.assert_array_equal(upper[1], [[2, 5], [8, 9], [3, 7]])
