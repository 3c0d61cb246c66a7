"""Jigsaw: against a loop, in any batch, on arrays and on tensors."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skood.model_selection import Jigsaw


def slow_jigsaw(image, order, grid):
    """One image (channels, height, width), tile by tile."""
    high, wide = image.shape[1] // grid, image.shape[2] // grid
    out = np.zeros_like(image)
    for place, tile in enumerate(order):
        to, frm = divmod(place, grid), divmod(int(tile), grid)
        for y in range(high):
            for x in range(wide):
                out[:, to[0] * high + y, to[1] * wide + x] = image[
                    :, frm[0] * high + y, frm[1] * wide + x
                ]
    return out


@given(
    n=st.integers(0, 4),
    channels=st.integers(1, 3),
    sides=st.tuples(st.integers(4, 11), st.integers(4, 11)),
    grid=st.integers(2, 4),
    seed=st.integers(0, 5),
)
def test_equals_a_loop_over_tiles(n, channels, sides, grid, seed):
    images = np.arange(1, n * channels * sides[0] * sides[1] + 1)
    images = images.reshape(n, channels, *sides)
    before = images.copy()
    jigsaw, rows = Jigsaw(grid, seed), np.arange(n) + 7
    found = jigsaw(images, rows)
    assert found.shape == images.shape
    assert found.dtype == images.dtype
    for image, order, made in zip(images, jigsaw.orders(rows), found, strict=True):
        assert sorted(order) == list(range(grid**2))
        np.testing.assert_array_equal(made, slow_jigsaw(image, order, grid))
    np.testing.assert_array_equal(images, before)


def test_no_channels_is_one_channel():
    images = np.random.default_rng(0).random((3, 9, 10))
    np.testing.assert_array_equal(
        Jigsaw()(images, range(3)), Jigsaw()(images[:, None], range(3))[:, 0]
    )


@given(split=st.integers(1, 7))
def test_a_row_comes_out_the_same_in_any_batch(split):
    images = np.random.default_rng(0).random((8, 2, 6, 6))
    whole = Jigsaw()(images, np.arange(8))
    parts = [
        Jigsaw()(images[:split], np.arange(split)),
        Jigsaw()(images[split:], np.arange(split, 8)),
    ]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    order = np.random.default_rng(split).permutation(8)
    np.testing.assert_array_equal(Jigsaw()(images[order], order), whole[order])


def test_orders_are_uniform_and_seeded():
    orders = Jigsaw(2).orders(np.arange(2400))
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24
    assert counts.min() > 60  # of 100 expected, four standard deviations
    assert counts.max() < 140
    np.testing.assert_array_equal(orders, Jigsaw(2).orders(np.arange(2400)))
    assert (orders != Jigsaw(2, random_state=1).orders(np.arange(2400))).any()


@pytest.mark.parametrize("dtype", ["uint8", "float32", "bool"])
def test_tensors_come_out_as_tensors(dtype):
    torch = pytest.importorskip("torch")
    images = (np.random.default_rng(0).random((4, 3, 10, 11)) * 255).astype(dtype)
    tensor = torch.from_numpy(images)
    found = Jigsaw()(tensor, torch.arange(4))
    assert isinstance(found, torch.Tensor)
    assert found.dtype == tensor.dtype
    np.testing.assert_array_equal(found.numpy(), Jigsaw()(images, range(4)))
    np.testing.assert_array_equal(tensor.numpy(), images)


def test_is_a_value():
    assert Jigsaw() == pickle.loads(pickle.dumps(Jigsaw(grid=3, random_state=0)))
    assert hash(Jigsaw()) == hash(Jigsaw(3))
    assert repr(Jigsaw()) == "Jigsaw(grid=3, random_state=0)"


def test_bad_input_is_named():
    images = np.zeros((2, 1, 6, 6))
    with pytest.raises(ValueError, match="grid must be an integer >= 2; got 1"):
        Jigsaw(1)(images, [0, 1])
    with pytest.raises(
        ValueError, match="random_state must be an integer >= 0; got No"
    ):
        Jigsaw(random_state=None)(images, [0, 1])
    with pytest.raises(ValueError, match=r"at least 7 pixels a side for grid=7.*6, 6"):
        Jigsaw(7)(images, [0, 1])
    with pytest.raises(ValueError, match=r"batch must hold images.*got shape \(2, 6\)"):
        Jigsaw()(images[:, 0, 0], [0, 1])
    with pytest.raises(ValueError, match="rows has 3 entries for a batch of 2"):
        Jigsaw()(images, [0, 1, 2])


def test_needs_no_torch():
    code = "import sys, skood.model_selection; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
