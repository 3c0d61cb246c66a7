"""Hamming distances as matrix products: equal bits less unequal ones, as signs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from skood.hamming.packing import Distances, Packed
from skood.numerics.device import to_numpy

__all__ = ["multiplies_int8_fast", "product_distances"]

UNPACKED_QUERIES = 8192
"""Queries whose bits are unpacked at a time."""

CPU_ROWS = (512, 2048)
"""Queries and patterns of one product on the CPU: 4 MB of int32."""

DEVICE_ROWS = (4096, 16384)
"""The same on an accelerator: 128 MB in half precision."""

EXACT_HALF = 2048
"""Integers up to here are exact in half precision."""


def product_distances(queries: Packed, bank: Packed, k: int, device: str) -> Distances:
    """Return the k smallest distances of each query, by torch.

    In int8 on a CPU that multiplies it fast, else in float32; in half precision on an
    accelerator. All are exact: the products are sums of ones.

    Parameters
    ----------
    queries, bank : ndarray of uint8, shape (m, n_bytes), (n, n_bytes)
        Packed patterns.
    k : int
        From 1 to n.
    device : str
        ``"cpu"`` or a torch device.

    Returns
    -------
    ndarray of int32, shape (m, k)
    """
    parts = [
        _multiplied(queries[top : top + UNPACKED_QUERIES], bank, k, device)
        for top in range(0, len(queries), UNPACKED_QUERIES)
    ]
    return np.concatenate(parts)


def _multiplied(queries: Packed, bank: Packed, k: int, device: str) -> Distances:
    import torch

    product = _product_of(device)
    rows, columns = CPU_ROWS if device == "cpu" else DEVICE_ROWS
    signs = _signs(queries, device)
    best = torch.full((len(queries), k), -8.0 * bank.shape[1], device=signs.device)
    for start in range(0, len(bank), columns):
        block = _signs(bank[start : start + columns], device)
        for top in range(0, len(queries), rows):
            part = slice(top, top + rows)
            found = product(signs[part], block)
            best[part] = _most_alike(best[part], found, k)
    unlike = (8 * bank.shape[1] - best) / 2
    return to_numpy(unlike.to(torch.int32))


def _most_alike(best: Any, found: Any, k: int) -> Any:
    import torch

    if k == 1:
        return torch.maximum(best, found.amax(dim=1, keepdim=True).to(best.dtype))
    found = found.topk(min(k, found.shape[1]), dim=1).values.to(best.dtype)
    return torch.cat([best, found], dim=1).topk(k, dim=1).values


def _signs(packed: Packed, device: str) -> Any:
    """Return bits as -1 and +1, an int8 or half tensor of shape (n, 8 * n_bytes)."""
    import torch

    if device == "cpu":
        signs = np.unpackbits(np.ascontiguousarray(packed), axis=1).view(np.int8)
        signs *= 2
        signs -= 1
        return torch.from_numpy(signs)
    words = torch.as_tensor(np.ascontiguousarray(packed), device=device)
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=device)
    bits = (words[:, :, None] >> shifts) & 1
    return bits.reshape(len(words), -1).to(torch.float16) * 2 - 1


def _product_of(device: str) -> Callable[[Any, Any], Any]:
    """Return the exact product of signs (m, d) and (n, d) on a device."""
    if device != "cpu":
        return _half_product
    import torch

    if multiplies_int8_fast():
        return lambda one, other: torch._int_mm(one, other.T)
    return lambda one, other: one.float() @ other.float().T


def _half_product(one: Any, other: Any) -> Any:
    """Return the product, summed from pieces that half precision holds exactly."""
    if one.shape[1] <= EXACT_HALF:
        return one @ other.T
    total: Any = 0
    for start in range(0, one.shape[1], EXACT_HALF):
        piece = slice(start, start + EXACT_HALF)
        total = total + (one[:, piece] @ other[:, piece].T).float()
    return total


def multiplies_int8_fast() -> bool:
    """Return whether processor and torch (from 2.4 on) multiply int8 fast."""
    import torch

    # The name has changed between versions of torch, and none is public.
    names = ("_is_vnni_supported", "_is_cpu_support_vnni")
    probes = [getattr(torch.cpu, name) for name in names if hasattr(torch.cpu, name)]
    return any(probe() for probe in probes) and _multiplies_int8()


def _multiplies_int8() -> bool:
    import torch

    ones = torch.ones(32, 64, dtype=torch.int8)
    try:
        return bool((torch._int_mm(ones, -ones.T) == -64).all())
    except (AttributeError, RuntimeError):
        return False
