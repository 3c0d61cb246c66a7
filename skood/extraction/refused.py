"""Networks that cannot be looked into, and what to give in their place."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

__all__ = ["checked_factory", "checked_module"]

_WANTED = (
    "wanted is a torch.nn.Module, a fitted skorch net, or a function without "
    "arguments that returns one"
)


def checked_module(module: nn.Module) -> nn.Module:
    """Return a module whose parts can be observed.

    Raises
    ------
    TypeError
        If it is a TorchScript module, one from ``torch.export``, or one whose weights
        are spread over processes.
    ValueError
        If its weights have no values yet.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError(
            "network is a TorchScript module, whose parts cannot be observed: give "
            "the Python module it was scripted or traced from."
        )
    if isinstance(module, torch.fx.GraphModule) and "eval" in vars(module):
        raise TypeError(_EXPORTED)
    if any(type(p).__name__ == "FullyShardedDataParallel" for p in module.modules()):
        raise TypeError(_sharded("FullyShardedDataParallel"))
    for name, parameter in module.named_parameters():
        _check_weights(name, parameter)
    return module


def _check_weights(name: str, parameter: nn.Parameter) -> None:
    if hasattr(parameter, "full_tensor"):
        raise TypeError(_sharded(type(parameter).__name__))
    if isinstance(parameter, UninitializedParameter):
        raise ValueError(
            f"the network's parameter {name!r} has no shape yet: run the network once "
            "on an example, and give it then."
        )
    if parameter.device.type == "meta":
        raise ValueError(
            f"the network's parameter {name!r} is on the device 'meta', where tensors "
            "have no values: load the weights first."
        )


_EXPORTED = (
    "network is a program made by torch.export, whose parts cannot be observed: give "
    "the Python module it was exported from, or torch.export.unflatten(program)."
)


def _sharded(kind: str) -> str:
    return (
        f"the network's weights are spread over processes ({kind}): gather them (by "
        "torch.distributed.checkpoint.state_dict.get_model_state_dict with "
        "full_state_dict=True, say), load them into the bare module, and give that."
    )


def checked_factory(network: Any) -> Any:
    """Return what is no module, if it is a function that may return one.

    Raises
    ------
    TypeError
        If it cannot be called, or not without arguments.
    """
    kind = type(network).__name__
    if kind == "ExportedProgram":
        raise TypeError(_EXPORTED)
    if isinstance(network, (Mapping, str, Path)):
        raise TypeError(
            f"network is a {kind}; {_WANTED}. Weights alone are no network: load them "
            "into one by its load_state_dict."
        )
    if not callable(network):
        raise TypeError(f"network is a {kind}; {_WANTED}.")
    if not _can_be_called(network):
        raise TypeError(
            f"network is a function that needs arguments ({network!r}); {_WANTED}. "
            "Give the module that it runs."
        )
    return network


def _can_be_called(function: Any) -> bool:
    """Return whether a function can be called without arguments, as far as it says."""
    try:
        inspect.signature(function).bind()
    except ValueError:  # no signature to be read
        return True
    except TypeError:
        return False
    return True
