"""What decides what the parts of a network do, beside their weights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from skood.store.identity.huggingface import NETWORK_NOTES

__all__ = ["is_note", "named_tensors", "part_content", "walked"]

_OF_TRAINING = {
    *("trainer", "_trainer", "_fabric", "_fabric_optimizers", "_compiler_ctx"),
    *("_metric_attributes", "_param_requires_grad_state", "_current_fx_name"),
    *("_example_input_array", "_log_hyperparams", "_device_mesh"),
}
"""What a LightningModule knows of its training."""

_OF_GRAPH = {"_graph", "meta", "_graphmodule_cls_name"}
"""Attributes of a torch.fx graph whose content its ``_code`` has, or notes."""

_NOT_SETTINGS = {*vars(nn.Module()), *NETWORK_NOTES, "_compiled_call_impl"}

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_WAYS = ("with_kwargs", "always_called")

_NOTE_TAKERS = {
    *("_thread", "threading", "logging", "queue", "concurrent", "asyncio"),
    *("multiprocessing", "tqdm", "wandb", "mlflow", "tensorboardX"),
    *("torch.optim", "torch.utils.tensorboard", "torch.cuda"),
}


def is_note(value: Any) -> bool:
    """Return whether an object does its work beside what a network computes.

    Locks, loggers and optimizers are such objects.
    """
    home = type(value).__module__.split(".")
    names = {".".join(home[:length]) for length in range(1, len(home) + 1)}
    # Packed weights are in the network's state.
    return bool(names & _NOTE_TAKERS) or isinstance(value, torch.ScriptObject)


def walked(part: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield a network's parts by every name that they have, and itself.

    What has a ``cache_key`` or is scripted stands for what is in it.
    """
    yield name, part
    if hasattr(part, "cache_key") or isinstance(part, torch.jit.ScriptModule):
        return
    for key, inside in part._modules.items():
        if inside is not None:
            yield from walked(inside, f"{name}.{key}" if name else key)


def named_tensors(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield a network's parts and weights by name: what its state has."""
    yield from module.named_modules()
    yield from module.named_parameters()
    for name, part in module.named_modules():
        for key, buffer in part._buffers.items():
            if buffer is not None and key not in part._non_persistent_buffers_set:
                yield f"{name}.{key}", buffer


def part_content(part: nn.Module) -> Iterator[tuple[str, str, Any]]:
    """Yield what decides what a part does, as (kind, name, value).

    Its code, its weights and the parts in it are left to others.
    """
    if hasattr(part, "cache_key"):
        yield "setting", "cache_key", str(part.cache_key)
    elif isinstance(part, torch.jit.ScriptModule):
        yield "setting", "code", _scripted(part)
    elif not isinstance(getattr(part, "_orig_mod", None), nn.Module):
        left_out = _left_out(part)
        for key, value in sorted(vars(part).items()):
            if key not in left_out:
                yield "setting", key, value
        for key in sorted(part._non_persistent_buffers_set):
            yield "buffer", key, part._buffers[key]
        yield from _hooks(part)


def _left_out(part: nn.Module) -> set[str]:
    left_out = set(_NOT_SETTINGS)
    if any(kind.__name__ == "LightningModule" for kind in type(part).__mro__):
        left_out |= _OF_TRAINING
    if isinstance(part, torch.fx.GraphModule):
        left_out |= _OF_GRAPH
    for hook in part._forward_pre_hooks.values():
        # Weight norms and masks compute a weight from others in each forward.
        if type(hook).__module__.startswith("torch.nn.utils."):
            left_out |= {str(vars(hook).get(n)) for n in ("name", "_tensor_name")}
    return left_out


def _hooks(part: nn.Module) -> Iterator[tuple[str, str, Any]]:
    for kind in _HOOKS:
        ways = [vars(part).get(f"{kind}_{way}", ()) for way in _WAYS]
        for number, hook in vars(part)[kind].items():
            if not _only_looks(hook):
                yield "hook", kind, (hook, *(number in way for way in ways))


def _only_looks(hook: Any) -> bool:
    """Return whether a hook is one of those that note outputs and change none."""
    while isinstance(hook, partial):
        hook = hook.func
    home = getattr(hook, "__module__", None) or ""
    return home.startswith(("skood.extraction.", "transformers."))


_PASSING = re.compile(
    r" #.*$|___torch_mangle_\d+\.| object at 0x\w+|\btraining = \w+", re.MULTILINE
)
"""Where code came from, and the modes and addresses of parts."""


def _scripted(part: torch.jit.ScriptModule) -> str:
    """Return the code of a scripted part, and the numbers and texts that it holds."""
    return _PASSING.sub("", part._c.dump_to_str(True, False, False))
