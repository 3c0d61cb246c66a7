"""Quick checksums of tensors: to notice what was written past torch's own counting."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast

import torch
from torch import Tensor

__all__ = ["checksum"]

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.uint8)


def checksum(tensors: Iterable[Tensor]) -> bytes:
    """Return what changes with the numbers in tensors, in the time of reading them.

    It is made of the sum of the bits of each row, so that numbers which only change
    places within a row go unnoticed.

    Parameters
    ----------
    tensors : iterable of Tensor
        Those that are no plain numbers in memory (sparse ones, say) are passed over.
    """
    sums: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        with suppress(NotImplementedError, RuntimeError):
            found = _row_sums(tensor.detach())
            sums.setdefault(found.device, []).append(found)
    digest = hashlib.blake2b(digest_size=16)
    for parts in sums.values():
        # One transfer from an accelerator, not one a tensor.
        digest.update(cast(Any, torch.cat(parts).cpu().numpy()))
    return digest.digest()


def _row_sums(tensor: Tensor) -> Tensor:
    if tensor.numel() == 0:
        return torch.zeros(0, dtype=torch.int64, device=tensor.device)
    if not tensor.is_contiguous():  # in the order of memory, so that nothing is copied
        axes = sorted(range(tensor.ndim), key=tensor.stride, reverse=True)
        tensor = tensor.permute(axes)
    rows = tensor.reshape(len(tensor) if tensor.ndim else 1, -1)
    n_bytes, place = rows.shape[1] * rows.element_size(), rows.data_ptr()
    fit = (i for i in _INTEGERS if n_bytes % i.itemsize == place % i.itemsize == 0)
    return rows.view(next(fit)).sum(1)
