"""Each statistic against plain NumPy, with and without a mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from skood.extraction.layout import FeatureMap
from skood.extraction.statistics import STATISTICS, checked_statistics

PLAIN = {
    "avg": lambda x: x.mean(1),
    "max": lambda x: x.max(1),
    "l2": lambda x: np.sqrt((np.maximum(x, 0) ** 2).sum(1)),
    "lse": lambda x: np.array([logsumexp(x)]),
    "gram": lambda x: np.concatenate([gram_row(x, p) for p in range(1, 11)]),
}


def gram_row(x, power):
    raised = x**power
    sums = (raised @ raised.T).sum(1)
    return np.sign(sums) * np.abs(sums) ** (1 / power)


def maps(x, **kwargs):
    return FeatureMap.of("layer", torch.from_numpy(x), **kwargs)


def plain(name, x):
    return np.stack([PLAIN[name](row.reshape(len(row), -1)) for row in x])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (4, 3, 5, 2), (4, 3, 2, 2, 3)])
def test_a_statistic_is_what_numpy_says(name, shape, rng):
    x = rng.normal(size=shape)
    result = STATISTICS[name](maps(x)).numpy()
    np.testing.assert_allclose(result, plain(name, x), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", PLAIN)
def test_channels_last_is_the_same_moved(name, rng):
    x = rng.normal(size=(4, 3, 5, 2))
    moved = STATISTICS[name](maps(np.moveaxis(x, 1, -1), channels_last=True))
    np.testing.assert_allclose(moved, plain(name, x), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("filler", [np.nan, np.inf, 1e9])
def test_masked_tokens_do_not_count(name, filler, rng):
    x = rng.normal(size=(3, 6, 4))
    lengths = [6, 2, 4]
    mask = np.arange(6) < np.array(lengths)[:, None]
    x[~mask] = filler
    result = STATISTICS[name](
        maps(x, channels_last=True, mask=torch.from_numpy(mask).long())
    )
    expected = [PLAIN[name](row[:n].T) for row, n in zip(x, lengths, strict=True)]
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-9)


def test_a_vector_is_its_own_average_and_maximum(rng):
    x = rng.normal(size=(4, 3))
    for name in ("avg", "max", "flatten"):
        np.testing.assert_array_equal(STATISTICS[name](maps(x)), x)
    np.testing.assert_allclose(STATISTICS["l2"](maps(x)), np.maximum(x, 0))


def test_flatten_keeps_the_modules_own_order(rng):
    x = rng.normal(size=(4, 3, 5, 2))
    flat = x.reshape(4, -1)
    for last in (False, True):
        np.testing.assert_array_equal(
            STATISTICS["flatten"](maps(x, channels_last=last)), flat
        )


def test_cls_is_the_first_kept_token(rng):
    x = rng.normal(size=(3, 4, 2))
    np.testing.assert_array_equal(
        STATISTICS["cls"](maps(x, channels_last=True)), x[:, 0]
    )
    left_padded = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1]])
    np.testing.assert_array_equal(
        STATISTICS["cls"](maps(x, channels_last=True, mask=left_padded)),
        x[[0, 1, 2], [2, 0, 1]],
    )


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5, 5)])
def test_cls_of_what_has_no_tokens_is_an_error(shape):
    with pytest.raises(ValueError, match=r"'layer' puts out no tokens .* Use 'avg'"):
        STATISTICS["cls"](maps(np.zeros(shape)))


def test_a_mask_of_other_tokens_is_an_error():
    with pytest.raises(ValueError, match=r"5 positions a row, .* shape \(4, 6\)"):
        maps(np.zeros((4, 5, 3)), channels_last=True, mask=torch.ones(4, 6))


def test_half_precision_is_widened_before_it_is_summed():
    x = torch.full((1, 1, 100, 100), 10.0, dtype=torch.float16)
    norm = STATISTICS["l2"](FeatureMap.of("layer", x))
    assert norm.dtype == torch.float32
    assert norm.item() == 1000.0  # the sum of squares, 1e6, is no float16


@given(
    scale=st.sampled_from([1e-15, 1e-3, 1.0, 1e12]),
    seed=st.integers(0, 2**16),
)
def test_gram_scales_with_the_square_and_never_overflows(scale, seed):
    rng = np.random.default_rng(seed)
    x = np.abs(rng.normal(size=(2, 3, 4, 4))).astype(np.float32)
    x[:, 0] *= 1e-4  # a faint channel must not vanish beside the others
    base = STATISTICS["gram"](maps(x.astype(np.float64))).numpy()
    scaled = STATISTICS["gram"](maps(x * np.float32(scale))).numpy()
    assert np.isfinite(scaled).all()
    assert (scaled > 0).all()
    np.testing.assert_allclose(scaled / scale**2, base, rtol=1e-4)


def test_gram_of_a_dead_map_is_zero():
    assert not STATISTICS["gram"](maps(np.zeros((2, 3, 4)))).any()


def test_statistics_are_checked_by_name():
    assert checked_statistics(["avg", "gram"]) == ("avg", "gram")
    with pytest.raises(ValueError, match="statistics is empty: name at least one"):
        checked_statistics([])
    with pytest.raises(ValueError, match=r"has 'grams'; .* Did you mean 'gram'\?"):
        checked_statistics(["avg", "grams"])
    with pytest.raises(ValueError, match=r"\['avg', 'avg'\] names one of them twice"):
        checked_statistics(["avg", "avg"])


@pytest.mark.parametrize("name", ["first", "last", "mean", "max", "std", "cls"])
@pytest.mark.parametrize("padding", [np.nan, np.inf, 1e9])
def test_token_statistics_are_those_of_the_kept_tokens(name, padding):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 6, 3))
    mask = np.array(
        [[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1]]
    )
    kept = [row[keep.astype(bool)] for row, keep in zip(x, mask, strict=True)]
    x[mask == 0] = padding
    expected = {
        "first": [row[0] for row in kept],
        "cls": [row[0] for row in kept],
        "last": [row[-1] for row in kept],
        "mean": [row.mean(0) for row in kept],
        "max": [row.max(0) for row in kept],
        "std": [row.std(0) for row in kept],
    }[name]
    found = STATISTICS[name](maps(x, channels_last=True, mask=torch.tensor(mask)))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_deviation_of_maps_and_vectors():
    x = np.random.default_rng(0).normal(size=(4, 3, 5, 5))
    np.testing.assert_allclose(STATISTICS["std"](maps(x)), x.std((2, 3)), atol=1e-12)
    assert not STATISTICS["std"](maps(x[:, :, 0, 0])).any()
