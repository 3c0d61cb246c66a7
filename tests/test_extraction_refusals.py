"""Inputs that cannot be taken are refused, with the row or the line that mends them."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from given_rows import (
    Listed,
    logits,
)
from networks import Fragile
from torch import nn
from torch.utils.data import (
    IterableDataset,
    TensorDataset,
)

from skood import LayerFeatureTransformer, list_layers
from skood.extraction.inputs import Inputs


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(10, 3))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 2))


# Images that come in another form --------------------------------------------------


def advice(network, X, preprocess=None):
    features = LayerFeatureTransformer(network, "0", preprocess=preprocess)
    with pytest.raises((RuntimeError, ValueError, TypeError)) as caught:
        features.fit(X)
    notes = [str(caught.value), *getattr(caught.value, "__notes__", [])]
    return "\n".join(notes)


def image_like(channels, dtype, *shape):
    values = np.random.default_rng(0).integers(0, 255, size=shape)
    return values.astype(dtype), nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU())


IMAGES = {
    "bytes": image_like(3, np.uint8, 4, 3, 8, 9),
    "channels last": image_like(3, np.float32, 4, 8, 9, 3),
    "bytes, channels last": image_like(3, np.uint8, 4, 8, 9, 3),
    "no channel axis": image_like(1, np.float32, 4, 8, 9),
    "grey for colour": image_like(3, np.uint8, 4, 8, 9),
    "one channel for three": image_like(3, np.float32, 4, 1, 8, 9),
    "with transparency": image_like(3, np.uint8, 4, 8, 9, 4),
    "whole numbers": image_like(3, np.int64, 4, 3, 8, 9),
}


@pytest.mark.parametrize("holder", ["array", "tensor", "list", "Dataset"])
@pytest.mark.parametrize("form", IMAGES)
def test_an_image_in_another_form_is_mended_by_the_line_that_is_told(form, holder):
    X, network = IMAGES[form]
    X = {"tensor": torch.tensor, "list": list, "Dataset": Listed}.get(
        holder, np.asarray
    )(X)
    told = advice(network, X)
    assert "The network wants floating numbers of shape (rows, " in told
    line = re.search(r"give preprocess=(lambda .*)", told)[1]
    mend = eval(line, {"torch": torch, "np": np})
    features = LayerFeatureTransformer(network, "0", preprocess=mend)
    assert features.fit_transform(X).shape == (4, 4)


def test_a_preprocess_is_told_how_to_end():
    X, network = IMAGES["channels last"]
    assert "end preprocess with rows.movedim(-1, 1)" in advice(
        network, X, torch.as_tensor
    )


def test_images_of_pil_are_mended_by_the_line_that_is_told():
    images = pytest.importorskip("PIL.Image", reason="no dependency of skood's")
    rng = np.random.default_rng(0)
    sizes = [(40, 30), (50, 60)]
    X = [
        images.fromarray(rng.integers(0, 255, (h, w, 3)).astype(np.uint8))
        for h, w in sizes
    ]
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=8))
    told = advice(network, X)
    mend = eval(re.search(r"preprocess=(lambda .* / 255)", told)[1], {"np": np})
    features = LayerFeatureTransformer(network, "0", preprocess=mend)
    assert features.fit_transform(X).shape == (2, 4)
    alike = [image.resize((20, 20)) for image in X]
    line = re.search(r"give preprocess=(lambda .*)", advice(network, alike))[1]
    mend = eval(line, {"torch": torch, "np": np})
    features.set_params(preprocess=mend)
    assert features.fit_transform(alike).shape == (2, 4)


# Refusals --------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_values_are_errors_that_name_their_rows(bad, network, X):
    finite = X.copy()
    X[[5, 8], 1] = bad
    with pytest.raises(ValueError, match=r"X has NaN or infinity in row 8: remove"):
        logits(network, X[[0, 1, 2, 3, 4, 6, 7, 9, 8]], batch_size=4)
    with pytest.raises(ValueError, match="X has NaN or infinity in rows 5, 8"):
        logits(network, X, batch_size=10)
    X[:] = bad
    with pytest.raises(ValueError, match="rows 0, 1, 2, 3, 4 and 5 more of the batch"):
        LayerFeatureTransformer(network, "logits").fit(finite).transform(X)


def test_large_finite_values_are_no_infinity():
    X = torch.full((4, 3), 3e38)
    assert torch.equal(Inputs(X)[slice(0, 4)].args[0], X)


def test_bad_values_made_by_preprocess_are_found_too(network, X):
    with pytest.raises(ValueError, match="input has NaN or infinity in rows 0, 1"):
        logits(network, X, lambda rows: {"input": rows * np.nan})


def test_infinity_in_an_additive_mask_is_meant():
    class Masked(nn.Module):
        def forward(self, x, bias_mask):
            return (x[:, None] + bias_mask).exp().sum(1)

    def masked(rows):
        return {"x": rows, "bias_mask": np.full((len(rows), 2, 3), -np.inf)}

    assert not logits(Masked(), np.ones((4, 3)), masked).any()


@pytest.mark.parametrize(
    "X",
    [np.ones((0, 3)), [], torch.ones(0, 3), TensorDataset(torch.ones(0, 3))],
    ids=["array", "list", "tensor", "Dataset"],
)
def test_no_rows_are_an_error(X, network):
    with pytest.raises(ValueError, match=r"X has 0 rows.*: a minimum of 1"):
        LayerFeatureTransformer(network, "logits").fit(X)


class Endless(IterableDataset):
    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(
    "X", ["text", {"x": [1]}, 3, np.float64(3), None, Endless(), iter([1])]
)
def test_what_has_no_rows_to_cut_is_an_error(X, network):
    with pytest.raises(
        TypeError, match="wanted is an array or tensor whose first axis"
    ):
        LayerFeatureTransformer(network, "logits").fit(X)


def test_texts_without_preprocess_are_an_error(network):
    for texts in (["a", "b"], np.array(["a", "b"], dtype=object)):
        with pytest.raises(TypeError, match=r"rows of X \(str\) .* give preprocess="):
            LayerFeatureTransformer(network, "logits").fit(texts)
    with pytest.raises(TypeError, match=r"rows of preprocess \(str\) .* must do that"):
        logits(network, ["a", "b"], list)


@pytest.mark.parametrize("X", [["a", "b"], [{"input_ids": [1]}, {"input_ids": [2]}]])
def test_the_tokenizer_of_texts_belongs_to_preprocess(network, X):
    for look in (list_layers, LayerFeatureTransformer(network, "1").fit):
        with pytest.raises(
            TypeError, match=r"preprocess=functools\.partial\(tokenizer"
        ):
            look(*((network, X) if look is list_layers else (X,)))


def test_what_a_tokenizer_made_is_no_X(network):
    with pytest.raises(TypeError, match="give the texts as X and the tokenizer as pre"):
        LayerFeatureTransformer(network, "1").fit({"input_ids": torch.ones(2, 3)})


def test_preprocess_keeps_the_number_of_rows(network, X):
    message = r"preprocess made X of shape \(1, 3\) from 2 rows: the first axis"
    with pytest.raises(ValueError, match=message):
        logits(network, X, lambda rows: rows[:1])


def test_a_mask_that_keeps_nothing_is_an_error():
    class Pooled(nn.Module):
        def forward(self, x, attention_mask):
            return x

    def masked(rows):
        return {"x": rows, "attention_mask": torch.tensor([[1, 1], [0, 0]])}

    with pytest.raises(ValueError, match="attention_mask keeps no token in row 1"):
        logits(Pooled(), np.ones((2, 2)), masked)


def test_the_networks_own_error_says_where_and_of_what_type():
    network = nn.Sequential(nn.Conv2d(3, 2, 1))
    X = np.ones((6, 3, 4, 4), dtype=np.uint8)
    with pytest.raises(RuntimeError) as caught:
        LayerFeatureTransformer(network, "0").fit(X)
    told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "The network ran on rows 0 to 1 of X." in told
    assert "Its input is X: torch.uint8 of shape (2, 3, 4, 4)." in told
    assert "Its weights are torch.float32; floating inputs are cast" in told


def test_the_networks_own_error_says_what_shape_came(network):
    network = nn.Sequential(nn.Conv2d(3, 2, 1))
    for X in (np.ones((3, 8, 8)), np.ones((5, 1, 8, 8))):
        with pytest.raises(RuntimeError) as caught:
            LayerFeatureTransformer(network, "0").fit(X)
        told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
        shape = (2, *X.shape[1:])
        assert f"Its input is X: torch.float64 of shape {shape}." not in told
        assert f"Its input is X: torch.float32 of shape {shape}." in told


@pytest.mark.parametrize("name", ["x", "pixel_values"])
def test_arguments_that_the_network_does_not_take_by_name_are_told(name):
    class Positional(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, features, **_):
            return self.fc(features)

    with pytest.raises(TypeError, match="missing 1 required positional") as caught:
        LayerFeatureTransformer(
            Positional(), "fc", preprocess=lambda rows: {name: rows}
        ).fit(np.ones((4, 3)))
    told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert f"given as keyword arguments ['{name}']; a tuple that preprocess" in told


def test_an_error_in_the_forward_says_with_which_rows():
    X = np.ones((10, 3))
    X[7] = 1000
    features = LayerFeatureTransformer(Fragile(), "last", batch_size=3).fit(X)
    with pytest.raises(ArithmeticError, match="the network broke") as caught:
        features.transform(X)
    told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "The network ran on rows 6 to 8 of X." in told


def test_complex_inputs_are_checked_too():
    rows = np.ones((4, 3), np.complex64)
    rows[2, 1] = complex(0, np.nan)
    network = nn.Sequential(nn.Identity())
    with pytest.raises(ValueError, match="X has NaN or infinity in row 2"):
        LayerFeatureTransformer(network, "0").fit(rows).transform(rows)
