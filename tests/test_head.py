"""Penultimate features and head: what the detectors' room does beside the formulas."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from references.head_parts import balanced_rows as rows_by_turns
from references.threshold import kth_smallest
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
    CARef,
    GradNorm,
    LayerFeatures,
    LinearHead,
    NNGuide,
    NuSA,
    ReAct,
    RelationGraph,
    Residual,
    ViM,
    WeiPer,
)
from skood.detectors.head import base
from skood.detectors.head.bank import balanced_rows
from skood.detectors.head.signs import check_positive, guarded_product
from skood.detectors.head.subspaces import origin, row_space
from skood.detectors.label_columns import label_columns
from skood.detectors.registry import REGISTRY
from skood.detectors.training import Training
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


def test_a_head_without_null_space_is_refused():
    features, y = synthetic_features()
    rng = np.random.default_rng(0)
    full = LinearHead(rng.normal(size=(12, 10)), np.zeros(12))
    with pytest.raises(ValueError, match="spans all 10 dimensions"):
        NuSA(head=full).fit(features, y)


def test_directions_of_rounding_are_none():
    """Softmax heads of float32 are one short of full rank, up to rounding."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(6, 20))
    weight -= weight.mean(axis=0)
    head = LinearHead(weight.astype(np.float32), rng.normal(size=6).astype(np.float32))
    assert len(row_space(head)) == 5
    assert np.linalg.norm(origin(head)) < 5
    np.testing.assert_allclose(
        origin(head), -np.linalg.pinv(weight) @ head.bias, rtol=1e-5, atol=1e-6
    )


# Labels ----------------------------------------------------------------------------


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


# Components, seeds -----------------------------------------------------------------


def test_a_share_always_leaves_a_direction():
    rows = np.random.default_rng(0).normal(size=(300, 3))
    assert Residual(
        n_components=0.999, head=LinearHead(np.eye(3)[:2], np.zeros(2))
    ).fit(rows).residual_axes_.shape == (3, 1)
    with pytest.raises(ValueError, match="makes 3 components of 3 directions"):
        KPCA(n_components=3).fit(rows)


def test_fits_that_hold_rows_out_have_the_same_number_of_components():
    """A share that is near a step would make detectors of another scale."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 12)) * np.logspace(0, -3, 12)
    detector = KPCA(n_components=0.9).fit(rows)
    numbers = []

    class Watched(KPCA):
        def _learn_head(self, training):
            super()._learn_head(training)
            numbers.append(self.residual_axes_.shape[1])

    Watched(n_components=0.9).fit(rows)
    assert set(numbers) == {detector.residual_axes_.shape[1]}
    assert len(numbers) == 11


def test_one_column_leaves_nothing_beside_the_decisive_direction():
    head = LinearHead(np.ones((3, 1)), np.ones(3))
    features = LayerFeatures({"penultimate": np.ones((20, 1))}, head)
    with pytest.raises(ValueError, match="ActSub is for more columns"):
        ActSub().fit(features)


def test_published_numbers_of_components():
    assert [ViM.published_components(d) for d in (2048, 768, 64)] == [1000, 512, 32]
    assert KPCA(**KPCA.published["CoRP ImageNet"]).gamma == 3.0
    kernels = {name: KPCA(**given).kernel for name, given in KPCA.published.items()}
    assert kernels == {
        name: "cosine_rbf" if "RP" in name else "cosine" for name in kernels
    }
    assert WeiPer(**WeiPer.published["ViT-B/16"]).n_bins == 80
    assert NAC(**NAC.published["ImageNet"]).alpha == 3000.0
    assert NCI.published_alpha["OpenOOD"] == 1e-4


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


def test_nac_has_an_even_number_of_bins():
    features, y = synthetic_features()
    with pytest.raises(ValueError, match="n_bins=9 is odd"):
        NAC(n_bins=9).fit(features, y)


def test_one_column_has_no_direction():
    with pytest.raises(ValueError, match=r"one column \(n_features = 1\)"):
        KPCA().fit(np.arange(30.0)[:, None])


def test_pnml_is_left_out_of_its_moments_exactly():
    features, y = synthetic_features(60, 0)
    detector = PNML(contamination=0.1).fit(features, y)
    left_out = [
        PNML()
        .fit(features[rest], y[rest], threshold_data=features)
        .score_samples(features[[i]])[0]
        for i in range(60)
        for rest in [np.delete(np.arange(60), i)]
    ]
    assert detector.offset_ == pytest.approx(kth_smallest(left_out, 0.1), rel=1e-9)


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
