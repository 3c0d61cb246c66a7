"""Quick checksums of tensors: to notice what was written past torch's own counting."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

__all__ = ["checksum", "in_memory"]

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.uint8)

_SAME_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

KEPT_WEIGHTS = 256

_weights: dict[Any, Tensor] = {}

SMALL = 1 << 14
"""Bytes of a tensor that are hashed themselves: sooner done than two sums."""


def checksum(tensors: Iterable[Tensor]) -> bytes:
    """Return what changes with the numbers in tensors, in the time of reading them.

    Of small tensors it takes the bytes. Of each row of the others it takes the sum of
    the bits, which any single change alters, and a sum with weights, which also tells
    changes of sign and of place that make up for one another in the first.

    Parameters
    ----------
    tensors : iterable of Tensor
        Those that are no plain numbers in memory (sparse ones, say) are passed over.
    """
    digest = hashlib.blake2b(digest_size=16)
    sums: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        with suppress(NotImplementedError, RuntimeError):
            rows = _rows(tensor.detach())
            if rows.device.type == "cpu" and rows.nbytes <= SMALL:
                digest.update(in_memory(rows))
            else:
                found = [_sum_of_bits(rows), _weighted_sum(rows)]
                sums.setdefault(rows.device, []).extend(found)
    for parts in sums.values():
        # One transfer from an accelerator, not one a tensor.
        digest.update(cast(Any, torch.cat(parts).cpu().numpy()))
    return digest.digest()


def in_memory(tensor: Tensor) -> Any:
    """Return the bytes of a contiguous tensor, not copied.

    Its ``numpy()`` would for good forbid to resize the memory that it shares with the
    network's own tensor.
    """
    return np.from_dlpack(tensor.reshape(-1).view(torch.uint8))


def _rows(tensor: Tensor) -> Tensor:
    if not tensor.is_contiguous():  # in the order of memory, so that nothing is copied
        axes = sorted(range(tensor.ndim), key=tensor.stride, reverse=True)
        tensor = tensor.permute(axes)
    if tensor.numel() == 0:
        return torch.zeros(0, 1, device=tensor.device)
    return tensor.reshape(len(tensor) if tensor.ndim else 1, -1)


def _sum_of_bits(rows: Tensor) -> Tensor:
    n_bytes, place = rows.shape[1] * rows.element_size(), rows.data_ptr()
    fit = (i for i in _INTEGERS if n_bytes % i.itemsize == place % i.itemsize == 0)
    return rows.view(next(fit)).sum(1)


def _weighted_sum(rows: Tensor) -> Tensor:
    if rows.dtype in (torch.float32, torch.float64):
        found = rows @ _weights_for(rows, rows.dtype)
    else:
        whole = rows.view(torch.uint8) if rows.is_complex() else rows
        whole = whole.view(_SAME_SIZE[whole.element_size()]).long()
        found = (whole * _weights_for(whole, torch.int64)).sum(1)
    return found.view(_SAME_SIZE[found.element_size()]).long()


def _weights_for(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Return weights of as many columns, where the rows are."""
    n = rows.shape[1]
    key = n, dtype, rows.device
    if key not in _weights:
        if len(_weights) >= KEPT_WEIGHTS:
            _weights.clear()
        generator = torch.Generator().manual_seed(n)
        drawn = torch.randint(1 << 62, (n,), generator=generator).mul(2).add(1)
        if dtype.is_floating_point:
            drawn = torch.randn(n, generator=generator, dtype=dtype)
        _weights[key] = rows.new_empty(n, dtype=dtype).copy_(drawn)
    return _weights[key]
