"""Penultimate features and head: what the detectors' room does beside the formulas."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skood import (
    DML,
    FDBD,
    KPCA,
    NAC,
    NCI,
    NECO,
    PNML,
    SHE,
    ActSub,
    CADRef,
    GradNorm,
    LayerFeatures,
    LinearHead,
    NNGuide,
    ReAct,
    ViM,
)
from skood.detectors.head import base
from skood.detectors.head.signs import check_positive, guarded_product
from skood.detectors.registry import REGISTRY
from skood.estimator_checks import synthetic_features

CASES = [
    pytest.param(entry.detector(**parameters), id=f"{entry.name}-{parameters}")
    for entry in REGISTRY.values()
    if entry.family == "head"
    for parameters in entry.on_features
]


def penultimate(features, head=None):
    return LayerFeatures(
        {"penultimate": features.block("penultimate")}, head=head or features.head
    )


def other_head(features, **changes):
    given = {"weight": features.head.weight, "bias": features.head.bias}
    return LinearHead(**(given | changes))


# Arrays of other libraries ---------------------------------------------------------


@pytest.mark.parametrize("detector", CASES)
def test_torch_and_numpy_agree(detector):
    features, y = synthetic_features(150, 20)
    expected = detector.fit(features, y).score_samples(features)
    with mock.patch(
        "skood.detectors.base.on_device", lambda array, _: torch.as_tensor(array)
    ):
        found = detector.fit(features, y).score_samples(features)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_gradnorm_is_the_norm_of_the_gradient():
    features, y = synthetic_features(60, 5)
    detector = GradNorm(temperature=2.0).fit(features, y)
    weight = torch.tensor(features.head.weight, requires_grad=True)
    norms = []
    for h in torch.tensor(features.block("penultimate")):
        loss = -torch.log_softmax(weight @ h / 2.0, dim=0).sum()
        (gradient,) = torch.autograd.grad(loss, weight)
        norms.append(float(gradient.abs().sum()))
    np.testing.assert_allclose(detector.score_samples(features), norms, rtol=1e-9)


def test_states_of_nac_are_features_times_gradients():
    features, y = synthetic_features(60, 5)
    detector = NAC().fit(features, y)
    h = torch.tensor(features.block("penultimate"), requires_grad=True)
    z = h @ torch.tensor(features.head.weight).T
    divergence = -torch.log_softmax(z, dim=1).mean(dim=1).sum()
    (gradient,) = torch.autograd.grad(divergence, h)
    states = [*detector._states(h.detach().numpy(), z.detach().numpy())]
    expected = (h * gradient).detach()
    np.testing.assert_allclose(np.concatenate(states), expected, atol=1e-12)


def test_she_multiplies_each_row_with_the_weights_once():
    features, y = synthetic_features()
    known, new = features[y != -1], features[y == -1]
    with mock.patch.object(base, "product_in_type", wraps=base.product_in_type) as spy:
        SHE().fit(known, y[y != -1], threshold_data=new)
    multiplied = sum(len(call.args[0]) for call in spy.call_args_list)
    assert multiplied == len(features)


# The head --------------------------------------------------------------------------


def test_a_head_that_is_found_gives_the_scores_of_one_that_is_carried():
    features, y = synthetic_features()
    without = LayerFeatures(
        {name: features.block(*name) for name in features.block_names}
    )
    for detector in (FDBD(), ViM(), CADRef()):
        np.testing.assert_allclose(
            type(detector)().fit(without, y).score_samples(without),
            detector.fit(features, y).score_samples(features),
            rtol=1e-6,
        )


def test_what_needs_no_head_takes_features_of_any_layer():
    features, y = synthetic_features()
    alone = LayerFeatures({"encoder": features.block("penultimate")})
    for detector in (NECO(), KPCA()):
        assert detector.fit(alone, y).head_ is None
    with pytest.raises(ValueError, match="NECO needs the network's last linear map"):
        NECO(max_logit=True).fit(alone, y)


@pytest.mark.parametrize("detector", [FDBD(), KPCA(), ReAct()], ids=repr)
def test_which_of_several_layers_is_the_heads_is_asked(detector):
    features, y = synthetic_features()
    names = {"pooled": "penultimate", "layer1": "layer1", "logits": "logits"}
    several = LayerFeatures({new: features.block(old) for new, old in names.items()})
    with pytest.raises(ValueError, match=r"no layer 'penultimate'.*head=LinearHead"):
        detector.fit(several, y)
    head = LinearHead(features.head.weight, features.head.bias, "pooled")
    detector.set_params(head=head).fit(several, y)
    np.testing.assert_allclose(
        detector.score_samples(several),
        clone(detector).set_params(head=None).fit(features, y).score_samples(features),
    )


def test_one_class_is_refused_where_its_softmax_says_nothing():
    features, y = synthetic_features()
    single = LinearHead(features.head.weight[:1], features.head.bias[:1])
    for detector in (GradNorm(head=single), PNML(head=single), NAC(head=single)):
        with pytest.raises(ValueError, match=r"shape \(1, 10\), one class"):
            detector.fit(features, y)


def test_equal_weights_have_no_boundary():
    features, y = synthetic_features()
    weight = features.head.weight.copy()
    weight[1] = weight[0]
    scores = FDBD(head=other_head(features, weight=weight)).fit(features, y)
    assert np.isfinite(scores.score_samples(features)).all()
    weight[2] = weight[0]
    with pytest.raises(ValueError, match="same row for every class"):
        FDBD(head=other_head(features, weight=weight)).fit(features, y)


# Labels ----------------------------------------------------------------------------


# Signs -----------------------------------------------------------------------------


def test_a_factor_does_not_lower_what_is_negative():
    score, factor = np.array([2.0, -1.0, -1.0, -2.0]), np.array([3.0, 0.1, 9.0, 9.0])
    assert guarded_product(score, factor).tolist() == [6.0, -1.0, -1.0, -2.0]


@pytest.mark.parametrize("detector", [NNGuide(), ActSub(), CADRef(), ViM()], ids=repr)
def test_energies_that_are_negative_in_the_mean_are_refused(detector):
    features, y = synthetic_features()
    low = other_head(features, bias=features.head.bias - 5000)
    with pytest.raises(ValueError, match=r"is -\S+ in the mean of the training rows"):
        detector.set_params(head=low).fit(features, y)


@pytest.mark.parametrize("score", ["msp", "gen"])
def test_scores_that_are_positive_take_any_offset(score):
    features, y = synthetic_features()
    low = other_head(features, bias=features.head.bias - 50)
    np.testing.assert_allclose(
        CADRef(score=score, head=low).fit(features, y).score_samples(features),
        CADRef(score=score).fit(features, y).score_samples(features),
    )


def test_a_few_negative_energies_order_rows_as_they_should():
    """Rows whose energy is below zero score lower than rows above it."""
    features, y = synthetic_features()
    lower = other_head(features, bias=features.head.bias - 2.0)
    detector = NNGuide(head=lower).fit(features, y)
    _, z = detector._read(detector._known_features(features))
    energy = np.logaddexp.reduce(z, axis=1)
    scores = detector.score_samples(features)
    assert (energy < 0).any()
    assert scores[energy < 0].max() < scores[energy > 0].min()


# Weights of two terms --------------------------------------------------------------


@pytest.mark.parametrize("detector", [NCI, DML])
def test_terms_are_balanced_in_any_units(detector):
    features, y = synthetic_features()
    in_other_units = LayerFeatures(
        {"penultimate": 1e3 * features.block("penultimate")},
        head=other_head(features, weight=1e-3 * features.head.weight),
    )
    scale = 1e3 if detector is NCI else 1.0  # its first term has the weights' length
    np.testing.assert_allclose(
        scale * detector().fit(in_other_units, y).score_samples(in_other_units),
        detector().fit(features, y).score_samples(features),
        atol=1e-9,
    )


def test_a_given_weight_is_the_formula_as_it_stands():
    features, y = synthetic_features(60, 0)
    detector = NCI(alpha=0.5).fit(features, y)
    h, weight = features.block("penultimate"), features.head.weight
    centred = h - h.mean(axis=0)
    own = weight[np.argmax(h @ weight.T, axis=1)]
    angle = np.sum(own * centred, axis=1) / np.linalg.norm(centred, axis=1)
    np.testing.assert_allclose(
        detector.score_samples(features), angle + 0.5 * np.abs(h).sum(axis=1)
    )


# Banks -----------------------------------------------------------------------------


# Components, seeds -----------------------------------------------------------------


def test_nac_has_an_even_number_of_bins():
    features, y = synthetic_features()
    with pytest.raises(ValueError, match="n_bins=9 is odd"):
        NAC(n_bins=9).fit(features, y)


@pytest.mark.parametrize("mean", [0.0, -1.0, np.nan])
def test_what_is_weighed_by_has_to_be_positive(mean):
    with pytest.raises(ValueError, match=r"the norm is .* and DML weighs by it"):
        check_positive("DML", "the norm", mean, "rectify them")
    check_positive("DML", "the norm", 1e-300, "rectify them")


def test_rows_unlike_all_known_ones_have_no_likeness():
    features, y = synthetic_features(120, 0)
    detector = ActSub().fit(features, y)
    h, z = features.block("penultimate")[:3], features.block("logits")[:3]
    opposite = np.array([-0.5, -1.0, 0.0])  # cosines with the nearest known row
    np.testing.assert_array_equal(detector._scores_of(h, z, opposite), np.zeros(3))
    assert (detector._scores_of(h, z, np.full(3, 0.5)) > 0).all()
