"""Threads of our own: results do not depend on them, settings are as before."""

from __future__ import annotations

from contextlib import contextmanager
from threading import get_ident

import numpy as np
import pytest
import torch

from skood.numerics import moments, threads
from skood.numerics.moments import ClassMoments, PartMoments
from skood.numerics.threads import one_thread, threads_for

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(3000, 6)) + 5, np.repeat(np.arange(6), 500)


@pytest.fixture
def three_threads(monkeypatch):
    @contextmanager
    def three():
        yield 3

    monkeypatch.setattr(threads._BLAS, "on_one_thread", three)


def test_calls_run_on_threads_of_their_own_and_come_in_order(three_threads):
    with threads_for(9) as mapped:
        found = list(mapped(lambda number: (number, get_ident()), range(9)))
    assert [number for number, _ in found] == list(range(9))
    assert get_ident() not in {thread for _, thread in found}
    with threads_for(1) as mapped:
        assert list(mapped(lambda _: get_ident(), [0])) == [get_ident()]


def test_moments_do_not_depend_on_the_threads(monkeypatch, request):
    monkeypatch.setattr(moments, "PIECE_ELEMENTS", 1)
    alone = ClassMoments.of(X, Y, 6)
    request.getfixturevalue("three_threads")
    several = ClassMoments.of(X, Y, 6)
    for name in ("counts", "means", "scatter"):
        np.testing.assert_array_equal(getattr(several, name), getattr(alone, name))


def test_torch_has_its_threads_again():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_parts_that_lack_classes_merge_to_the_moments_of_all():
    order = [slice(2000, 3000), slice(0, 700), slice(700, 2000)]
    first, *others = (PartMoments.of(X[rows], Y[rows]) for rows in order)
    for other in others:
        first = first.merge(other)
    found = first.whole(8)  # of the last two classes there are no rows
    np.testing.assert_array_equal(found.counts, [500] * 6 + [0] * 2)
    means = [X[k == Y].mean(axis=0) for k in range(6)]
    np.testing.assert_allclose(found.means, [*means, *np.zeros((2, 6))], rtol=1e-12)
    centred = X - np.array(means)[Y]
    np.testing.assert_allclose(found.scatter, centred.T @ centred, rtol=1e-10)
