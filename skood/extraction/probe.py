"""What one forward of a few rows tells about a network, before any pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skood.extraction.hooks import (
    PENULTIMATE,
    Probe,
    hooked,
    not_called,
    observable,
)
from skood.extraction.layout import (
    NETWORK_ENTRIES,
    channel_width,
    first_tensor,
    is_channels_last,
    is_spatial,
)
from skood.extraction.network import named_layers
from skood.features import LOGITS, LinearHead

__all__ = ["checked_layers", "linear_head", "probe", "probe_and_outputs"]


def checked_layers(layers: Any, module: nn.Module) -> tuple[str, ...]:
    """Return the layers' names, each in the network and named once.

    Parameters
    ----------
    layers : str or sequence of str
        As the user gave them.
    module : nn.Module
        The network.

    Returns
    -------
    tuple of str

    Raises
    ------
    TypeError
        If a name is no text.
    ValueError
        If there is none, one is unknown (close matches are named) or named twice.
    """
    names = (layers,) if isinstance(layers, str) else tuple(layers)
    if not names:
        raise ValueError("layers is empty: name at least one, or 'logits'.")
    modules = named_layers(module)
    known = [*modules, PENULTIMATE, LOGITS]
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"layers has {name!r}: layers are given by name.")
        if name not in known:
            near = get_close_matches(name, known, n=3)
            hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise ValueError(
                f"the network has no layer {name!r}.{hint} "
                "skood.layer_names(network) lists all names, and "
                "skood.list_layers(network, X) shows what they put out."
            )
        if isinstance(modules.get(name), torch.jit.ScriptModule):
            raise ValueError(
                f"layer {name!r} is a TorchScript module, which cannot be observed: "
                "name a layer around it or after it, or put the Python module back."
            )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"layers names {twice[0]!r} twice.")
    return names


@dataclass
class _Trace:
    """What hooks on all modules note while a few rows go through."""

    channels: str
    calls: Counter[str] = field(default_factory=Counter)
    channels_last: dict[str, bool] = field(default_factory=dict)
    before: tuple[int, bool] | None = None
    linear: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)

    def width(self, module: nn.Module, _args: Any, _output: Any) -> None:
        width = channel_width(module)
        if width is not None:
            self.before = (width, is_spatial(module))

    def layer(self, name: str, module: nn.Module, _args: Any, output: Any) -> None:
        self.calls[name] += 1
        tensor = first_tensor(output)
        if tensor is not None:
            self.outputs[name] = tensor.clone()
        if tensor is None or tensor.ndim < 3:
            self.channels_last[name] = False
        elif self.channels == "auto":
            found = is_channels_last(module, tensor.shape, self.before)
            self.channels_last[name] = found
        else:
            self.channels_last[name] = self.channels == "last"

    def affine(self, name: str, module: nn.Linear, args: Any, output: Any) -> None:
        self.calls[f"{PENULTIMATE} {name}"] += 1
        if isinstance(output, Tensor) and output.ndim <= 2 and args:
            # Copies, since the network may go on in place; vectors only, so small.
            self.linear.pop(name, None)
            self.linear[name] = (args[0].clone(), output.clone())


def probe(
    module: nn.Module,
    forward: Callable[[], Any],
    layers: Iterable[str],
    channels: str = "auto",
) -> Probe:
    """Return what one forward of a few rows tells about a network.

    Parameters
    ----------
    module : nn.Module
        The network, in evaluation mode.
    forward : callable
        Runs the network once and returns its output.
    layers : iterable of str
        The wanted layers, all known.
    channels : {"auto", "first", "last"}, default="auto"
        Where the channels of outputs with three axes or more are.

    Returns
    -------
    Probe

    Raises
    ------
    ValueError
        If a wanted layer does not run, or the head is wanted and not found.
    """
    return probe_and_outputs(module, forward, layers, channels)[0]


def probe_and_outputs(
    module: nn.Module,
    forward: Callable[[], Any],
    layers: Iterable[str],
    channels: str = "auto",
) -> tuple[Probe, dict[str, Tensor]]:
    """Return what :func:`probe` returns, and copies of what the layers put out."""
    trace = _Trace(channels)
    modules = named_layers(module)
    wanted = [name for name in layers if name not in (LOGITS, PENULTIMATE)]
    hooks = [
        *((p.register_forward_hook, trace.width) for p in observable(module).values()),
        *(
            (part.register_forward_hook, partial(trace.affine, name))
            for name, part in module.named_modules()
            if isinstance(part, nn.Linear)
        ),
        *(
            (modules[name].register_forward_hook, partial(trace.layer, name))
            for name in wanted
        ),
    ]
    with hooked(hooks):
        output = first_tensor(forward(), NETWORK_ENTRIES)
    for name in wanted:
        if not trace.calls[name]:
            raise ValueError(not_called(name))
    calls = {name: trace.calls[name] for name in wanted}
    head = _head(module, trace.linear, output)
    if PENULTIMATE in layers:
        if head is None:
            raise ValueError(_NO_HEAD)
        calls[PENULTIMATE] = trace.calls[f"{PENULTIMATE} {head}"]
        trace.channels_last[PENULTIMATE] = False
        trace.outputs[PENULTIMATE] = trace.linear[head][0]
    if output is not None:
        trace.outputs[LOGITS] = output
    return Probe(calls, trace.channels_last, head), trace.outputs


_NO_HEAD = (
    "layers has 'penultimate', the input of the network's final linear map, but no "
    "torch.nn.Linear of this network gives its output unchanged. Name the layer "
    "instead; skood.layer_names(network) lists all names."
)


def _head(
    module: nn.Module, linear: dict[str, tuple[Tensor, Tensor]], output: Tensor | None
) -> str | None:
    """Return the name of the last linear map whose output is the network's."""
    for name, (given, made) in reversed(linear.items()):
        part = module.get_submodule(name)
        assert isinstance(part, nn.Linear)
        if output is None or output.numel() != made.numel():
            continue
        if not torch.equal(output.reshape(made.shape), made):
            continue
        # A subclass may do more than its weight and bias say.
        if torch.allclose(nn.functional.linear(given, part.weight, part.bias), made):
            return name
    return None


def linear_head(module: nn.Module, name: str | None) -> LinearHead | None:
    """Return the final linear map that a probe has found, as arrays."""
    if name is None:
        return None
    part = cast(nn.Linear, module.get_submodule(name))
    weight = _copied(part.weight)
    # A linear map may well have no bias; torch's annotation forgets that.
    bias = cast("Tensor | None", part.bias)
    if bias is None:
        return LinearHead(weight, np.zeros(len(weight), weight.dtype))
    return LinearHead(weight, _copied(bias))


def _copied(weights: Tensor) -> NDArray[Any]:
    wide = weights.detach().to(
        device="cpu", dtype=torch.promote_types(weights.dtype, torch.float32), copy=True
    )
    return np.asarray(wide.numpy())
