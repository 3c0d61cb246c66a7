"""The exact search for the k-th nearest row, against brute force in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skood.neighbors import NeighborBank, bank
from skood.neighbors.candidates import ProductSearch, TorchSearch
from skood.neighbors.space import Points, SearchSpace, row_lengths


def brute(rows, queries, k):
    """The k-th smallest of all distances, each of a float64 difference."""
    found = []
    for q in np.asarray(queries, dtype=float):
        difference = q - rows.astype(float)
        scale = np.abs(difference).max() or 1.0
        squares = ((difference / scale) ** 2).sum(axis=1)
        found.append(scale * np.sqrt(np.sort(squares)[k - 1]))
    return np.array(found)


def _found(space, queries, count):
    search = ProductSearch(space)
    return search(queries, count, search.room(len(queries)))


def cases():
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(700, 12)), rng.normal(size=(40, 12))
    common = np.array([[139, 0], [3, 4], [0, 0]], dtype="f4") + np.float32(1e5)
    centres = 1e6 * rng.normal(size=(5, 12))
    clusters = centres[np.arange(700) % 5] + X
    outlier = X.copy()
    outlier[3] *= 1e12
    flags = rng.integers(0, 2, size=(700, 4))
    return {
        "plain": (X, new),
        "float32": (X.astype("f4"), new.astype("f4")),
        "a common part": (common, common),
        "a large common part": (X + 1e9, new + 1e9),
        "far clusters": (clusters, clusters[:40] + new),
        "an outlier in the bank": (outlier, new),
        "far queries": (X, new * np.geomspace(1, 1e20, 40)[:, None]),
        "farther queries": (X, new * np.geomspace(1e-300, 1e300, 40)[:, None]),
        "duplicates": (np.repeat(X[:70], 10, axis=0), X[:40]),
        "near duplicates": (X, X[:40] + 1e-13),
        "flags": (flags.astype(float), flags[:40].astype(float)),
        "all the same": (np.ones((700, 3)), np.ones((2, 3)) * [[1], [2]]),
        "all zero": (np.zeros((70, 3)), np.zeros((2, 3))),
        "one column": (X[:, :1], new[:, :1]),
        "many columns": (rng.normal(size=(30, 9000)), rng.normal(size=(9, 9000))),
        "two rows": (X[:2], new),
        "tiny": (1e-30 * X, 1e-30 * new),
        "huge": (1e155 * X, 1e155 * new),
        "decaying": (X * np.logspace(0, -12, 12), new * np.logspace(0, -12, 12)),
    }


@pytest.mark.parametrize("name", list(cases()))
def test_is_exact(name):
    rows, queries = cases()[name]
    known = NeighborBank(rows)
    for k in {1, 2, min(50, len(rows)), len(rows)}:
        found = known.kth_distances(queries, k)
        np.testing.assert_allclose(found, brute(rows, queries, k), rtol=1e-12)


@pytest.mark.parametrize("name", list(cases()))
def test_a_row_scores_the_same_in_every_batch(name):
    rows, queries = cases()[name]
    for unit in (False, True):
        known = NeighborBank(rows, unit=unit)
        for k in {1, min(20, len(rows))}:
            whole = known.kth_distances(queries, k)
            alone = [known.kth_distances(q[None], k)[0] for q in queries]
            np.testing.assert_array_equal(whole, alone)
            strange = known.kth_distances(np.asfortranarray(queries[::-1]), k)
            np.testing.assert_array_equal(whole[::-1], strange)


@pytest.mark.parametrize("search", ["faiss", "torch"])
@pytest.mark.parametrize("name", list(cases()))
def test_who_multiplies_is_no_matter(name, search):
    rows, queries = cases()[name]
    known = NeighborBank(rows)
    other = NeighborBank(rows, backend="faiss" if search == "faiss" else "exact")
    if search == "faiss":
        pytest.importorskip(
            "faiss", reason="faiss is not installed: pip install skood[faiss]"
        )
    else:
        pytest.importorskip("torch", reason="torch is not installed")
        other._searches["cpu"] = TorchSearch(other._space, "cpu")
    for k in {1, min(20, len(rows))}:
        np.testing.assert_array_equal(
            other.kth_distances(queries, k), known.kth_distances(queries, k)
        )


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(2, 400),
    st.integers(1, 40),
    st.floats(0, 1e7),
    st.sampled_from(["f4", "f8"]),
)
def test_is_exact_on_what_chance_makes(seed, n, d, offset, dtype):
    rng = np.random.default_rng(seed)
    rows = (rng.normal(size=(n, d)) + offset).astype(dtype)
    queries = (rng.normal(size=(9, d)) + offset).astype(dtype)
    k = int(rng.integers(1, n + 1))
    found = NeighborBank(rows).kth_distances(queries, k)
    np.testing.assert_allclose(found, brute(rows, queries, k), rtol=1e-11)


@pytest.mark.parametrize("name", ["plain", "float32", "far clusters", "decaying"])
def test_products_bound_the_nearness(name):
    rows, queries = cases()[name]
    space = SearchSpace.of(Points(rows, unit=False))
    x = space.coordinates(np.asarray(queries, dtype=float))
    lengths = row_lengths(x)
    n = len(rows)
    above, columns = _found(space, space.queries(x, lengths), n)
    b = space.coordinates(rows.astype(float))
    nearness = x @ b.T - 0.5 * (b * b).sum(axis=1)
    found = np.take_along_axis(nearness, columns, axis=1)
    assert (above >= found).all()
    assert (above - space.doubt(lengths, columns) <= found).all()


def test_ordinary_rows_are_proven_at_once(monkeypatch):
    def unwanted(*args):
        raise AssertionError("searched again")

    monkeypatch.setattr(bank, "squares_within", unwanted)
    monkeypatch.setattr(bank, "kth_by_differences", unwanted)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(5000, 64)).astype("f4")
    NeighborBank(rows, unit=True).kth_distances(rng.normal(size=(500, 64)), 50)


def test_groups_hold_all_that_is_large():
    rng = np.random.default_rng(0)
    space = SearchSpace.of(Points(rng.integers(0, 3, size=(3001, 3)) * 1.0, False))
    x = rng.normal(size=(50, 3))
    queries = space.queries(x, row_lengths(x))
    products, columns = _found(space, queries, 20)
    everything = queries @ space.rows.T
    np.testing.assert_array_equal(
        np.sort(products), np.sort(everything)[:, -20:].astype(float)
    )
    assert all(len(set(row)) == 20 for row in columns.tolist())
