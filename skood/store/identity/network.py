"""What two networks have to agree in, beside their weights, to be the same."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from skood._turn import turn
from skood.store.identity.content import Contents, UnknownContentError, warn_once
from skood.store.identity.huggingface import NETWORK_NOTES

__all__ = [
    "callable_fingerprint",
    "changed_settings",
    "code_fingerprint",
    "leave_out",
    "settings_digests",
    "structure_fingerprint",
]

Settings = dict[str, bytes]
"""Digests of a network's classes and attributes, by place and name."""

_of_forward: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()

_NOT_SETTINGS = {*vars(nn.Module()), *NETWORK_NOTES, "_compiled_call_impl"}
_OF_GRAPH = {"_graph", "meta", "_graphmodule_cls_name"}  # ``_code`` says it all
_OF_TRAINING = {
    *("_metric_attributes", "_param_requires_grad_state", "_current_fx_name"),
    *("_example_input_array", "_log_hyperparams", "_device_mesh", "_compiler_ctx"),
}
"""What a LightningModule notes while it is trained."""


def callable_fingerprint(function: Any, role: str = "preprocess") -> str:
    """Return a digest that changes when a callable becomes another one.

    It takes in the code of the user's functions with their defaults, the values that
    they close over and those that they read from their module by name; and what an
    object and its class hold. Code of installed packages counts by the name of what it
    defines, and the package's version.

    Parameters
    ----------
    function : callable or None
        An attribute ``cache_key``, if it has one, is used instead of all that.
    role : str, default="preprocess"
        The parameter's name, for messages.

    Returns
    -------
    str
        32 hexadecimal digits.

    Raises
    ------
    TypeError
        If it holds something whose content cannot be read.

    Examples
    --------
    >>> from skood.store.identity.network import callable_fingerprint
    >>> half = callable_fingerprint(lambda x: x / 2)
    >>> half == callable_fingerprint(lambda x: x / 2)
    True
    >>> half == callable_fingerprint(lambda x: x / 3)
    False
    """
    try:
        return Contents().digest(function).hex()
    except UnknownContentError as error:
        raise TypeError(
            f"{role}={function!r} holds a {error}, whose content cannot be read, so "
            "that a cache could not tell when it changes. Give the function an "
            "attribute cache_key: a text that you change whenever its result does."
        ) from None


def structure_fingerprint(module: nn.Module) -> str:
    """Return a digest of a network's parts, settings and code, without its weights.

    Parameters
    ----------
    module : nn.Module
        Taken in are its parts' classes with their code, whatever is among their
        attributes that is no weight, the buffers that its state has not, and the
        user's hooks that run with a forward; left out is what :func:`leave_out` was
        told. Of a part that has an attribute ``cache_key`` that is taken instead.

    Returns
    -------
    str
        32 hexadecimal digits.

    Warns
    -----
    UserWarning
        Once for each attribute that holds something whose content cannot be read.
    """
    found, hidden = settings_digests(module), _of_forward.get(module, set())
    return _digest({name: found[name] for name in found.keys() - hidden})


def code_fingerprint(module: nn.Module) -> str:
    """Return a digest of the classes of a network's parts, and of nothing else."""
    contents = Contents()
    return _digest({name: contents.digest(type(p)) for name, p in _walked(module)})


def _digest(settings: Settings) -> str:
    parts = (f"{name} {settings[name].hex()}" for name in sorted(settings))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


# What a forward changes ------------------------------------------------------------


def changed_settings(before: Settings, after: Settings) -> set[str]:
    """Return the names of the attributes in which two looks at a network differ."""
    names = before.keys() | after.keys()
    return {name for name in names if before.get(name) != after.get(name)}


def leave_out(module: nn.Module, names: set[str]) -> None:
    """Take attributes of a network for no configuration from now on, and say so once.

    Parameters
    ----------
    module : nn.Module
        The network.
    names : set of str
        Names of :func:`settings_digests`: what a forward has changed.
    """
    known = _of_forward.setdefault(module, set())
    if names - known:
        known |= names
        listed = ", ".join(sorted(name.partition(" ")[2] or name for name in known))
        warn_once(
            f"a forward of {type(module).__name__} changes what it holds ({listed}): "
            "memories and counters, which a cache takes for no configuration and does "
            "not look at. If what comes out depends on one of them, give the network "
            "an attribute cache_key: a text that you change whenever it does."
        )


# Parts -----------------------------------------------------------------------------


def settings_digests(module: nn.Module, contents: Contents | None = None) -> Settings:
    """Return the digests of all that decides what a network does, but its weights."""
    contents, found = contents or Contents(), {}
    with turn:  # while another thread runs the network, its modes and hooks are ours
        own = f"network {len(contents.parts)}"
        for name, thing in _named(module):
            contents.parts.setdefault(id(thing), (thing, f"{own} {name}"))
        for name, part in _walked(module):
            if not isinstance(part, torch.jit.ScriptModule):
                found[f"{name} class"] = contents.digest(type(part))
            for kind, key, value in _settings(part):
                where = f"the network's {name or 'own'} {kind} {key!r}"
                found[f"{name} {kind} {key!r}"] = contents.noted(where, value)
    return found


def _walked(part: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield a network's parts by every name that they have, and itself.

    What has a ``cache_key`` or is scripted stands for what is in it.
    """
    yield name, part
    if hasattr(part, "cache_key") or isinstance(part, torch.jit.ScriptModule):
        return
    for key, inside in part._modules.items():
        if inside is not None:
            yield from _walked(inside, f"{name}.{key}" if name else key)


def _named(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield a network's parts and weights by name: what its state has."""
    yield from module.named_modules()
    yield from module.named_parameters()
    for name, part in module.named_modules():
        for key, buffer in part._buffers.items():
            if buffer is not None and key not in part._non_persistent_buffers_set:
                yield f"{name}.{key}", buffer


def _settings(part: nn.Module) -> Iterator[tuple[str, str, Any]]:
    """Yield what decides what a part does, as (kind, name, value)."""
    if hasattr(part, "cache_key"):
        yield "setting", "cache_key", str(part.cache_key)
    elif isinstance(part, torch.jit.ScriptModule):
        yield "setting", "code", _scripted(part)
    elif not isinstance(getattr(part, "_orig_mod", None), nn.Module):
        hidden = _computed(part)
        for key, value in vars(part).items():
            if key not in hidden:
                yield "setting", key, value
        for key in part._non_persistent_buffers_set:
            yield "buffer", key, part._buffers[key]
        for kind in ("_forward_hooks", "_forward_pre_hooks"):
            yield "hooks", kind, [*_changing_hooks(part, kind)]


def _computed(part: nn.Module) -> set[str]:
    """Return the attributes of a part that follow from its weights, or are notes."""
    hidden = set(_NOT_SETTINGS)
    if any(kind.__name__ == "LightningModule" for kind in type(part).__mro__):
        hidden |= _OF_TRAINING
    if isinstance(part, torch.fx.GraphModule):
        hidden |= _OF_GRAPH
    for hook in part._forward_pre_hooks.values():
        # Weight norms and masks compute a weight from others in each forward.
        if type(hook).__module__.startswith("torch.nn.utils."):
            hidden |= {str(vars(hook).get(n)) for n in ("name", "_tensor_name")}
    return hidden


def _changing_hooks(part: nn.Module, kind: str) -> Iterator[Any]:
    ways = [vars(part).get(f"{kind}_{w}", ()) for w in ("with_kwargs", "always_called")]
    for number, hook in vars(part)[kind].items():
        inner = hook
        while isinstance(inner, partial):
            inner = inner.func
        home = getattr(inner, "__module__", None) or ""
        # These look at outputs and change none.
        if not home.startswith(("skood.extraction.", "transformers.")):
            yield hook, *(number in way for way in ways)


_PASSING = re.compile(
    r" #.*$|___torch_mangle_\d+\.| object at 0x\w+|\btraining = \w+", re.MULTILINE
)
"""Where code came from, and the modes and addresses of parts."""


def _scripted(part: torch.jit.ScriptModule) -> str:
    """Return the code of a scripted part, and the numbers and texts that it holds."""
    return _PASSING.sub("", part._c.dump_to_str(True, False, False))
