"""The index: keys are found where a plain dictionary finds them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skood.store.index import Table, first_of_each
from skood.store.listing import Listing


def keys_of(numbers):
    """Keys that often agree in their first half."""
    pairs = [(number % 5, number) for number in numbers]
    return np.array(pairs, dtype=np.uint64).reshape(-1, 2).view(np.uint8)


numbers = st.lists(st.integers(0, 40), max_size=30)


@given(st.lists(numbers.filter(len), max_size=8), numbers)
def test_rows_are_found_where_they_came_first(shards, wanted):
    table, reference = Table(), {}
    for number, rows in enumerate(shards):
        table.add(keys_of(rows), number)
        for row, key in enumerate(rows):
            reference.setdefault(key, (number, row))
    found = table.find(keys_of(wanted))
    for key, shard, row in zip(wanted, found.shard, found.row, strict=True):
        assert (shard, row) == reference.get(key, (-1, 0))
    np.testing.assert_array_equal(found.found, [key in reference for key in wanted])


def test_runs_stay_few():
    table = Table()
    for number in range(200):
        table.add(keys_of(range(3 * number, 3 * number + 3)), number)
    assert len(table.runs) < 10


@given(numbers)
def test_first_of_each(rows):
    expected = [i for i, row in enumerate(rows) if row not in rows[:i]]
    np.testing.assert_array_equal(first_of_each(keys_of(rows)), expected)


@given(st.lists(numbers, min_size=1, max_size=4))
def test_listings_unite(lists):
    listings = [
        Listing(keys_of(rows), np.full(len(rows), number))
        for number, rows in enumerate(lists)
    ]
    united = Listing.united(listings)
    # As often as in the list that has it most often, and labelled by the last.
    for key in {key for rows in lists for key in rows}:
        chosen = (united.keys == keys_of([key])).all(axis=1)
        assert chosen.sum() == max(rows.count(key) for rows in lists)
        last = max(i for i, rows in enumerate(lists) if key in rows)
        assert united.labels[np.flatnonzero(chosen)[0]] == last
    np.testing.assert_array_equal(united.keys[: len(lists[0])], keys_of(lists[0]))
