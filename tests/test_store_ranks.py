"""Ranks: each extracts a range of a data set, and the store joins what they wrote."""

from __future__ import annotations

import os

import filelock
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ranks import BATCH, Counted, N, assert_equal, extract, transformer
from torch.utils.data import Dataset

from skood import FeatureStore
from skood.store.feature_store import store_of_part
from skood.store.parts import PART, Part


@pytest.fixture(autouse=True)
def counting(monkeypatch):
    monkeypatch.setattr(Counted, "rows", 0)
    monkeypatch.setattr(Counted, "most", np.inf)
    for name in os.environ:
        if name.startswith("SLURM_") or name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(N, 1, 6, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(X, tmp_path_factory):
    """What one process gives."""
    folder = tmp_path_factory.mktemp("one")
    return transformer().extract_to(folder, X, progress=False)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


# Ranges ----------------------------------------------------------------------------


@given(st.integers(1, 300), st.integers(1, 12), st.integers(1, 40))
def test_ranges_are_whole_batches_that_follow_each_other(n_rows, world, batch):
    parts = [Part(rank, world, n_rows, batch, "") for rank in range(world)]
    assert [row for part in parts for row in part.rows] == [*range(n_rows)]
    lengths = [-(-len(part.rows) // batch) for part in parts]
    assert max(lengths) - min(lengths) <= 1
    assert all(part.rows.start % batch == 0 for part in parts if part.rows)
    assert all(Part.of(part.text()) == part for part in parts)


class Images(Dataset):
    """Items with labels, and a memory of which were read."""

    def __init__(self, X):
        self.X, self.read = X, []

    def __len__(self):
        return len(self.X)

    def __getitem__(self, number):
        self.read.append(number)
        return torch.as_tensor(self.X[number]), number % 3


KINDS = {"array": lambda X: X, "dataset": Images, "list": list}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("world", [1, 3, 20])
def test_joined_they_are_the_features_of_one_process(folder, X, expected, kind, world):
    y, ids = np.arange(N) % 3, [f"image {number}" for number in range(N)]
    given = None if kind == "dataset" else y  # which has its own
    for rank in np.random.default_rng(0).permutation(world):
        data = KINDS[kind](X)
        features = extract(folder, data, (rank, world), given, ids=ids)
        rows = Part(int(rank), world, N, BATCH, "").rows
        assert_equal(features, expected[rows.start : rows.stop])
    store = FeatureStore(folder)
    assert_equal(store.features(), expected)
    assert_equal(store.features([70, 3, 50]), expected[[70, 3, 50]])
    np.testing.assert_array_equal(store.labels, y)
    assert store.ids.tolist() == ids


def test_a_rank_reads_its_range_and_the_first_two_rows(folder, X):
    data = Images(X)
    extract(folder, data, (2, 4))
    assert sorted(set(data.read) - {0, 1}) == [*Part(2, 4, N, BATCH, "").rows]
    assert len(data.read) == len(Part(2, 4, N, BATCH, "").rows) + 2


def test_other_processes_read_the_rows_of_a_rank(folder, X, expected):
    for rank in range(2):
        fed = transformer(num_workers=1)
        extract(folder, Images(X), (rank, 2), estimator=fed)
    assert_equal(FeatureStore(folder).features(), expected)


def test_a_fitted_transformer_may_be_given(folder, X):
    fitted = transformer().fit(X[50:])
    one = fitted.extract_to(folder.parent / "one", X, progress=False)
    for rank in range(2):
        extract(folder, X, (rank, 2), estimator=fitted)
    assert_equal(FeatureStore(folder).features(), one)


def test_the_bar_names_the_rank(folder, X, capsys):
    transformer().extract_to(folder, X, shard=(1, 2))
    assert "extract shard (1, 2): 100%" in capsys.readouterr().err


# Resuming --------------------------------------------------------------------------


def test_what_was_computed_is_not_computed_again(folder, X, expected):
    extract(folder, X, (0, 2))
    store = FeatureStore(folder, flush_seconds=0.0)
    Counted.rows, Counted.most = 0, 30
    with pytest.raises(RuntimeError, match="out of order"):
        transformer().extract_to(store, X, shard=(1, 2), progress=False)
    Counted.most = np.inf
    kept, Counted.rows = Counted.rows - BATCH, 0  # all but the batch that failed
    extract(folder, X, (1, 2))
    assert Counted.rows == len(Part(1, 2, N, BATCH, "").rows) - kept < 52
    assert_equal(FeatureStore(folder).features(), expected)
    Counted.rows = 0
    extract(folder, X, (1, 2))
    assert Counted.rows == 0


def test_other_numbers_of_ranks_find_the_rows(folder, X, expected):
    extract(folder, X, (0, 2))
    Counted.rows = 0
    for rank in range(5):
        extract(folder, X, (rank, 5))
    assert Counted.rows == len(Part(1, 2, N, BATCH, "").rows)
    assert_equal(FeatureStore(folder).features(), expected)


def test_one_process_and_a_cache_find_the_rows(folder, X, expected):
    for rank in range(2):
        extract(folder, X, (rank, 2))
    Counted.rows = 0
    assert_equal(transformer(cache=folder).fit(X).transform(X), expected)
    assert_equal(transformer().extract_to(folder, X, progress=False), expected)
    assert Counted.rows == 0
    assert_equal(FeatureStore(folder).features(), expected)


def test_the_last_labels_count(folder, X):
    for rank in range(2):
        extract(folder, X, (rank, 2), np.zeros(N))
    extract(folder, X, (1, 2), np.ones(N))
    labels = np.repeat([0, 1], [48, 52])
    np.testing.assert_array_equal(FeatureStore(folder).labels, labels)


# Gaps ------------------------------------------------------------------------------


def test_missing_ranges_are_named(folder, X):
    for rank in (0, 3):
        extract(folder, X, (rank, 5))
    missing = (
        r"of a data set of 100 rows \(5 ranks, batches of 8\) it lacks rows 16 to 39 "
        r"\(shard=\(1, 5\)\), rows 40 to 55 \(shard=\(2, 5\)\), rows 80 to 99 "
        r"\(shard=\(4, 5\)\)\. Call extract_to again"
    )
    store = FeatureStore(folder)
    for read in (store.features, store.listing, lambda: store.labels):
        with pytest.raises(ValueError, match=missing):
            read()


def test_ranks_that_have_only_begun_are_missed(folder, X):
    Counted.most = 30
    with pytest.raises(RuntimeError, match="out of order"):
        extract(folder, X, (1, 2))
    with pytest.raises(ValueError, match=r"lacks rows 0 to 47.*rows 48 to 99"):
        FeatureStore(folder).features()


def test_a_part_of_another_length_is_not_joined(folder, X):
    extract(folder, X, (0, 2))
    extract(folder, X[:80], (1, 2))
    message = r"cannot be joined.*of 100 rows.*lacks rows 48 to 99.*of 80 rows.*0 to 39"
    with pytest.raises(ValueError, match=message):
        FeatureStore(folder).features()


def test_a_part_of_another_world_or_batch_is_not_joined(folder, X, expected):
    extract(folder, X, (0, 2))
    extract(folder, X, (1, 2), estimator=transformer(batch_size=10))
    extract(folder, X, (2, 3))
    message = r"2 ranks, batches of 8.*2 ranks, batches of 10.*3 ranks, batches of 8"
    with pytest.raises(ValueError, match=message):
        FeatureStore(folder).features()
    extract(folder, X, (1, 2))
    assert_equal(FeatureStore(folder).features(), expected)


def test_a_part_of_another_network_is_not_joined(folder, X):
    extract(folder, X, (0, 2))
    extract(folder, X, (1, 2), estimator=transformer(seed=1))
    store = FeatureStore(folder)
    with pytest.raises(ValueError, match=r"2 sources\. Say which by source="):
        store.features()
    for source in store.sources:
        (other,) = store.sources.keys() - {source}
        with pytest.raises(ValueError, match=f"source '{other}' has them: another"):
            store.features(source=source)


def test_parts_of_several_data_sets_are_kept_apart(folder, X, expected):
    other = X[::-1].copy()
    extract(folder, X, (0, 2))
    extract(folder, other, (1, 2))
    with pytest.raises(ValueError, match="cannot be joined"):
        FeatureStore(folder).features()
    extract(folder, other[:50], (0, 1))
    extract(folder, X, (1, 2))
    extract(folder, other, (0, 2))
    order = [*range(99, 49, -1), *range(50)]  # as they were completed
    features = np.asarray(FeatureStore(folder).features())
    np.testing.assert_allclose(features, np.asarray(expected)[order], rtol=1e-5)


def test_one_process_for_all_needs_no_parts(folder, X, expected):
    extract(folder, X, (1, 2))
    transformer().extract_to(folder, X, progress=False)
    assert_equal(FeatureStore(folder).features(), expected)


def test_a_damaged_list_of_a_part_is_missed(folder, X, expected):
    for rank in range(2):
        extract(folder, X, (rank, 2))
    store = FeatureStore(folder)
    store.stats()
    listing = store.opened.catalogue.of_kind("rows")[0]
    data = bytearray(listing.path.read_bytes())
    data[-3] ^= 4
    listing.path.write_bytes(data)
    with pytest.warns(UserWarning, match="lists the rows of a data set"):
        store.verify()
    with pytest.raises(ValueError, match="was damaged and is set aside"):
        store.features()
    Counted.rows = 0
    extract(folder, X, (0, 2))
    assert Counted.rows == 0
    assert_equal(FeatureStore(folder).features(), expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"rank": 0}',
        '{"rank": 2, "world": 2, "n_rows": 9, "batch": 1, "data": ""}',
        '{"rank": 0, "world": 1e99, "n_rows": 9, "batch": 1, "data": ""}',
        '{"rank": 0, "world": 1, "n_rows": 9, "batch": 0, "data": ""}',
        "[" * 100_000,
    ],
    ids=range(7),
)
def test_a_strange_part_is_set_aside(folder, X, expected, text):
    for rank in range(2):
        extract(folder, X, (rank, 2))
    store = FeatureStore(folder)
    store.stats()
    shard = store.opened.catalogue.of_kind("rows")[0]
    arrays = {name: shard.array(name) for name in shard.header.entries}
    name = store.opened.folder.add(arrays, {**shard.metadata, PART: text}).name
    with pytest.warns(UserWarning, match=f"{name}.*of no part that a rank could have"):
        assert_equal(store.features(), expected)


# By itself -------------------------------------------------------------------------


def test_ranks_take_no_locks(folder, X, expected, monkeypatch):
    def refuse(*_, **__):
        raise OSError("No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    for rank in range(2):
        store = FeatureStore(folder, shard_bytes=500)
        transformer().extract_to(store, X, shard=(rank, 2), progress=False)
    assert_equal(FeatureStore(folder).features(), expected)
    assert not (folder / "claims").exists()


def test_ranks_do_not_see_each_other(folder, X):
    store = FeatureStore(folder)
    one, other = (store_of_part(store, Part(n, 2, N, BATCH, "")) for n in (0, 1))
    extract(folder, X, (0, 2))
    unfinished = folder / "shards" / "half.safetensors.part"
    unfinished.write_bytes(b"half a shard")
    for seen in (one, other, store):
        seen.opened.refresh()
    names = set(FeatureStore(folder).opened.folder.names())
    assert set(other.opened.folder.names()) == set()
    assert set(one.opened.folder.names()) == {n for n in names if n[:4] == "part"}
    assert not any("half" in name for name in names)


@pytest.fixture
def eager(monkeypatch):
    """Few small shards are many already."""
    monkeypatch.setattr("skood.store.merging.AT_ONCE", 4)


def test_one_process_leaves_the_shards_of_ranks(folder, X, eager):
    for image in X[:4]:
        extract(folder, image[None], (0, 1))
    of_ranks = {*(folder / "shards").glob("part-*")}
    for image in X[4:10]:
        transformer().extract_to(folder, image[None], progress=False)
    assert {*(folder / "shards").glob("part-*")} == of_ranks
    store = FeatureStore(folder)
    assert store.stats()["shards"] < 10
    assert len(store.features()) == 10


def test_a_rank_merges_its_own_shards(folder, X, expected, eager):
    for rank in range(2):
        store = FeatureStore(folder, flush_seconds=0)
        transformer().extract_to(store, [*X], shard=(rank, 2), progress=False)
    assert store.stats()["shards"] < N / BATCH - 2
    assert_equal(FeatureStore(folder).features(), expected)
