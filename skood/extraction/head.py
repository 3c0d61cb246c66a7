"""The network's final linear map: found by what it puts out, and read."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skood._turn import turn
from skood.extraction.borrow import evaluating
from skood.extraction.entries import (
    NETWORK_ENTRIES,
    Path,
    entries,
    has_known_entry,
    plain,
    rival_entries,
    taken,
)
from skood.features import LinearHead

__all__ = ["found_head", "linear_head"]


def found_head(
    module: nn.Module, linear: dict[str, tuple[Tensor, Tensor]], output: Any
) -> tuple[str | None, Path]:
    """Return the name of the last linear map that the network's output is of.

    And the way there, where the output holds several tensors and not the first one is.
    """
    first = taken(output, (), NETWORK_ENTRIES)
    candidates = [] if first is None else [((), first.tensor)]
    if rival_entries(output, -1 if first is None else len(first.tensor)):
        candidates += [(path, plain(value).tensor) for path, value in entries(output)]
    by_name = has_known_entry(output, NETWORK_ENTRIES)
    for name, (given, made) in reversed(linear.items()):
        for path, tensor in candidates[:1] if by_name else candidates:
            if _is_made_by(module.get_submodule(name), given, made, tensor):
                return name, path
    return None, ()


def _is_made_by(part: nn.Module, given: Tensor, made: Tensor, output: Tensor) -> bool:
    assert isinstance(part, nn.Linear)
    if output.numel() != made.numel() or not torch.equal(
        output.reshape(made.shape), made
    ):
        return False
    # A subclass may do more than its weight and bias say.
    return torch.allclose(nn.functional.linear(given, part.weight, part.bias), made)


def linear_head(module: nn.Module, name: str | None) -> LinearHead | None:
    """Return the final linear map that a probe has found, as arrays."""
    if name is None:
        return None
    part = cast(nn.Linear, module.get_submodule(name))
    # A weight that is computed (by a spectral norm, say) may change when it is read in
    # training mode.
    with turn, evaluating(part), torch.no_grad():
        weight = _copied(part.weight)
        # A linear map may well have no bias; torch's annotation forgets that.
        bias = cast("Tensor | None", part.bias)
        if bias is None:
            return LinearHead(weight, np.zeros(len(weight), weight.dtype))
        return LinearHead(weight, _copied(bias))


def _copied(weights: Tensor) -> NDArray[Any]:
    wide = weights.detach().to(
        device="cpu", dtype=torch.promote_types(weights.dtype, torch.float32), copy=True
    )
    return np.asarray(wide.numpy())
