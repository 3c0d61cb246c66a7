"""Corruptions of anchors and pseudo outliers made from a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

from skood.neural import ImageCorruption, VectorCorruption
from skood.neural.contrast import KINDS, kinds_for, pseudo_outliers
from skood.neural.corruption import blurred, cropped, grey

NOTHING = {"scale": None, "flip": 0.0, "jitter": 0.0, "grayscale": 0.0}


def images(n=6, channels=3, side=12, seed=0):
    return torch.rand(
        (n, channels, side, side), generator=torch.Generator().manual_seed(seed)
    )


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@given(
    shape=st.tuples(*[st.integers(1, 5)] * 2, *[st.integers(1, 14)] * 2),
    double=st.booleans(),
)
def test_shape_type_and_input_stay(shape, double):
    x = torch.rand(shape, dtype=torch.float64 if double else torch.float32)
    before = x.clone()
    for corruption in (
        ImageCorruption(contrast=0.5, saturation=0.5),
        VectorCorruption(),
    ):
        out = corruption(x)
        assert out.shape == x.shape
        assert out.dtype == x.dtype
        assert out.isfinite().all()
        assert torch.equal(x, before)


def test_each_part_can_be_left_out():
    x = images()
    assert torch.equal(ImageCorruption(**NOTHING)(x), x)
    assert torch.equal(VectorCorruption(noise=0.0, dropout=0.0)(x), x)


def test_flip():
    x = images()
    flipped = ImageCorruption(**{**NOTHING, "flip": 1.0})(x)
    assert torch.equal(flipped, x.flip(-1))
    half = ImageCorruption(**{**NOTHING, "flip": 0.5})(images(400, 1, 4))
    same = (half == images(400, 1, 4)).flatten(1).all(dim=1)
    assert 0.4 < same.float().mean() < 0.6


def test_grey_is_luma_or_mean():
    x = images()
    out = ImageCorruption(**{**NOTHING, "grayscale": 1.0})(x)
    luma = 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    torch.testing.assert_close(out, luma[:, None].expand_as(x))
    two = images(channels=2)
    torch.testing.assert_close(grey(two)[:, 1], two.mean(dim=1))
    one = images(channels=1)
    torch.testing.assert_close(grey(one), one)


def test_brightness_is_one_factor_an_image_and_does_not_clip():
    x = images() - 0.5
    part = {**NOTHING, "jitter": 1.0, "sigma": None}
    ratio = ImageCorruption(**part)(x) / x
    lowest, highest = ratio.flatten(1).amin(dim=1), ratio.flatten(1).amax(dim=1)
    torch.testing.assert_close(lowest, highest)
    assert ((lowest > 0.5) & (lowest < 1.5)).all()
    assert len(lowest.unique()) == len(x)


def test_contrast_keeps_the_mean_and_saturation_the_grey_version():
    x = images(channels=1)
    part = {**NOTHING, "jitter": 1.0, "sigma": None, "brightness": 0.0}
    out = ImageCorruption(**part, contrast=0.9)(x)
    torch.testing.assert_close(out.mean(dim=(1, 2, 3)), x.mean(dim=(1, 2, 3)))
    assert not torch.allclose(out, x)
    x = images()
    out = ImageCorruption(**part, saturation=0.9)(x)
    torch.testing.assert_close(grey(out), grey(x))
    assert not torch.allclose(out, x)


def test_blur_is_scipys():
    x = images(3).double()
    expected = x.numpy()
    for axis in (2, 3):
        expected = gaussian_filter1d(expected, 2.0, axis=axis, mode="nearest", radius=4)
    np.testing.assert_allclose(blurred(x, 2.0, 2.0), expected, rtol=1e-6)


def test_every_image_has_its_own_draw():
    same = images(1).expand(50, -1, -1, -1)
    for part in (
        {"scale": (0.6, 1.0)},
        {"jitter": 1.0, "sigma": None},
        {"jitter": 1.0, "brightness": 0.0},
    ):
        out = ImageCorruption(**{**NOTHING, **part})(same)
        assert len(out.flatten(1).unique(dim=0)) == 50


def test_a_crop_shows_a_part_of_the_image():
    # In an image of a ramp, the range of a crop is the share of the side it shows.
    ramp = torch.linspace(0, 1, 64).expand(200, 1, 64, 64)
    out = cropped(ramp, 0.6, 1.0)[:, 0]
    shown = out[:, 0, -1] - out[:, 0, 0]
    assert shown.min() > 0.65  # sqrt(0.6 * 3 / 4)
    assert shown.max() <= 1.0
    assert (shown < 0.95).any()
    whole = cropped(ramp, 1.0, 1.0)
    assert whole.shape == ramp.shape
    torch.testing.assert_close(out[:, 0], out[:, -1])  # rows stay alike


def test_noise_is_relative_to_each_feature():
    x = torch.randn(4000, 2) * torch.tensor([1e-3, 1e3]) + torch.tensor([5.0, 0.0])
    change = (VectorCorruption(noise=0.1, dropout=0.0)(x) - x).std(dim=0) / x.std(dim=0)
    torch.testing.assert_close(change, torch.full((2,), 0.1), rtol=0.05, atol=0)
    dropped = VectorCorruption(noise=0.0, dropout=0.3)(x)
    assert 0.27 < (dropped == x.mean(dim=0)).float().mean() < 0.33


def test_images_are_asked_for():
    with pytest.raises(ValueError, match=r"shape \(3, 4\): images are .*VectorCorr"):
        ImageCorruption()(torch.zeros(3, 4))


# Pseudo outliers ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_pseudo_outliers_have_the_batch_s_shape_and_are_other_rows(kind):
    x, y = images(), torch.arange(6) % 2
    before = x.clone()
    made = pseudo_outliers(x, y, [kind])
    assert made.shape == x.shape
    assert made.dtype == x.dtype
    assert torch.equal(x, before)
    assert not (made == x).flatten(1).all(dim=1).any()


def test_jigsaw_and_permute_move_what_is_there():
    x, y = images(side=9), torch.arange(6)
    for kind, axis in (("jigsaw", 1), ("permute", 0)):
        made = KINDS[kind](x, y)
        moved, kept = (t.flatten(1).sort(dim=axis).values for t in (made, x))
        assert torch.equal(moved, kept), kind


def test_mixup_mixes_classes():
    x = torch.tensor([[0.0], [0.0], [2.0], [2.0]])
    made = KINDS["mixup"](x, torch.tensor([0, 0, 1, 1]))
    assert torch.equal(made, torch.ones(4, 1))
    alone = KINDS["mixup"](x, torch.zeros(4))  # one class: any partner
    assert alone.shape == x.shape


def test_noise_has_the_moments_of_the_channels():
    x = images(200) * torch.tensor([1.0, 5.0, 0.1])[None, :, None, None] + 3
    made = KINDS["noise"](x, torch.zeros(200))
    torch.testing.assert_close(
        made.mean(dim=(0, 2, 3)), x.mean(dim=(0, 2, 3)), rtol=0.02, atol=0
    )
    torch.testing.assert_close(
        made.std(dim=(0, 2, 3)), x.std(dim=(0, 2, 3)), rtol=0.02, atol=0
    )


def test_kinds_are_mixed_in_a_batch():
    x = torch.arange(40.0).reshape(40, 1).expand(40, 3) + torch.tensor([0.0, 100, 200])
    made = pseudo_outliers(x, torch.arange(40), kinds_for(2))
    assert kinds_for(4) == ("jigsaw", "mixup", "noise")
    halves = (made * 2 == (made * 2).round()).all(dim=1)  # noise is no such number
    assert 5 < (~halves).sum() < 25
