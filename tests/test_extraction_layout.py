"""Where a layer's channels are, and which tensor is its output."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import Sequence1d, Tokens
from torch import nn

from skood import LayerFeatureTransformer
from skood.extraction.channels import Before, Reading, channel_width, reading
from skood.extraction.entries import first_tensor


class Permute(nn.Module):
    def __init__(self, *order):
        super().__init__()
        self.order = order

    def forward(self, x):
        return x.permute(self.order)


class Double(nn.Module):
    """A block of its own kind, in which nothing says where the channels are."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x) * 2


def widths(network, X, layers):
    features = LayerFeatureTransformer(network, layers).fit_transform(X)
    return {layer: features.block(layer).shape[1] for layer in layers}


def test_activations_after_a_convolution_have_their_channels_first():
    X = torch.randn(4, 2, 9)
    assert widths(Sequence1d(), X, ["conv", "act"]) == {"conv": 5, "act": 5}


def test_a_recurrent_layer_has_them_last_even_after_a_convolution():
    assert widths(Sequence1d(), torch.randn(4, 2, 9), ["gru"]) == {"gru": 4}


def test_square_maps_of_a_convolution_are_read_by_kind():
    network = nn.Sequential(Double(nn.Conv1d(2, 7, 3)), nn.AvgPool1d(1))
    X = torch.randn(4, 2, 9)
    expected = network[0](X).mean(2)
    features = LayerFeatureTransformer(network, ["0", "1"]).fit_transform(X)
    for layer in ("0", "1"):
        assert torch.allclose(torch.tensor(features.block(layer)), expected)


def test_patches_that_became_tokens_have_them_last():
    patches = nn.Sequential(nn.Conv2d(3, 6, 4, stride=4), nn.Flatten(2))
    network = nn.Sequential(patches, Permute(0, 2, 1), nn.GELU())
    X = torch.randn(4, 3, 8, 8)
    assert widths(network, X, ["0", "1", "2"]) == {"0": 6, "1": 6, "2": 6}


def test_maps_with_channels_last_are_told_by_their_norm():
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), Permute(0, 2, 3, 1), nn.LayerNorm(6), nn.GELU()
    )
    X = torch.randn(4, 3, 8, 8)
    assert widths(network, X, ["0", "2", "3"]) == {"0": 6, "2": 6, "3": 6}


def test_concatenated_maps_stay_channels_first_whatever_their_sides():
    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, padding=1)

        def forward(self, x):
            return torch.cat([x, self.conv(x)], dim=1)

    network = nn.Sequential(Dense())  # 11 channels of 8 x 8: only the sides are 8
    assert widths(network, torch.randn(4, 3, 8, 8), ["0"]) == {"0": 11}


@pytest.mark.parametrize(("channels", "width"), [("first", 7), ("last", 5)])
def test_channels_can_be_forced(channels, width):
    features = LayerFeatureTransformer(nn.Sequential(nn.Identity()), "0")
    features.set_params(channels=channels)
    assert features.fit_transform(torch.randn(3, 7, 5)).shape == (3, width)


def test_tokens_without_any_hint_have_their_channels_last():
    assert reading(nn.Identity(), torch.ones(2, 7, 5), None) == Reading(True)
    assert reading(nn.Identity(), torch.ones(2, 7, 5, 5), None) == Reading(False)


@pytest.mark.parametrize(
    ("module", "width"),
    [
        (nn.Linear(2, 3), 3),
        (nn.Conv2d(2, 4, 1), 4),
        (nn.GroupNorm(2, 6), 6),
        (nn.LayerNorm((5, 7)), 7),
        (nn.Embedding(9, 8), 8),
        (nn.MultiheadAttention(4, 2), 4),
        (nn.LSTM(3, 5, bidirectional=True), 10),
        (nn.LSTM(3, 5, proj_size=2), 2),
        (nn.ReLU(), None),
    ],
)
def test_torch_layers_say_how_wide_they_are(module, width):
    assert channel_width(module) == width


def test_the_first_tensor_is_found_in_what_networks_return():
    a, b = torch.ones(1), torch.zeros(1)
    assert first_tensor([None, (a, b)]) is a
    assert first_tensor({"loss": b, "logits": a}) is a
    assert first_tensor({"logits": b, "last_hidden_state": a}) is a
    assert first_tensor({"x": None, "y": a}) is a
    assert first_tensor({"x": None}) is None
    assert first_tensor("text") is None


def test_rows_that_are_not_the_first_axis_are_an_error():
    network = nn.Sequential(Permute(1, 0, 2), nn.GRU(4, 3))
    features = LayerFeatureTransformer(network, ["1"])
    message = r"layer '1' puts out a tensor of shape \(6, 2, 3\) for 2 rows .* first"
    for rows in (3, 6):  # as many rows as steps look alike in a whole batch
        with pytest.raises(ValueError, match=message):
            features.fit(torch.randn(rows, 6, 4))


def test_a_layer_without_a_tensor_is_an_error():
    class Text(nn.Module):
        def forward(self, x):
            return "text"

    features = LayerFeatureTransformer(nn.Sequential(Text()), "0")
    with pytest.raises(ValueError, match="layer '0' puts out no tensor"):
        features.fit_transform(torch.randn(3, 6))


def test_attention_layers_give_their_tokens():
    ids = torch.randint(0, 20, (4, 6))

    def batch(rows):
        return {"input_ids": rows, "attention_mask": torch.ones_like(rows)}

    layers = ["embed", "attend", "norm", "feed", "feed.1"]
    features = LayerFeatureTransformer(Tokens(), layers, preprocess=batch)
    found = [features.fit_transform(ids).block(layer).shape[1] for layer in layers]
    assert found == [8, 8, 8, 8, 12]


def made(module, shape):
    """What a layer put out before."""
    return Before.of(module, torch.randn(shape))


@pytest.mark.parametrize(
    ("module", "shape", "before", "last", "guess"),
    [
        (nn.Identity(), (2, 6, 6), (nn.Linear(1, 6), (2, 6)), True, True),
        (nn.Identity(), (2, 9, 6), (nn.Linear(1, 6), (2, 6)), True, False),
        (nn.Identity(), (2, 6, 9), (nn.Conv1d(1, 6, 1), (2, 6, 7)), False, False),
        (nn.Identity(), (2, 9, 8), (nn.Linear(1, 6), (2, 4, 6)), True, True),
        # without anything before, three axes are tokens, of any size
        (nn.Identity(), (2, 6, 6), None, True, False),
        # the sides tell, whatever became of the channels
        (nn.Identity(), (2, 6, 6, 9), (nn.Conv2d(1, 6, 1), (2, 6, 6, 6)), True, False),
        (nn.Identity(), (2, 9, 6, 6), (nn.Conv2d(1, 6, 1), (2, 6, 6, 6)), False, False),
        (nn.Identity(), (2, 5, 7, 9), (nn.Conv2d(1, 6, 1), (2, 6, 5, 7)), True, False),
        # pooled by no layer: two sides that could be anything, one of them the width
        (nn.Identity(), (2, 9, 3, 6), (nn.Conv2d(1, 6, 1), (2, 6, 8, 8)), False, True),
        (nn.Identity(), (2, 4, 4, 6), (nn.LayerNorm(6), (2, 8, 8, 6)), True, False),
        (nn.LayerNorm(6), (2, 6, 6), (nn.Linear(1, 6), (2, 6)), True, False),
        (nn.Conv1d(6, 6, 1), (2, 6, 6), (nn.Linear(1, 6), (2, 6)), False, False),
    ],
)
def test_channels_are_read_from_kind_sides_and_width(
    module, shape, before, last, guess
):
    given = None if before is None else made(*before)
    assert reading(module, torch.randn(shape), given) == Reading(last, guess)


@pytest.mark.parametrize("shape", [(2, 6, 6), (2, 6, 6, 6)])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_cubes_are_told_by_their_values(shape, channels_last, turned):
    torch.manual_seed(0)
    given = torch.randn(shape)
    output = (
        given.movedim(*((-1, 1) if channels_last else (1, -1))) if turned else given
    )
    output = output.relu() + 0.3 * torch.randn(shape)
    found = reading(nn.ReLU(), output, Before(6, channels_last, given))
    assert found == Reading(channels_last != turned)
    unlike = reading(nn.ReLU(), torch.ones(shape), Before(6, channels_last, given))
    assert unlike == Reading(channels_last, is_guess=True)


def test_a_guess_is_a_warning_that_says_how_to_settle_it():
    class Sorted(nn.Module):
        def forward(self, x):
            return torch.ones_like(x) * x.sum(dim=(1, 2), keepdim=True)

    network = nn.Sequential(nn.Linear(4, 6), Sorted())
    X = torch.randn(3, 6, 4)
    features = LayerFeatureTransformer(network, ["0", "1"])
    with pytest.warns(UserWarning, match=r"layer '1' .* channels=\{'1': 'first'\}"):
        features.fit(X)
    features.set_params(channels={"1": "first"}).fit(X)  # no warning any more
    with pytest.raises(ValueError, match=r"channels has 'x'; the layers are \['0'"):
        features.set_params(channels={"x": "first"}).fit(X)
    with pytest.raises(ValueError, match="channels has '1': 'middle'; wanted is"):
        features.set_params(channels={"1": "middle"}).fit(X)


def test_channels_can_be_said_for_one_layer():
    network = nn.Sequential(nn.Identity(), nn.Conv1d(7, 3, 1))
    features = LayerFeatureTransformer(network, ["0", "1"], channels={"0": "first"})
    assert features.fit_transform(torch.randn(3, 7, 5)).widths == {
        ("0", "avg"): 7,
        ("1", "avg"): 3,
    }


def test_maps_that_were_permuted_are_read_by_their_sides():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), Permute(0, 2, 3, 1), nn.GELU())
    X = torch.randn(4, 3, 16, 16)
    assert widths(network, X, ["0", "1", "2"]) == {"0": 8, "1": 8, "2": 8}
    X = torch.randn(4, 3, 10, 10)  # as wide and as high as it has channels
    expected = network[0](X).mean((2, 3)).detach().numpy()
    found = LayerFeatureTransformer(network, ["0", "1"]).fit_transform(X)
    for layer in ("0", "1"):
        np.testing.assert_allclose(found.block(layer), expected, atol=1e-6)
