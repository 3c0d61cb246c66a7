"""The contrastive energy loss, its margins, and the classifier trained with it."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from networks import Convolutional
from sklearn.datasets import make_blobs
from sklearn.pipeline import make_pipeline
from skorch.dataset import ValidSplit
from torch import nn

from skood import Energy, LayerEnergy, LayerFeatureTransformer
from skood.metrics import auroc
from skood.neural import MLP, EnergyRegularizedClassifier
from skood.neural.energy_loss import (
    EnergyRecorder,
    RunningMargins,
    contrastive_energy_loss,
)

LAYERS = ["bn1", "block", "conv2", "penultimate", "logits"]


def convolutional():
    torch.manual_seed(0)
    return Convolutional()


def images(n=40, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 5
    X = rng.normal(size=(n, 3, 8, 8)) + np.eye(5)[y][:, :3, None, None]
    return X.astype(np.float32), y


def fitted(X, y, layers="logits", **params):
    params = {
        "max_epochs": 20,
        "lr": 0.01,
        "random_state": 0,
        "batch_size": 32,
        **params,
    }
    return EnergyRegularizedClassifier(
        MLP, layers, module__n_features=X.shape[1], module__n_classes=3, **params
    ).fit(X, y)


@pytest.fixture(scope="module")
def blobs():
    X, y = make_blobs(300, 4, centers=3, cluster_std=1.5, random_state=0)
    X = ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)
    outliers = np.random.default_rng(0).normal(scale=2.5, size=(200, 4))
    return X, y, outliers.astype(np.float32)


# The loss ----------------------------------------------------------------------------


def test_the_loss_by_hand():
    inside, outside = torch.tensor([-6.0, -3.0, 0.0]), torch.tensor([-8.0, 1.0])
    loss = contrastive_energy_loss(inside, outside, m_in=-5.0, m_out=-1.0)
    assert loss.item() == pytest.approx((0 + 4 + 25) / 3 + (49 + 0) / 2)
    alone = contrastive_energy_loss(inside, outside[:0], m_in=-5.0, m_out=-1.0)
    assert alone.item() == pytest.approx((0 + 4 + 25) / 3)


def test_gradients_of_the_loss():
    generator = torch.Generator().manual_seed(0)
    inside, outside = (
        torch.randn(6, generator=generator, dtype=torch.float64, requires_grad=True)
        for _ in range(2)
    )

    def loss(a, b):
        return contrastive_energy_loss(a, b, -0.3, 0.7)

    assert torch.autograd.gradcheck(loss, (inside, outside))
    torch.autograd.backward(loss(inside, outside))
    by_hand = 2 * (inside.detach() + 0.3).clamp(min=0) / 6
    torch.testing.assert_close(inside.grad, by_hand)
    assert (outside.grad <= 0).all()  # a step along -grad lifts the outliers' energy


def test_gradients_through_the_layers():
    module = convolutional().double().eval()
    recorder = EnergyRecorder(LAYERS, head="fc")
    margins = RunningMargins(-0.5, 0.5)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, 6, 6, generator=generator, dtype=torch.float64)
    for layer, energies in recorder.run(module, x)[1].items():
        margins.update(layer, energies)

    def loss(x):
        _, energies = recorder.run(module, x)
        return sum(margins.loss(la, e[:3], e[3:]) for la, e in energies.items())

    assert torch.autograd.gradcheck(loss, (x.requires_grad_(),))


def test_the_loss_is_in_standard_deviations():
    margins = RunningMargins(1.0, 3.0)
    energies = torch.tensor([-7.0, -5.0])  # mean -6, deviation 1
    margins.update("a", energies)
    assert margins.of("a") == (-5.0, -3.0)
    margins.update("b", 100 * energies)
    assert margins.of("b") == (-500.0, -300.0)
    inside, outside = torch.tensor([-4.0]), torch.tensor([-4.0])
    plain = contrastive_energy_loss(inside, outside, *margins.of("a"))
    assert margins.loss("a", inside, outside) == plain == 2
    assert margins.loss("b", 100 * inside, 100 * outside) == pytest.approx(plain)


def test_running_margins_by_hand():
    rng = np.random.default_rng(0)
    margins = RunningMargins(1.0, 3.0, momentum=0.1)
    mean = variance = None
    for _ in range(5):
        batch = rng.normal(-4, 2, 10)
        margins.update("a", torch.from_numpy(batch))
        if mean is None:
            mean, variance = batch.mean(), batch.var()
        else:
            mean = 0.9 * mean + 0.1 * batch.mean()
            variance = 0.9 * variance + 0.1 * batch.var()
    np.testing.assert_allclose(
        margins.of("a"), (mean + variance**0.5, mean + 3 * variance**0.5)
    )
    constant = RunningMargins(1.0, 3.0)
    constant.update("a", torch.zeros(3))
    assert constant.loss("a", torch.zeros(3), torch.zeros(3)).isfinite()


# Layers ------------------------------------------------------------------------------


def test_energies_are_those_of_the_transformer():
    module = convolutional().eval()
    X, _ = images()
    recorder = EnergyRecorder(LAYERS, head="fc")
    with torch.no_grad():
        logits, energies = recorder.run(module, torch.from_numpy(X))
    features = LayerFeatureTransformer(module, LAYERS, "lse").fit_transform(X)
    assert list(energies) == LAYERS
    for layer in LAYERS[:-1]:
        expected = -features.block(layer, "lse")[:, 0]
        np.testing.assert_allclose(energies[layer], expected, rtol=1e-5)
    np.testing.assert_allclose(logits, features.block("logits"), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(energies["logits"], -logits.logsumexp(dim=1))
    assert not any(part._forward_hooks for part in module.modules())
    assert not any(part._forward_pre_hooks for part in module.modules())


def test_layers_before_in_place_operations_are_trained_through():
    X, y = images()
    net = EnergyRegularizedClassifier(
        Convolutional, LAYERS, max_epochs=2, warmup=0, random_state=0
    ).fit(X, y)
    assert list(net.margins_) == LAYERS
    assert all(low < high for low, high in net.margins_.values())


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used = nn.Linear(4, 3)
        self.unused = nn.Linear(4, 3)

    def forward(self, x):
        return self.used(x)


@pytest.mark.parametrize(
    ("layers", "error", "text"),
    [
        ("use", ValueError, "no layer 'use'. Did you mean 'used'.*layer_names"),
        (["used", "used"], ValueError, "layers names 'used' twice"),
        ([], ValueError, "layers is empty"),
        ([3], TypeError, "layers are given by name"),
        ("unused", ValueError, "layer 'unused' did not run"),
    ],
)
def test_layers_are_checked_before_training(blobs, layers, error, text):
    X, y, _ = blobs
    with pytest.raises(error, match=text):
        EnergyRegularizedClassifier(Unused, layers).fit(X, y)


# Training ----------------------------------------------------------------------------


def separation(net, X, outliers):
    rows = np.concatenate([X, outliers])
    y = np.repeat([0, -1], [len(X), len(outliers)])
    logits = LayerFeatureTransformer(net, "logits").fit_transform(rows)
    return auroc(y, Energy().fit(logits).score_samples(logits))


def test_known_outliers_come_out_with_higher_energy(blobs):
    X, y, outliers = blobs
    rows = np.concatenate([X, outliers])
    labels = np.concatenate([y, np.full(200, -1)])
    plain = fitted(rows, labels, weight=0.0)
    trained = fitted(rows, labels)
    assert trained.classes_.tolist() == [0, 1, 2]
    new = np.random.default_rng(1).normal(scale=2.5, size=(200, 4)).astype(np.float32)
    assert separation(trained, X, new) > separation(plain, X, new) + 0.1
    assert trained.score(X, y) > plain.score(X, y) - 0.05


def test_pseudo_outliers_help_without_any(blobs):
    X, y, outliers = blobs
    plain, trained = fitted(X, y, weight=0.0), fitted(X, y)
    assert separation(trained, X, outliers) > separation(plain, X, outliers) + 0.05


def test_no_weight_is_plain_cross_entropy(blobs):
    X, y, outliers = blobs
    rows = np.concatenate([X, outliers])
    labels = np.concatenate([y, np.full(200, -1)])
    alone = fitted(X, y, weight=0.0).predict_proba(X)
    np.testing.assert_array_equal(
        fitted(rows, labels, weight=0.0).predict_proba(X), alone
    )
    warming = fitted(rows, labels, warmup=1.0).predict_proba(X)
    np.testing.assert_array_equal(warming, alone)


def test_the_schedule(blobs):
    X, y, _ = blobs
    net = fitted(X, y, max_epochs=10, warmup=0.3, train_split=None)
    losses = np.array(net.history_[:, "energy_loss"])
    # Without outliers the loss has one term only; then the other joins it.
    assert (losses[:3] < 1).all()
    assert losses[3] > 3 * losses[2]
    before = net.margins_
    assert net.partial_fit(X, y).margins_ == before  # they stay after the warm-up
    assert fitted(X, y, max_epochs=3, warmup=1.0).margins_ != before


@pytest.mark.parametrize("split", [None, ValidSplit(5, stratified=True)])
def test_a_trained_network_is_tuned_and_the_change_reported(blobs, split):
    X, y, outliers = blobs
    given = fitted(X, y, weight=0.0).module_
    before = copy.deepcopy(given.state_dict())
    net = EnergyRegularizedClassifier(
        given, "logits", max_epochs=3, train_split=split, random_state=0
    ).fit(np.concatenate([X, outliers]), np.concatenate([y, np.full(200, -1)]))
    assert all(torch.equal(before[k], v) for k, v in given.state_dict().items())
    judged = slice(None)
    if split is not None:
        _, valid = split(net.get_dataset(X, y), y)
        judged = valid.indices
    untrained = EnergyRegularizedClassifier(given, random_state=0).initialize()
    z = untrained.module_(torch.from_numpy(X[judged]))
    assert net.accuracy_before_ == np.mean(z.argmax(dim=1).numpy() == y[judged]) > 0.7
    assert net.accuracy_after_ == net.score(X[judged], y[judged])


def test_it_makes_a_detector_with_the_layers_energies(blobs):
    X, y, outliers = blobs
    layers = ["0", "2", "logits"]
    net = fitted(X, y, layers)
    pipe = make_pipeline(
        LayerFeatureTransformer(net, layers, "lse"), LayerEnergy(layers, "mahalanobis")
    ).fit(X)
    scores = pipe.score_samples(np.concatenate([X, outliers]))
    assert auroc(np.repeat([0, -1], [300, 200]), scores) > 0.8
    again = pickle.loads(pickle.dumps(pipe))
    np.testing.assert_array_equal(again.score_samples(X), scores[:300])


def test_images_with_pseudo_outliers_of_each_kind():
    X, y = images()
    for kinds in ("auto", "jigsaw", ["mixup", "noise"]):
        net = EnergyRegularizedClassifier(
            Convolutional,
            ["bn1", "logits"],
            pseudo_outliers=kinds,
            contrast_ratio=1.5,
            max_epochs=1,
            warmup=0,
            random_state=0,
        ).fit(X, y)
        assert net.history_[-1, "energy_loss"] > 0


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"weight": -1}, "'weight' parameter of EnergyRegularizedClassifier"),
        ({"warmup": 2}, "'warmup' parameter"),
        ({"contrast_ratio": 0}, "'contrast_ratio' parameter"),
        ({"margins": (2.0, 1.0)}, r"margins=\(2.0, 1.0\): wanted are two numbers"),
        ({"margins": (2.0,)}, r"margins=\(2.0,\): wanted are two numbers"),
        (
            {"pseudo_outliers": ["blur"]},
            r"pseudo_outliers=\['blur'\]: wanted is 'auto'",
        ),
        ({"pseudo_outliers": "jigsaw"}, "batch must hold images"),
    ],
)
def test_parameters_are_checked_in_fit(blobs, params, text):
    X, y, _ = blobs
    with pytest.raises(ValueError, match=text):
        fitted(X, y, **params)
