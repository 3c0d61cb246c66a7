"""Widening of the first layer, and the classifier that sees anchors."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from references.amp import logits_from_anchors
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler
from torch import nn

from skood.neural import MLP, AnchoredClassifier, ImageCorruption
from skood.neural.anchored import AnchoredModule, joint_logits
from skood.neural.widening import widen_first_layer


class SmallNet(nn.Module):
    """A convolutional network with a batch norm and dropout."""

    def __init__(self, channels: int = 1, width: int = 8, n_classes: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(width * 16, n_classes)

    def forward(self, x):
        return self.head(self.drop(torch.relu(self.norm(self.conv(x)))).flatten(1))


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X.reshape(-1, 1, 8, 8) / 16).astype(np.float32)[:600], y[:600]


@pytest.fixture(scope="module")
def fitted(digits):
    X, y = digits
    net = AnchoredClassifier(
        SmallNet, max_epochs=4, batch_size=32, lr=0.01, random_state=0, device="cpu"
    )
    return net.fit(X[:450], y[:450])


def networks():
    torch.manual_seed(0)
    convolution = SmallNet(channels=3)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 5))
    time = nn.Sequential(nn.Conv1d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6, 5))
    return [
        (convolution, torch.randn(7, 3, 8, 8), torch.randn(7, 3, 8, 8)),
        (flat, torch.randn(7, 3, 8, 8), torch.randn(7, 3, 8, 8)),
        (time, torch.randn(7, 3, 8), torch.randn(7, 3, 8)),
        (MLP(6, 4), torch.randn(7, 6), torch.randn(7, 6)),
        (nn.Linear(6, 4), torch.randn(7, 6), torch.randn(7, 6)),
    ]


@pytest.mark.parametrize(("network", "x", "anchors"), networks())
def test_zero_filled_residual_weights_reproduce_the_network_on_the_anchor(
    network, x, anchors
):
    network = network.eval().double()
    wide = copy.deepcopy(network)
    widen_first_layer(wide, "zero")
    out = AnchoredModule(wide)(x.double(), anchors.double())
    torch.testing.assert_close(out, network(anchors.double()), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(("network", "x", "anchors"), networks())
def test_copied_weights_reproduce_the_network_on_the_input(network, x, anchors):
    network = network.eval().double()
    wide = copy.deepcopy(network)
    widen_first_layer(wide, "copy")
    out = AnchoredModule(wide)(x.double(), anchors.double())
    torch.testing.assert_close(out, network(x.double()), rtol=1e-11, atol=1e-12)


def test_fresh_weights_are_new_and_of_the_layer_s_own_start():
    layer = nn.Conv2d(3, 500, 3, bias=True)
    nn.init.zeros_(layer.weight)
    assert widen_first_layer(layer, "fresh") == ""
    assert layer.weight.shape == (500, 6, 3, 3)
    bound = (1 / (6 * 9)) ** 0.5
    assert 0.9 * bound < layer.weight.abs().max() <= bound


def test_only_the_first_layer_changes():
    net = SmallNet(channels=3)
    before = copy.deepcopy(net)
    net.conv.weight.requires_grad_(False)
    assert widen_first_layer(net) == "conv"
    assert not net.conv.weight.requires_grad
    assert net.conv.in_channels == 6
    assert torch.equal(net.conv.bias, before.conv.bias)
    assert torch.equal(net.head.weight, before.head.weight)
    assert widen_first_layer(net, "copy", "head") == "head"
    assert net.head.in_features == 256


@pytest.mark.parametrize(
    ("network", "name", "text"),
    [
        (nn.ReLU(), None, "a ReLU, has no convolution or linear layer"),
        (SmallNet(), "cnv", "first_layer='cnv' is no layer.*Did you mean 'conv'"),
        (SmallNet(), "norm", "'norm' is a BatchNorm2d: only a convolution"),
        (nn.Conv2d(4, 4, 3, groups=4), None, "has groups=4"),
        (nn.LazyLinear(3), None, "is lazy and has no weight yet"),
        (
            nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)),
            None,
            "computes its weight from other parameters",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_layers_that_cannot_be_widened(network, name, text):
    with pytest.raises(ValueError, match=text):
        widen_first_layer(network, "copy", name)


# Training ----------------------------------------------------------------------------


def test_it_learns_and_keeps_a_bank(fitted, digits):
    X, y = digits
    assert fitted.score(X[450:], y[450:]) > 0.7
    assert fitted.module_.network.conv.in_channels == 2
    assert fitted.anchors_.shape == (128, 1, 8, 8)
    assert isinstance(fitted.anchors_, np.ndarray)
    rows = {row.tobytes() for row in X[:450]}
    assert all(anchor.tobytes() in rows for anchor in fitted.anchors_)
    assert len({anchor.tobytes() for anchor in fitted.anchors_}) == 128


def test_logits_are_those_of_one_pair_at_a_time(fitted, digits):
    X, _ = digits
    logits = fitted.anchored_logits(X[:5], 3)
    assert logits.shape == (3, 5, 10)
    assert logits.dtype == np.float64
    network = fitted.module_.network.eval()
    anchors = torch.from_numpy(fitted.anchors_[:3])
    for row in range(5):
        expected = logits_from_anchors(network, torch.from_numpy(X[row]), anchors)
        np.testing.assert_allclose(logits[:, row], expected, rtol=1e-4, atol=1e-5)


def test_probabilities_average_the_logits_over_anchors(fitted, digits):
    X, _ = digits
    z = fitted.anchored_logits(X[:20]).mean(axis=0)
    expected = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    probabilities = fitted.predict_proba(X[:20])
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(fitted.predict(X[:20]), expected.argmax(axis=1))


def test_scores_do_not_depend_on_the_batch(fitted, digits):
    X, _ = digits
    whole = fitted.anchored_logits(X[:50])
    parts = [fitted.anchored_logits(X[i : i + 1]) for i in range(50)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=2e-5)


class Spy(AnchoredModule):
    """Notes what it is run on in training."""

    def __init__(self, network):
        super().__init__(network)
        self.seen = []

    def forward(self, x, anchors, shown=None):
        if self.training:
            self.seen.append((x, anchors, shown))
        return super().forward(x, anchors, shown)


class Spied(AnchoredClassifier):
    def _made_module(self, module):
        return Spy(super()._made_module(module).network)


def spied(X, y, **params):
    params = {"max_epochs": 1, "batch_size": 50, "train_split": None, **params}
    net = Spied(SmallNet, random_state=0, device="cpu", **params).fit(X, y)
    return net.module_.seen


def test_anchors_are_the_batch_in_another_order(digits):
    X, y = digits
    for x, anchors, shown in spied(X[:200], y[:200]):
        ordered = [t.flatten(1).sort(dim=0).values for t in (x, anchors)]
        assert torch.equal(*ordered)
        assert not torch.equal(x, anchors)
        assert shown is not None  # corrupted; the residual is taken to clean anchors
        assert not torch.equal(shown, anchors)


def test_anchors_drawn_with_replacement(digits):
    X, y = digits
    for x, anchors, _ in spied(X[:200], y[:200], anchor_draw="replacement"):
        rows = {tuple(row.flatten().tolist()) for row in x}
        drawn = {tuple(row.flatten().tolist()) for row in anchors}
        assert drawn < rows


@pytest.mark.parametrize(
    ("params", "corrupted"),
    [
        ({"corrupt_every": 1}, [True] * 8),
        ({"corrupt_every": 5}, [True, *[False] * 4, True, False, False]),
        ({"corruption": None}, [False] * 8),
    ],
)
def test_how_often_anchors_are_corrupted(digits, params, corrupted):
    X, y = digits
    seen = spied(X[:200], y[:200], max_epochs=2, **params)
    assert [shown is not None for _, _, shown in seen] == corrupted


def test_a_corruption_and_an_augmentation_of_one_s_own(digits):
    X, y = digits
    seen = spied(
        X[:100], y[:100], corruption=torch.zeros_like, augment=lambda x: x + 10
    )
    for x, anchors, shown in seen:
        assert x.min() >= 10
        assert anchors.min() >= 10
        assert torch.equal(shown, torch.zeros_like(x))


def test_an_instance_is_copied_and_carried_over(digits):
    X, y = digits
    torch.manual_seed(0)
    given = SmallNet()
    before = copy.deepcopy(given.state_dict())
    net = AnchoredClassifier(given, max_epochs=1, random_state=0).fit(X, y)
    assert net.module_.network is not given
    assert all(torch.equal(before[k], v) for k, v in given.state_dict().items())
    kernels = (
        AnchoredClassifier(given, random_state=0).initialize().module_.network.conv
    )
    assert torch.equal(kernels.weight, given.conv.weight.repeat(1, 2, 1, 1))
    fresh = (
        AnchoredClassifier(SmallNet, random_state=0).initialize().module_.network.conv
    )
    assert not torch.equal(fresh.weight[:, :1], fresh.weight[:, 1:])


def test_standardize_by_column_and_by_channel():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3)) * [1e-3, 1, 1e3] + [0, 5, -1e6]
    X[:, 1] = 5.0  # constant columns stay
    y = np.arange(60) % 2
    net = AnchoredClassifier(
        MLP(3, 2), standardize=True, max_epochs=1, random_state=0, device="cpu"
    ).fit(X, y)
    prepared = net._prepared(torch.from_numpy(X), torch.float64)
    np.testing.assert_allclose(prepared, StandardScaler().fit_transform(X), atol=1e-9)
    images = rng.integers(0, 255, (40, 3, 8, 8)).astype(np.uint8)
    net = AnchoredClassifier(
        SmallNet(3, n_classes=2), standardize=True, max_epochs=1, random_state=0
    ).fit(images, y[:40])
    prepared = net._prepared(torch.from_numpy(images), torch.float64)
    np.testing.assert_allclose(prepared.mean(dim=(0, 2, 3)).cpu(), 0, atol=1e-9)
    np.testing.assert_allclose(
        prepared.std(dim=(0, 2, 3), correction=0).cpu(), 1, atol=1e-9
    )


class Hungry(AnchoredModule):
    """Runs out of memory for more than so many rows."""

    limit, seen = 12, ()

    def forward(self, x, anchors, shown=None):
        self.seen = (*self.seen, len(x))
        if len(x) > self.limit:
            raise torch.cuda.OutOfMemoryError("out of memory, by design")
        return super().forward(x, anchors, shown)


def test_anchors_go_in_halves_when_memory_is_short():
    network = MLP(4, 3)
    widen_first_layer(network)
    x, anchors = torch.randn(5, 2 + 2), torch.randn(4, 4)
    hungry = Hungry(network)
    expected = joint_logits(AnchoredModule(network), x, anchors)
    torch.testing.assert_close(joint_logits(hungry, x, anchors), expected)
    assert hungry.seen == (20, 10, 10)
    hungry.limit = 3
    with pytest.raises(torch.cuda.OutOfMemoryError, match="by design"):
        joint_logits(hungry, x, anchors)


# Errors ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"corrupt_every": 0}, "'corrupt_every' parameter of AnchoredClassifier"),
        ({"anchor_draw": "random"}, "'anchor_draw' parameter"),
        ({"residual_weights": "none"}, "'residual_weights' parameter"),
        ({"n_bank": 4}, r"n_anchors=5 but there are 480 .* rows and n_bank=4"),
        ({"first_layer": "hed"}, "'hed' is no layer.*Did you mean 'head'"),
        ({"first_layer": "head"}, "Widened was the layer 'head': if another one takes"),
        ({"module__n_classes": 7}, r"puts out \(2, 7\) for 2 rows, but y has 10"),
        ({"module__channels": 3}, "cannot be run on an anchor and a residual of shape"),
    ],
)
def test_parameters_are_checked_in_fit(digits, params, text):
    X, y = digits
    net = AnchoredClassifier(SmallNet, random_state=0, **params)
    with pytest.raises(ValueError, match=text):
        net.fit(X[:480], y[:480])


def test_more_anchors_than_the_bank_has(fitted, digits):
    with pytest.raises(ValueError, match="n_anchors=129, but the bank has 128 anchors"):
        fitted.anchored_logits(digits[0][:2], 129)


def test_the_corruptions_of_the_paper_s_table_8(digits):
    X, y = digits
    parts = [
        ImageCorruption(scale=None, flip=0.0, grayscale=0.0),
        ImageCorruption(scale=None, jitter=0.0),
        ImageCorruption(flip=0.0, jitter=0.0, grayscale=0.0),
    ]
    for corruption in parts:
        net = AnchoredClassifier(
            SmallNet, corruption=corruption, max_epochs=1, random_state=0
        )
        assert net.fit(X[:200], y[:200]).classes_.tolist() == list(range(10))
