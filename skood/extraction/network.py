"""The user's network: found in what was given, named, digested, borrowed."""

from __future__ import annotations

import copy
import ctypes
import hashlib
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any, cast
from weakref import WeakKeyDictionary

import joblib
import torch
from torch import Tensor, nn

from skood.extraction.borrow import turn
from skood.extraction.checksum import checksum
from skood.extraction.naming import module_name
from skood.extraction.refused import checked_factory, checked_module

__all__ = [
    "as_module",
    "floating_dtype",
    "in_file",
    "layer_names",
    "named_layers",
    "on_cpu",
    "values_digest",
    "weights_digest",
]

_built: WeakKeyDictionary[Callable[[], Any], nn.Module] = WeakKeyDictionary()
_digests: WeakKeyDictionary[nn.Module, tuple[Any, str]] = WeakKeyDictionary()


# What was given --------------------------------------------------------------------


def as_module(network: Any) -> nn.Module:
    """Return the bare module behind what a user gives as a network.

    Parameters
    ----------
    network : nn.Module, fitted skorch net, or callable without arguments
        A callable is a factory: it is called once per process.

    Returns
    -------
    nn.Module
        Without the wrappers of ``DataParallel``, ``DistributedDataParallel`` and
        ``torch.compile``, whose copies and graphs do not run hooks.

    Raises
    ------
    TypeError
        If it is none of these, or a module whose parts cannot be observed; the message
        says what to give instead.
    ValueError
        If a skorch net is not fitted, or weights have no values yet.
    """
    if isinstance(network, nn.Module):
        return checked_module(_unwrapped(network))
    if hasattr(network, "module_"):
        return as_module(network.module_)
    if hasattr(network, "initialize") and hasattr(network, "module"):
        raise ValueError(
            f"network is a {type(network).__name__} that is not fitted: fit it first "
            "(or initialize() it and load its parameters)."
        )
    network = checked_factory(network)
    with turn:
        if network not in _built:
            _built[network] = _from_factory(network)
        return _built[network]


def _from_factory(factory: Callable[[], Any]) -> nn.Module:
    made = factory()
    if not isinstance(made, nn.Module) and not hasattr(made, "module_"):
        raise TypeError(
            f"the function given as network returned a {type(made).__name__}, not a "
            "torch.nn.Module or a fitted skorch net."
        )
    return as_module(made)


def _unwrapped(module: nn.Module) -> nn.Module:
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(module, parallel):
            module = cast(nn.Module, module.module)
        elif isinstance(getattr(module, "_orig_mod", None), nn.Module):
            module = cast(nn.Module, module._orig_mod)
        else:
            return module


def layer_names(network: Any) -> list[str]:
    """Return the names that ``LayerFeatureTransformer(network, layers=...)`` takes.

    Parameters
    ----------
    network : nn.Module, fitted skorch net, or callable without arguments
        The network.

    Returns
    -------
    list of str
        Qualified names of all modules inside, in the order of their definition.
        ``"penultimate"`` and ``"logits"`` are understood besides; a module that is
        called so has a dot before its name.

    See Also
    --------
    skood.list_layers : The names with the shapes and times of a forward, in the order
        in which they run.

    Examples
    --------
    >>> from torch import nn
    >>> from skood import layer_names
    >>> layer_names(nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU())))
    ['0', '1', '1.0']
    """
    return [*map(module_name, named_layers(as_module(network)))]


def named_layers(module: nn.Module) -> dict[str, nn.Module]:
    """Return the parts of a network by qualified name."""
    # With duplicates: every name of a module that is shared is a good name.
    pairs = module.named_modules(remove_duplicate=False)
    return {name: part for name, part in pairs if name}


def in_file(network: Any) -> Any:
    """Return what stands for a network in a file.

    Parameters
    ----------
    network : nn.Module, fitted skorch net, or callable without arguments
        A factory is kept as it is.

    Returns
    -------
    nn.Module or callable
        The bare module; when it has tensors on an accelerator, a copy on the CPU
        that shares nothing with it.
    """
    if not isinstance(network, nn.Module) and not hasattr(network, "module_"):
        return network
    return on_cpu(as_module(network))


def on_cpu(module: nn.Module) -> nn.Module:
    """Return a module, or a copy on the CPU if it has tensors on an accelerator."""
    tensors = {id(tensor): tensor for tensor in _all_tensors(module)}
    if all(tensor.device.type == "cpu" for tensor in tensors.values()):
        return module
    # A memo of finished copies keeps the deep copy off the accelerator.
    return copy.deepcopy(module, {key: _on_cpu(t) for key, t in tensors.items()})


def _all_tensors(module: nn.Module) -> Iterator[Tensor]:
    for part in module.modules():
        loose = (value for value in vars(part).values() if isinstance(value, Tensor))
        yield from chain(_tensors_of(part), loose)


def _tensors_of(part: nn.Module) -> Iterator[Tensor]:
    yield from part.parameters(recurse=False)
    yield from part.buffers(recurse=False)


def _on_cpu(tensor: Tensor) -> Tensor:
    moved = tensor.detach().cpu()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(moved, requires_grad=tensor.requires_grad)
    return moved


# Its weights -----------------------------------------------------------------------


def floating_dtype(module: nn.Module) -> torch.dtype | None:
    """Return the floating type of a network's parameters.

    Returns
    -------
    torch.dtype or None
        The default type for a network without parameters; None when there are
        several types, so that none is *the* type of its input.
    """
    found = {p.dtype for p in module.parameters() if p.is_floating_point()}
    if len(found) > 1:
        return None
    return found.pop() if found else torch.get_default_dtype()


def weights_digest(module: nn.Module, *, fresh: bool = False) -> str:
    """Return a digest of a network's weights: names, shapes, types and bytes.

    It is computed again only when a tensor was replaced or changed: as torch counts
    changes in place, and, for those that it does not count (through
    ``parameter.data`` or NumPy), by a sum of the bits of each row. Numbers that only
    change places within a row that way go unnoticed.

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
    >>> from skood.extraction.network import weights_digest
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
            known = _digests[module] = (marks, _computed_digest(module))
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


def _computed_digest(module: nn.Module) -> str:
    return values_digest(module.state_dict())


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
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(_in_memory(flat))


def _in_memory(flat: Tensor) -> Any:
    """Return a tensor's bytes, not copied.

    Its ``numpy()`` would for good forbid to resize the memory that it shares with the
    network's own tensor.
    """
    size = flat.numel() * flat.element_size()
    return (ctypes.c_char * size).from_address(flat.data_ptr()) if size else b""


def _scale(value: Tensor) -> str:
    """Return what the integers of a quantised tensor stand for."""
    if value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return f"{value.dtype} {value.q_scale()} {value.q_zero_point()}"
    scales = value.q_per_channel_scales().tolist()
    return f"{value.dtype} {scales} {value.q_per_channel_zero_points().tolist()}"
