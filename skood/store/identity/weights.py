"""The digest of a network's weights, computed again only when they may have changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import joblib
import torch
from torch import Tensor, nn

from skood._turn import turn
from skood.store.identity.checksum import checksum, in_memory

__all__ = ["values_digest", "weights_digest"]

_digests: WeakKeyDictionary[nn.Module, tuple[Any, str]] = WeakKeyDictionary()


def weights_digest(module: nn.Module, *, fresh: bool = False) -> str:
    """Return a digest of a network's weights: names, shapes, types and bytes.

    It is computed again only when a tensor was replaced or changed: as torch counts
    changes in place, and, for those that it does not count (through
    ``parameter.data`` or NumPy), by :func:`checksum`.

    Parameters
    ----------
    module : nn.Module
        The network; its parameters and persistent buffers are read.
    fresh : bool, default=False
        Whether it is computed again in any case.

    Returns
    -------
    str
        32 hexadecimal digits.

    Examples
    --------
    >>> import copy
    >>> from torch import nn
    >>> from skood.store.identity.weights import weights_digest
    >>> net = nn.Linear(2, 2)
    >>> weights_digest(copy.deepcopy(net)) == weights_digest(net)
    True
    >>> _ = nn.init.ones_(net.weight)
    >>> weights_digest(copy.deepcopy(net)) == weights_digest(net)
    True
    """
    with turn:
        given = chain(module.parameters(), module.buffers())
        tensors = [part for tensor in given for part in _dense_parts(tensor)]
        marks = (*map(_mark, tensors), checksum(tensors))
        known = _digests.get(module)
        if fresh or known is None or known[0] != marks:
            known = _digests[module] = (marks, values_digest(module.state_dict()))
        return known[1]


def _mark(tensor: Tensor) -> tuple[int, int, int]:
    version = 0 if tensor.is_inference() else tensor._version
    return id(tensor), version, tensor.data_ptr()


def _dense_parts(tensor: Tensor) -> list[Tensor]:
    """Return the tensors that hold what a tensor holds: of a sparse one, several."""
    if tensor.layout == torch.strided:
        return [tensor]
    if tensor.layout == torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return [tensor.to_dense()]


def values_digest(values: Mapping[str, Any]) -> str:
    """Return a digest of what a ``state_dict`` holds, in its order.

    Parameters
    ----------
    values : mapping of str
        Tensors, and what else layers keep there.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, value in values.items():
        _take_in(digest, name, value)
    return digest.hexdigest()


def _take_in(digest: Any, name: str, value: Any) -> None:
    if isinstance(value, (tuple, list)):  # packed weights of a quantised layer
        for number, part in enumerate(value):
            _take_in(digest, f"{name}.{number}", part)
    elif not isinstance(value, Tensor):
        content = str(value) if isinstance(value, torch.dtype) else joblib.hash(value)
        digest.update(f"{name}:{content};".encode())
    elif value.is_quantized:
        digest.update(f"{name}:{_scale(value)};".encode())
        _take_in(digest, name, value.int_repr())
    elif value.layout != torch.strided:
        digest.update(f"{name}:{tuple(value.shape)}:{value.layout};".encode())
        _take_in(digest, name, _dense_parts(value))
    else:
        digest.update(f"{name}:{tuple(value.shape)}:{value.dtype};".encode())
        plain = value.detach().cpu().resolve_conj().resolve_neg()
        digest.update(in_memory(plain.contiguous()))


def _scale(value: Tensor) -> str:
    """Return what the integers of a quantised tensor stand for."""
    if value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return f"{value.dtype} {value.q_scale()} {value.q_zero_point()}"
    scales = value.q_per_channel_scales().tolist()
    return f"{value.dtype} {scales} {value.q_per_channel_zero_points().tolist()}"
