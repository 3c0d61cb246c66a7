"""What two networks have to agree in, beside their weights, to be the same."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from skood._turn import turn
from skood.store.identity.content import (
    Contents,
    Pieces,
    UnknownContentError,
    cache_key_of,
    form_of,
    warn_once,
)
from skood.store.identity.huggingface import NETWORK_NOTES
from skood.store.identity.weights import weights_digest

__all__ = [
    "callable_fingerprint",
    "changed_settings",
    "code_fingerprint",
    "leave_out",
    "left_out",
    "settings_digests",
    "structure_fingerprint",
]

Settings = dict[str, bytes]
"""Digests of a network's classes and attributes, by place and name."""

_of_forward: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()

_seen: WeakKeyDictionary[nn.Module, Settings] = WeakKeyDictionary()
"""Of the last fingerprint of each network."""

_NOT_SETTINGS = {
    *(*vars(nn.Module()), *NETWORK_NOTES, "_compiled_call_impl"),
    *("_graph", "_graphmodule_cls_name"),  # whose ``_code`` says it all
    *("_metric_attributes", "_param_requires_grad_state", "_current_fx_name"),
    *("_example_input_array", "_log_hyperparams", "_device_mesh", "_compiler_ctx"),
}
"""Attributes of any network, and what libraries note in theirs."""

_COMPUTED = ("orig", "g")
"""Ends of parameters' names: norms and masks compute weights from such."""

_PASSING = re.compile(
    r" #.*$|___torch_mangle_\d+\.| object at 0x\w+|\btraining = \w+", re.MULTILINE
)
"""What changes in a scripted network's text: places, modes and addresses of parts."""


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
    contents = Contents(left_out(module))
    found = settings_digests(module, contents)
    _seen[module] = found | contents.values
    return _digest({name: found[name] for name in found.keys() - left_out(module)})


def code_fingerprint(module: nn.Module) -> str:
    """Return a digest of the classes of a network's parts, and of nothing else."""
    contents = Contents()
    return _digest({name: contents.digest(type(p)) for name, p in _walked(module)})


def _digest(settings: Settings) -> str:
    parts = (f"{name} {settings[name].hex()}" for name in sorted(settings))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


# What a forward changes ------------------------------------------------------------


def changed_settings(module: nn.Module) -> set[str]:
    """Return the names of what a network holds that is not as at its last fingerprint.

    Parameters
    ----------
    module : nn.Module
        The network, of which :func:`structure_fingerprint` was taken.
    """
    contents = Contents(left_out(module))
    before, now = _seen[module], settings_digests(module, contents) | contents.values
    names = before.keys() | now.keys()
    changed = {name for name in names if before.get(name) != now.get(name)}
    if changed.isdisjoint(contents.values):
        return changed
    # Of a class it is then the value that changed, and not the code.
    return {name for name in changed if not name.partition(" ")[2].startswith("class ")}


def left_out(module: nn.Module) -> set[str]:
    """Return what :func:`leave_out` was told of a network."""
    return _of_forward.get(module, set())


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
        words = (n.rstrip(",") if n[0] == "'" else n.partition(" ")[2] for n in known)
        listed = ", ".join(sorted(words))
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
        for name, thing in _of_state(module):
            contents.parts.setdefault(id(thing), (thing, f"{own} {name}"))
        for name, part in _walked(module):
            for kind, key, value in _settings(part):
                where = f"the network's {name or 'own'} {kind} {key!r}"
                found[f"{name} {kind} {key!r}"] = contents.noted(where, value)
    return found


@form_of.register
def _network(module: nn.Module, contents: Contents) -> Pieces:
    found = sorted(settings_digests(module, contents).items())
    return [weights_digest(module), *(piece for pair in found for piece in pair)]


def _walked(part: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield a network's parts by every name that they have, and itself.

    What has a ``cache_key`` or is scripted stands for what is in it.
    """
    yield name, part
    if cache_key_of(part) is None and not isinstance(part, torch.jit.ScriptModule):
        for key, inside in part._modules.items():
            if inside is not None:
                yield from _walked(inside, f"{name}.{key}" if name else key)


def _of_state(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield a network's parts and weights by name: what its state has."""
    yield from module.named_modules()
    yield from module.named_parameters()
    for name, part in module.named_modules():
        for key, buffer in part._buffers.items():
            if buffer is not None and key not in part._non_persistent_buffers_set:
                yield f"{name}.{key}", buffer


def _settings(part: nn.Module) -> Iterator[tuple[str, str, Any]]:
    """Yield what decides what a part does, as (kind, name, value)."""
    if (own_key := cache_key_of(part)) is not None:
        yield "setting", "cache_key", own_key
    elif isinstance(part, torch.jit.ScriptModule):
        code = part._c.dump_to_str(True, False, False)
        yield "setting", "code", _PASSING.sub("", code)
    else:
        yield "class", type(part).__name__, type(part)
        ends = (n.rpartition("_") for n in part._parameters)
        computed = {name for name, _, end in ends if end in _COMPUTED}
        for key in sorted(vars(part).keys() - _NOT_SETTINGS - computed):
            yield "setting", key, vars(part)[key]
        for key in sorted(part._non_persistent_buffers_set):
            yield "buffer", key, part._buffers[key]
        for hooks in ("_forward_hooks", "_forward_pre_hooks"):
            found = vars(part)[hooks].values()
            yield "hooks", hooks, [hook for hook in found if not _only_looks(hook)]


def _only_looks(hook: Any) -> bool:
    home = getattr(getattr(hook, "func", hook), "__module__", None) or ""
    return home.startswith(("skood.extraction.", "transformers."))
