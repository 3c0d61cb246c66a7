"""What holds for the length of a step: a seed, a device's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from skood.numerics.device import resolved_device

__all__ = ["known_device", "seeded"]


@contextmanager
def known_device(net: Any) -> Iterator[None]:
    """Let skorch see the name of a net's device where it is given as ``"auto"``."""
    given = net.device
    net.device = None if given is None else resolved_device(given)
    try:
        yield
    finally:
        net.device = given


@contextmanager
def seeded(seed: int, stream: int, device: Any) -> Iterator[None]:
    """Make torch draw from a stream of its own, and put its generators back after.

    Parameters
    ----------
    seed, stream : int
        Choose the stream.
    device : str, torch.device or None
        Where the drawing is, beside the CPU.
    """
    state = int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])
    indices = _cuda_indices(device)
    with torch.random.fork_rng(devices=indices):
        torch.default_generator.manual_seed(state)
        for index in indices:
            with torch.cuda.device(index):
                torch.cuda.manual_seed(state)
        yield


def _cuda_indices(device: Any) -> list[int]:
    found = torch.device("cpu" if device is None else resolved_device(device))
    if found.type != "cuda":
        return []
    return [torch.cuda.current_device() if found.index is None else found.index]
