"""Generators of random numbers, as their states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["generator_of", "generator_state", "is_generator", "random_state_of"]

KINDS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


def is_generator(value: Any) -> bool:
    """Return whether a value is one of NumPy's generators, old or new."""
    return type(value) in (np.random.RandomState, np.random.Generator)


def generator_state(generator: Any) -> dict[str, Any]:
    """Return the state of a ``RandomState`` or ``Generator``, a dict with arrays."""
    if isinstance(generator, np.random.RandomState):
        state: dict[str, Any] = generator.get_state(legacy=False)
        return state
    return dict(generator.bit_generator.state)


def random_state_of(state: Mapping[str, Any]) -> np.random.RandomState:
    """Return the ``RandomState`` of a state."""
    made = np.random.RandomState(_bit_generator({**state}, ("MT19937",)))
    made.set_state(dict(state))
    return made


def generator_of(state: Mapping[str, Any]) -> np.random.Generator:
    """Return the ``Generator`` of a state."""
    return np.random.Generator(_bit_generator(state, KINDS))


def _bit_generator(state: Mapping[str, Any], kinds: tuple[str, ...]) -> Any:
    kind = kinds[kinds.index(state["bit_generator"])]
    # NumPy takes positions in its buffers as they come.
    limits = {"pos": 624} if kind == "MT19937" else {"buffer_pos": 4}
    for name, limit in limits.items():
        inside = state["state"] if name == "pos" else state
        if not 0 <= inside.get(name, 0) <= limit:
            raise ValueError(f"{name} of a generator is out of range")
    made = getattr(np.random, kind)()
    made.state = {**state}
    return made
