"""The user's network: found in what was given, and named."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from skood._turn import turn
from skood.extraction.naming import module_name
from skood.extraction.refused import checked_factory, checked_module

__all__ = [
    "as_module",
    "floating_dtype",
    "in_file",
    "layer_names",
    "named_layers",
    "on_cpu",
]

_built: WeakKeyDictionary[Callable[[], Any], nn.Module] = WeakKeyDictionary()


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
        that shares nothing with it; while there are other threads, which may work with
        it before the file is written, one that shares its tensors.
    """
    if not isinstance(network, nn.Module) and not hasattr(network, "module_"):
        return network
    with turn:
        return at_rest(on_cpu(as_module(network)))


def at_rest(module: nn.Module) -> nn.Module:
    """Return a module that no other thread puts hooks on: itself, or a copy.

    The copy has modules of its own, and the tensors of the original. A network that
    cannot be copied stands for itself.
    """
    if threading.active_count() == 1:
        return module
    tensors = {id(tensor): tensor for tensor in _all_tensors(module)}
    try:
        return copy.deepcopy(module, {**tensors})
    except Exception:  # of any kind: it is code of the user's
        return module


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
