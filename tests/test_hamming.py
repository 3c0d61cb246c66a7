"""The search for the nearest pattern: every backend against plain comparison."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skood.hamming import (
    BACKENDS,
    PatternBank,
    nearest_hamming,
    packed_bits,
    popcount,
    product,
    search,
    unpacked_bits,
)

ON_TENSORS = ("product", "cpu:0")
"""The way of an accelerator, on torch's CPU tensors."""


def ways():
    return [(name, "cpu") for name in ("auto", *BACKENDS)] + [ON_TENSORS]


@pytest.fixture(params=ways(), ids="/".join)
def way(request):
    backend, device = request.param
    if backend == "faiss":
        reason = "faiss is not installed: pip install skood[faiss]"
        pytest.importorskip("faiss", reason=reason)
    return {"backend": backend, "device": device}


def bits(n, d, seed=0, share=0.4):
    return np.random.default_rng([seed, n, d]).random((n, d)) < share


def compared(queries, bank, k):
    """All comparisons, sorted; the width where there are not enough patterns."""
    found = np.array([[np.sum(q != b) for b in bank] for q in queries])
    found = np.sort(found.reshape(len(queries), len(bank)), axis=1)[:, :k]
    missing = k - found.shape[1]
    return np.pad(found, ((0, 0), (0, missing)), constant_values=queries.shape[1])


# Packing -------------------------------------------------------------------------


@given(hnp.arrays(bool, st.tuples(st.integers(0, 5), st.integers(1, 140))))
def test_bits_come_back_from_bytes_of_either_library(flags):
    packed = packed_bits(flags)
    assert packed.dtype == np.uint8
    assert packed.shape[1] % 8 == 0
    np.testing.assert_array_equal(unpacked_bits(packed, flags.shape[1]), flags)
    np.testing.assert_array_equal(packed_bits(torch.from_numpy(flags)), packed)


# Search --------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize(
    ("m", "n", "d"),
    [(1, 1, 1), (7, 3, 63), (3, 40, 64), (20, 30, 65), (1, 200, 513), (40, 1, 200)],
)
def test_distances_are_those_of_plain_comparison(way, m, n, d, k):
    queries, bank = bits(m, d, 1), bits(n, d, 2)
    found = nearest_hamming(
        packed_bits(queries), packed_bits(bank), d, n_neighbors=k, **way
    )
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, compared(queries, bank, k))


@pytest.mark.parametrize("d", [2047, 2100, 5000])
def test_wide_patterns_are_exact(way, d):
    queries, bank = bits(4, d, 1, 0.5), bits(9, d, 2, 0.5)
    bank[0], bank[1] = ~queries[0], queries[1]
    found = nearest_hamming(
        packed_bits(queries), packed_bits(bank), d, n_neighbors=9, **way
    )
    np.testing.assert_array_equal(found, compared(queries, bank, 9))
    assert found.max() == d
    assert found.min() == 0


def test_more_words_than_a_short_counter_holds():
    d = 64 * 1100
    queries, bank = bits(1, d), ~bits(1, d)
    packed = packed_bits(queries), packed_bits(bank)
    assert nearest_hamming(*packed, d, backend="popcount")[0, 0] == d


def test_blocks_are_no_matter(way, monkeypatch):
    queries, bank = bits(50, 100, 1), bits(70, 100, 2)
    monkeypatch.setattr(popcount, "TILE", 40)
    monkeypatch.setattr(product, "UNPACKED_QUERIES", 13)
    monkeypatch.setattr(product, "CPU_ROWS", (4, 9))
    monkeypatch.setattr(product, "DEVICE_ROWS", (5, 8))
    for k in (1, 3):
        found = nearest_hamming(
            packed_bits(queries), packed_bits(bank), 100, n_neighbors=k, **way
        )
        np.testing.assert_array_equal(found, compared(queries, bank, k))


def test_threads_are_no_matter(monkeypatch):
    queries, bank = bits(11, 80, 1), bits(30, 80, 2)
    monkeypatch.setattr(popcount, "THREADED_WORK", 0)
    monkeypatch.setattr(popcount, "openmp_threads", lambda: 4)
    found = nearest_hamming(
        packed_bits(queries), packed_bits(bank), 80, n_neighbors=2, backend="popcount"
    )
    np.testing.assert_array_equal(found, compared(queries, bank, 2))


@pytest.mark.parametrize("missing", ["instructions", "product"])
def test_a_processor_without_int8_products_uses_float32(monkeypatch, missing):
    def refused(one, other):
        raise NotImplementedError("no _int_mm on this CPU")

    if missing == "instructions":
        monkeypatch.setattr(product, "multiplies_int8_fast", lambda: False)
    else:
        monkeypatch.setattr(torch, "_int_mm", refused)
        assert not product.multiplies_int8_fast()
    queries, bank = bits(9, 90, 1), bits(12, 90, 2)
    found = nearest_hamming(
        packed_bits(queries), packed_bits(bank), 90, n_neighbors=2, backend="product"
    )
    np.testing.assert_array_equal(found, compared(queries, bank, 2))


def test_nothing_to_search_and_nothing_to_find(way):
    none, some = packed_bits(bits(0, 70)), packed_bits(bits(3, 70))
    far = nearest_hamming(some, none, 70, n_neighbors=2, **way)
    np.testing.assert_array_equal(far, np.full((3, 2), 70))
    assert nearest_hamming(none, some, 70, **way).shape == (0, 1)


@pytest.mark.parametrize(
    ("work", "faiss", "torch_loaded", "int8", "expected"),
    [
        (search.SMALL_WORK - 1, True, False, True, {"popcount"}),
        (search.SMALL_WORK, True, True, True, {"popcount", "faiss"}),
        (search.SMALL_WORK, False, True, True, {"popcount", "product"}),
        (search.LARGE_WORK - 1, False, False, True, {"popcount"}),
        (search.LARGE_WORK, False, False, True, {"popcount", "product"}),
        (search.LARGE_WORK, False, True, False, {"popcount"}),
    ],
)
def test_what_is_worth_loading(monkeypatch, work, faiss, torch_loaded, int8, expected):
    monkeypatch.setattr(search, "find_spec", lambda name: faiss or None)
    monkeypatch.setattr(search, "multiplies_int8_fast", lambda: int8)
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    if not torch_loaded:
        monkeypatch.delitem(sys.modules, "torch")
    assert search.usable_backends(work, "cpu") == expected
    assert search.usable_backends(work, "cuda") == {"product"}


@pytest.mark.parametrize(
    ("usable", "sizes", "expected"),
    [
        ({"popcount", "faiss"}, (1, 5, 1), "faiss"),
        ({"popcount", "product"}, (1000, 5000, 8), "product"),
        ({"popcount", "product"}, (1, 50_000, 8), "popcount"),
        ({"popcount", "product"}, (50, 50, 32), "popcount"),
        ({"product"}, (1, 1, 1), "product"),
    ],
)
def test_the_fastest(usable, sizes, expected):
    assert search.fastest(frozenset(usable), *sizes) == expected


def test_groups_together_are_worth_a_library(monkeypatch):
    used = set()
    count = search.BACKENDS["popcount"]
    for name in search.BACKENDS:

        def noted(*args, name=name):
            used.add(name)
            return count(*args)

        monkeypatch.setitem(search.BACKENDS, name, noted)
    monkeypatch.setattr(search, "find_spec", lambda name: None)
    monkeypatch.setattr(search, "multiplies_int8_fast", lambda: True)
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(search, "LARGE_WORK", 10 * 300 * 300)
    rng = np.random.default_rng(0)
    groups = np.arange(6000) % 10
    rows = packed_bits(rng.random((6000, 256)) < 0.5)
    bank = PatternBank.of(rows[:3000], groups[:3000], 10, 256)
    found = bank.nearest(rows[3000:], groups[3000:])
    assert used == {"product"}
    assert found.shape == (3000,)


def test_errors_say_what_is_wanted(monkeypatch):
    rows = packed_bits(bits(3, 70))
    with pytest.raises(
        ValueError, match=r"queries is uint8 of shape \(3, 8\).*\(rows, 16\)"
    ):
        nearest_hamming(rows[:, :8], rows, 70)
    with pytest.raises(ValueError, match=r"bank is int64 of shape \(3, 16\)"):
        nearest_hamming(rows, rows.astype(int), 70)
    with pytest.raises(ValueError, match=r"backend='tree': choose from \['auto', 'fai"):
        nearest_hamming(rows, rows, 70, backend="tree")
    monkeypatch.setattr(search, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs faiss: pip install 'skood\[faiss\]'"):
        nearest_hamming(rows, rows, 70, backend="faiss")


# Banks ---------------------------------------------------------------------------


def bank_of(rows, groups, n_groups):
    return PatternBank.of(packed_bits(rows), groups, n_groups, rows.shape[1])


def test_a_bank_holds_each_pattern_once_a_group():
    rows = np.array([[1, 0], [0, 1], [1, 0], [1, 0], [1, 1]], dtype=bool)
    bank = bank_of(rows, np.array([3, 0, 3, 0, 3]), 5)
    np.testing.assert_array_equal(
        unpacked_bits(bank.patterns, 2), [[0, 1], [1, 0], [1, 0], [1, 1]]
    )
    np.testing.assert_array_equal(bank.counts, [1, 1, 2, 1])
    np.testing.assert_array_equal(bank.starts, [0, 2, 2, 2, 4, 4])


@settings(max_examples=60)
@given(st.data())
def test_a_bank_finds_what_plain_loops_find(data):
    n, d, n_groups = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 5)), 3
    rows = data.draw(hnp.arrays(bool, (n, d)))
    stored = data.draw(hnp.arrays(np.intp, n, elements=st.integers(0, 2)))
    asked = data.draw(hnp.arrays(np.intp, n, elements=st.integers(-1, 2)))
    bank = bank_of(rows, stored, n_groups)
    packed = packed_bits(rows)

    def expected(i, others):
        far = [np.sum(rows[i] != rows[j]) for j in others if stored[j] == asked[i]]
        return min(far, default=d)

    everyone = range(n)
    np.testing.assert_array_equal(
        bank.nearest(packed, asked), [expected(i, everyone) for i in everyone]
    )
    np.testing.assert_array_equal(
        bank.nearest_unseen(packed, asked, stored),
        [expected(i, set(everyone) - {i}) for i in everyone],
    )
