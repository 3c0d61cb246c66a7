"""Nothing grows with the number of calls: benchmarks/soak.py in short."""

from __future__ import annotations

import gc
import runpy
import tracemalloc
from pathlib import Path

import pytest

SOAK = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "soak.py"))

CALLS = 200
"""Each of which would leave some bytes behind if it left anything."""

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize("what", SOAK["WHAT"])
def test_nothing_is_left_of_a_call(what):
    call, network = SOAK["WHAT"][what]()
    for _ in range(20):  # what is prepared once
        call()
    gc.collect()
    hooks = SOAK["number_of_hooks"](network)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        looks = list(SOAK["soaked"](call, network, CALLS, stops=2))
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 100 * CALLS, f"{grown / CALLS:.0f} bytes a call are kept"
    assert looks[-1].calls == CALLS
    assert {look.hooks for look in looks} == {hooks}
    first, last = looks[0], looks[-1]
    assert last.descriptors <= first.descriptors
    assert last.threads <= first.threads
    if what == "pipeline":
        assert hooks == 0


def test_one_look_after_the_other_has_many_calls_or_is_left_out():
    looks = list(SOAK["soaked"](lambda: None, None, 10**9, seconds=0.05))
    assert 1 <= len(looks) <= 10
    calls = [look.calls for look in looks]
    assert min(b - a for a, b in zip([0, *calls], calls, strict=False)) > 10


def test_what_grows_is_said():
    look = SOAK["Look"]
    first = look(10, 100.0, 6, 1, 0, 5000, 50.0, 90.0)
    assert SOAK["what_has_grown"]([first, look(20, 101.0, 6, 1, 0, 5001, 51, 95)]) == []
    grown = SOAK["what_has_grown"]([first, look(20, 160.0, 9, 2, 4, 9000, 99.0, 95.0)])
    assert [text.partition(":")[0] for text in grown] == [
        "descriptors",
        "threads",
        "hooks",
        "memory",
        "objects",
        "a median call",
    ]
