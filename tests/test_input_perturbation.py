"""Inputs moved along the gradient of a score."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from torch import nn

from skood import MSP, InputPerturbation, LayerFeatureTransformer, load, save


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(64, 3)
    ).eval()


@pytest.fixture(scope="module")
def images():
    return torch.rand(6, 2, 6, 6, generator=torch.Generator().manual_seed(1))


def log_confidence(network, x, temperature):
    return torch.log_softmax(network(x) / temperature, dim=1).amax(dim=1)


def slopes(function, x, width=1e-6):
    """Return the gradients of a function of rows by central differences."""
    x = x.double()
    found = torch.zeros_like(x).flatten(1)
    for column in range(found.shape[1]):
        ahead, behind = x.flatten(1).clone(), x.flatten(1).clone()
        ahead[:, column] += width
        behind[:, column] -= width
        rise = function(ahead.reshape(x.shape)) - function(behind.reshape(x.shape))
        found[:, column] = rise / (2 * width)
    return found.reshape(x.shape)


@pytest.mark.parametrize("temperature", [1.0, 1000.0])
def test_the_step_is_along_the_sign_of_the_gradient(network, images, temperature):
    double = copy.deepcopy(network).double()
    moved = InputPerturbation(double, step=0.25, temperature=temperature)
    x = images.double()
    with torch.no_grad():
        gradient = slopes(lambda v: log_confidence(double, v, temperature), x)
    clear = gradient.abs() > 1e-9
    assert clear.float().mean() > 0.9
    expected = x + 0.25 * gradient.sign()
    torch.testing.assert_close(moved(x)[clear], expected[clear])


def test_it_raises_the_score_and_a_negative_step_lowers_it(network, images):
    before = log_confidence(network, images, 1.0)
    for step in (0.001, -0.001):
        moved = InputPerturbation(network, step=step, temperature=1.0)(images)
        after = log_confidence(network, moved, 1.0)
        assert ((after - before) * step > 0).all()


def test_any_score_of_any_module(images):
    encoder = nn.Flatten()
    moved = InputPerturbation(encoder, step=0.5, score=lambda h: -h.square().sum(1))
    torch.testing.assert_close(moved(images), images - 0.5 * images.sign())


def test_only_the_entries_with_the_smallest_gradients_move(network, images):
    whole = InputPerturbation(network)._gradient(images).abs().flatten(1)
    moved = InputPerturbation(network, step=1.0, share=0.25)(images)
    changed = (moved != images).flatten(1)
    assert (changed.sum(dim=1) == 18).all()  # of 72
    for row, change in zip(whole, changed, strict=True):
        assert row[change].max() <= row[~change].min()


def test_the_step_is_in_units_before_normalisation(network, images):
    plain = InputPerturbation(network, step=0.1)(images) - images
    scaled = InputPerturbation(network, step=0.1, std=[0.5, 0.25])(images) - images
    torch.testing.assert_close(scaled[:, 0], plain[:, 0] / 0.5)
    torch.testing.assert_close(scaled[:, 1], plain[:, 1] / 0.25)


def test_the_network_is_left_alone(network, images):
    own = copy.deepcopy(network).train()
    own[0].weight.grad = kept = torch.ones_like(own[0].weight)
    x = images.clone()
    first = InputPerturbation(own)(x)
    assert own.training
    assert own[3].training
    assert own[0].weight.grad is kept
    assert own[4].weight.grad is None
    assert not first.requires_grad
    torch.testing.assert_close(x, images)
    torch.testing.assert_close(InputPerturbation(own)(x), first)  # no dropout


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_had_where_they_are_switched_off(network, images, mode):
    expected = InputPerturbation(network)(images)
    with mode():
        found = InputPerturbation(network)(images.clone())
    torch.testing.assert_close(found, expected)


def test_rows_do_not_depend_on_each_other(network, images):
    moved = InputPerturbation(network, share=0.5)
    alone = torch.cat([moved(image[None]) for image in images])
    torch.testing.assert_close(moved(images), alone)


def test_features_of_a_preprocess_and_of_a_view_are_those_of_moved_inputs(
    network, images
):
    moved = InputPerturbation(network, step=0.2, preprocess=lambda x: x / 2)
    as_preprocess = LayerFeatureTransformer(
        network, ["0", "logits"], preprocess=moved, batch_size=4
    )
    found = as_preprocess.fit_transform(images)
    with torch.no_grad():
        expected = network(moved(images)).numpy()
    np.testing.assert_allclose(found.block("logits"), expected, rtol=1e-5, atol=1e-6)
    new = as_preprocess.transform(images[:3])
    np.testing.assert_allclose(new.block("logits"), expected[:3], rtol=1e-5, atol=1e-6)

    view = InputPerturbation(network, step=0.2)
    beside = LayerFeatureTransformer(
        network, ["0", "logits"], views={"moved": view}, batch_size=4
    ).fit_transform(images)
    with torch.no_grad():
        expected = network(view(images)).numpy(), network(images).numpy()
    of_view = beside.views["moved"].block("logits")
    np.testing.assert_allclose(of_view, expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        beside.block("logits"), expected[1], rtol=1e-5, atol=1e-6
    )


def test_clones_share_the_network_and_files_keep_it(network, images):
    moved = InputPerturbation(network, step=0.2)
    transformer = LayerFeatureTransformer(network, ["logits"], preprocess=moved)
    assert clone(transformer).preprocess.network is network
    again = pickle.loads(pickle.dumps(moved))
    torch.testing.assert_close(again(images), moved(images))


def test_a_cache_tells_perturbations_apart(network):
    other = copy.deepcopy(network)
    with torch.no_grad():
        other[0].weight += 1
    keys = {
        InputPerturbation(network).cache_key,
        InputPerturbation(network, step=0.1).cache_key,
        InputPerturbation(network, share=0.1).cache_key,
        InputPerturbation(network, score=lambda z: z.sum(1)).cache_key,
        InputPerturbation(other).cache_key,
    }
    assert len(keys) == 5
    assert InputPerturbation(network).cache_key in keys


@pytest.mark.parametrize(
    ("parameters", "text"),
    [({"share": 0.0}, "share=0.0"), ({"temperature": 0.0}, "temperature=0.0")],
)
def test_parameters_out_of_range_are_refused(network, parameters, text):
    with pytest.raises(ValueError, match=text):
        InputPerturbation(network, **parameters)


def test_inputs_and_scores_of_no_use_are_refused(network, images):
    with pytest.raises(TypeError, match=r"torch\.uint8.*preprocess"):
        InputPerturbation(network)(images.byte())
    with pytest.raises(ValueError, match="shape"):
        InputPerturbation(network, score=lambda z: z)(images)
    with pytest.raises(ValueError, match="give score="):
        InputPerturbation(network[0])(images)


def test_a_pipeline_with_it_is_saved_with_the_network_once(network, images, tmp_path):
    odin = InputPerturbation(network)
    extractor = LayerFeatureTransformer(network, ["logits"], preprocess=odin)
    pipeline = make_pipeline(extractor, MSP(temperature=1000)).fit(images)
    save(pipeline, tmp_path / "odin")
    loaded = load(tmp_path / "odin", network=network)
    expected = pipeline.score_samples(images)
    np.testing.assert_array_equal(loaded.score_samples(images), expected)
