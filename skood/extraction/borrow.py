"""Borrowing the user's network: run it, and give it back as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from typing import Any

import torch
import torch.backends.mha
from torch import nn

from skood._turn import turn
from skood.extraction.kept import Attributes, KeptTensors, with_own_train
from skood.numerics.device import resolved_device

__all__ = ["borrowed", "evaluating", "is_compiled", "lent", "observable_parts"]


@contextmanager
def borrowed(module: nn.Module, device: Any = "auto") -> Iterator[torch.device]:
    """Lend a network for inference, and give it back as it was whatever happens.

    Every part is put in evaluation mode, and the whole is moved when it lives on one
    device and another one is asked for. Afterwards the modes, with what they mean to
    each part, the devices and the very storages of the weights are what they were. The
    threads of a process take turns: modes belong to a module, not to a thread, and
    networks share modules.

    Parameters
    ----------
    module : nn.Module
        The network.
    device : str or torch.device, default="auto"
        ``"auto"`` is the network's own device when that is an accelerator, else CUDA
        when there is one, else the CPU.

    Yields
    ------
    torch.device
        Where the network's inputs belong.
    """
    observed = observable_parts(is_compiled(module))
    with turn, lent(module, device) as target, observed:
        yield target


@contextmanager
def lent(module: nn.Module, device: Any = "auto") -> Iterator[torch.device]:
    """Do what :func:`borrowed` does, for a caller who sees to it that nobody else does.

    Compiled graphs and fused layers are not passed by.
    """
    homes = {t.device: None for t in chain(module.parameters(), module.buffers())}
    target = _target(list(homes), device)
    moves = len(homes) == 1 and target not in homes
    with evaluating(module):
        kept = [_kept_tensors(part) for part in module.modules()] if moves else []
        try:
            if moves:
                module.to(target)
            yield target
        finally:
            for give_back in kept:
                give_back()
            if moves:
                module.to(next(iter(homes)))  # what the forward itself created


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a network in evaluation mode, and give its modes back.

    Where a part's ``train`` or ``eval`` does more than to set a flag (adapters that are
    merged, graphs that are swapped, caches that are emptied), it is asked to do so both
    ways, and what is then not as before is put back: the sum of a weight and its
    adapter less the adapter is not the weight to the last digit.
    """
    parts = list(module.modules())
    modes = [part.training for part in parts]
    if not any(modes):
        yield
        return
    own = with_own_train(module)
    before, values = Attributes(own), [KeptTensors(part) for part in _tops(own)]
    touched: set[tuple[nn.Module, str]] = set()
    try:
        module.eval()
        touched |= before.changed()
        yield
    finally:
        during = Attributes(own)
        try:
            _give_modes_back(parts, modes)
        finally:
            before.put_back(touched | during.changed())
            for kept in values:
                kept.put_back()
            for part, mode in zip(parts, modes, strict=True):
                part.training = mode


def _give_modes_back(parts: list[nn.Module], modes: list[bool]) -> None:
    # From the root, so that each part does what it does for a user; then those whose
    # mode is not their parent's.
    for part, mode in zip(parts, modes, strict=True):
        if part.training != mode:
            part.train(mode)


def _tops(parts: list[nn.Module]) -> list[nn.Module]:
    """Return those of some parts that are inside no other one of them."""
    inside = {id(p) for part in parts for p in part.modules() if p is not part}
    return [part for part in parts if id(part) not in inside]


def _target(homes: list[torch.device], device: Any) -> torch.device:
    if device == "auto" and (len(homes) > 1 or (homes and homes[0].type != "cpu")):
        return homes[0]
    target = torch.device(resolved_device(device))
    if str(target) == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return target


def _kept_tensors(part: nn.Module) -> Callable[[], None]:
    """Return a function that puts a module's own tensors back as they are now."""
    parameters, buffers = dict(part._parameters), dict(part._buffers)
    grads = [(p, p.grad) for p in parameters.values() if p is not None]
    # Moving a module changes .data of its parameters and of their gradients.
    stored = [(t, t.data) for pair in grads for t in pair if t is not None]

    def give_back() -> None:
        part._parameters.update(parameters)
        part._buffers.update(buffers)
        for tensor, data in stored:
            tensor.data = data
        for parameter, grad in grads:
            parameter.grad = grad

    return give_back


def is_compiled(module: nn.Module) -> bool:
    """Return whether a part of a network is a compiled graph."""
    # In their dictionaries, since a module's own look for what it lacks is slow.
    return any(
        "_orig_mod" in part._modules or vars(part).get("_compiled_call_impl")
        for part in module.modules()
    )


@contextmanager
def observable_parts(compiled: bool) -> Iterator[None]:
    """Switch off what would pass parts by: compiled graphs, fused encoder layers."""
    stance = getattr(torch.compiler, "set_stance", None)
    fused = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with stance("force_eager") if compiled and stance else nullcontext():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
