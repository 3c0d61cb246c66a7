"""What one forward of a few rows tells about a network, before any pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skood.extraction.batch import Batch
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
    is_guess,
    is_spatial,
)
from skood.extraction.network import named_layers
from skood.features import LOGITS, LinearHead

__all__ = ["linear_head", "probe", "probe_and_outputs"]


@dataclass
class _Trace:
    """What hooks on all modules note while a few rows go through."""

    channels: str
    masked: bool
    runs: Counter[str] = field(default_factory=Counter)
    channels_last: dict[str, bool] = field(default_factory=dict)
    guessed: dict[str, bool] = field(default_factory=dict)
    before: tuple[int, bool] | None = None
    linear: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)

    def width(self, module: nn.Module, _args: Any, _output: Any) -> None:
        width = channel_width(module)
        if width is not None:
            self.before = (width, is_spatial(module))

    def layer(self, name: str, module: nn.Module, _args: Any, output: Any) -> None:
        self.runs[name] += 1
        tensor = first_tensor(output)
        self.guessed[name] = False
        if tensor is not None:
            self.outputs[name] = tensor.clone()
        if tensor is None or tensor.ndim < 3:
            self.channels_last[name] = False
        elif self.channels == "auto":
            found = is_channels_last(module, tensor.shape, self.before)
            self.channels_last[name] = found
            # Under a mask three axes are tokens: rows, tokens, channels.
            if not (self.masked and tensor.ndim == 3):
                self.guessed[name] = is_guess(module, tensor.shape, self.before)
        else:
            self.channels_last[name] = self.channels == "last"

    def affine(self, name: str, module: nn.Linear, args: Any, output: Any) -> None:
        self.runs[f"{PENULTIMATE} {name}"] += 1
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
    batch: Batch | None = None,
) -> tuple[Probe, dict[str, Tensor]]:
    """Return what :func:`probe` returns, and copies of what the layers put out.

    Parameters
    ----------
    module, forward, layers, channels
        As for :func:`probe`.
    batch : Batch, optional
        What ``forward`` runs; for its form the layers' runs are noted.

    Returns
    -------
    found : Probe
    outputs : dict of str to Tensor
    """
    trace = _Trace(channels, batch is not None and batch.mask is not None)
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
        if not trace.runs[name]:
            raise ValueError(not_called(name))
    runs = {name: trace.runs[name] for name in wanted}
    head = _head(module, trace.linear, output)
    if PENULTIMATE in layers:
        if head is None:
            raise ValueError(_NO_HEAD)
        runs[PENULTIMATE] = trace.runs[f"{PENULTIMATE} {head}"]
        trace.channels_last[PENULTIMATE] = False
        trace.outputs[PENULTIMATE] = trace.linear[head][0]
    if output is not None:
        trace.outputs[LOGITS] = output
    guessed = [name for name in wanted if trace.guessed[name]]
    forms = {} if batch is None else {batch.form(): runs}
    return Probe(forms, trace.channels_last, guessed, head), trace.outputs


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
