"""A network with statistics of its layers beside its output, as one module."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skood.extraction.entries import NETWORK_ENTRIES, Path, Taken
from skood.extraction.hooks import PENULTIMATE, Probe, asked_entry, head_input
from skood.extraction.layout import FeatureMap, Mask
from skood.extraction.masks import MaskOf, own_mask
from skood.extraction.naming import resolved_name
from skood.extraction.network import floating_dtype, named_layers, on_cpu
from skood.extraction.statistics import STATISTICS
from skood.features import Key
from skood.features.names import is_logits

__all__ = ["FeatureCapture"]


class FeatureCapture(nn.Module):
    """A copy of a network that also gives statistics of its layers.

    Taps on the copy's own layers hand what these put out to the forward that is
    running: they are part of this module, and of every graph that is made of it. The
    network that was given is left alone.

    Parameters
    ----------
    network : nn.Module
        Copied, to the CPU.
    keys : sequence of (layer, statistic)
        The wanted blocks.
    found : Probe
        What the extraction knows of the network.
    dtype : str
        Of the blocks.
    mask_of : callable, optional
        As ``LayerFeatureTransformer(mask=...)``.
    """

    def __init__(
        self,
        network: nn.Module,
        keys: Sequence[Key],
        found: Probe,
        dtype: str,
        mask_of: MaskOf | None = None,
    ) -> None:
        super().__init__()
        self.network = copy.deepcopy(on_cpu(network)).eval().requires_grad_(False)
        self.keys = tuple(keys)
        self._found, self._mask_of = found, mask_of or own_mask(self.network)
        self._input = floating_dtype(self.network)
        self._dtype = getattr(torch, np.dtype(dtype).name)
        self._running = _Running()
        statistics: dict[str, list[str]] = {}
        for layer, statistic in self.keys:
            if not is_logits(layer):
                statistics.setdefault(layer, []).append(statistic)
        for layer, names in statistics.items():
            self._tap(layer, names)

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the network's output and the wanted blocks, in order."""
        args = tuple(self._placed(value) for value in args)
        kwargs = {name: self._placed(value) for name, value in kwargs.items()}
        mask = _attention_mask(args, kwargs)
        given = None if mask is None else Mask(mask, self._mask_of)
        values = self._running.begin(given)
        made = self.network(*args, **kwargs)
        path = tuple(self._found.output)
        output = _tensor("the network", asked_entry("the network", made, path, _OF_ALL))
        blocks = []
        for layer, statistic in self.keys:
            if is_logits(layer):
                asked = resolved_name(layer, {})[1] or path  # type: ignore[index]
                entry = asked_entry("the network", made, asked, _OF_ALL)
                tensor = _tensor("the network", entry)
                values[layer, statistic] = tensor.reshape(tensor.shape[0], -1)
            blocks.append(values[layer, statistic].to(self._dtype))
        self._running.end()
        return output, tuple(blocks)

    def _placed(self, value: Any) -> Any:
        """Return an input in the type of the network's weights."""
        if isinstance(value, Mapping):
            return {name: self._placed(part) for name, part in value.items()}
        if isinstance(value, Tensor) and value.is_floating_point() and self._input:
            return value.to(self._input)
        return value

    def _tap(self, layer: str, statistics: list[str]) -> None:
        last = self._found.channels_last[layer]
        if layer == PENULTIMATE:
            head = self.network.get_submodule(str(self._found.head))
            tap = _Tap(self._running, layer, statistics, last)
            head.register_forward_pre_hook(tap.before, with_kwargs=True)
            return
        modules = named_layers(self.network)
        target, path = resolved_name(layer, modules) or ("", ())
        part = modules[target] if target else self.network
        tap = _Tap(self._running, layer, statistics, last, path)
        part.register_forward_hook(tap.after)


_OF_ALL = NETWORK_ENTRIES


class _Tap:
    """Takes the statistics of one layer whenever it runs."""

    def __init__(
        self,
        running: _Running,
        layer: str,
        statistics: list[str],
        channels_last: bool,
        path: Path = (),
    ) -> None:
        self.running, self.layer, self.statistics = running, layer, statistics
        self.channels_last, self.path = channels_last, path

    def before(self, _module: nn.Module, args: Any, kwargs: Any) -> None:
        self._take(head_input(args, kwargs))

    def after(self, _module: nn.Module, _args: Any, output: Any) -> None:
        self._take(asked_entry(f"layer {self.layer!r}", output, self.path))

    def _take(self, found: Taken | None) -> None:
        tensor = _tensor(f"layer {self.layer!r}", found)
        mask = self.running.mask
        if found is not None and found.mask is not None:
            mask = Mask(found.mask)
        maps = FeatureMap.of(self.layer, tensor, self.channels_last, mask)
        for name in self.statistics:
            # A copy, since the network may go on in place.
            self.running.values[self.layer, name] = STATISTICS[name](maps).clone()


class _Running:
    """What the forward that runs has taken so far, for each thread its own."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._traced: dict[str, Any] = {}

    def begin(self, mask: Mask | None) -> dict[Key, Tensor]:
        self._state.update(values={}, mask=mask)
        return self.values

    def end(self) -> None:
        self._state.clear()

    @property
    def values(self) -> dict[Key, Tensor]:
        found: dict[Key, Tensor] = self._state["values"]
        return found

    @property
    def mask(self) -> Mask | None:
        return self._state["mask"]

    @property
    def _state(self) -> dict[str, Any]:
        if (
            torch.compiler.is_compiling()
        ):  # by one thread, which sees plain objects only
            return self._traced
        return self._own.__dict__

    def __reduce__(self) -> Any:
        return _Running, ()


def _tensor(name: str, found: Taken | None) -> Tensor:
    if found is None:
        raise ValueError(f"{name} puts out no tensor.")
    return found.tensor


def _attention_mask(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    named = dict(kwargs)
    for value in args:
        named |= value if isinstance(value, Mapping) else {}
    mask = named.get("attention_mask")
    return mask if isinstance(mask, Tensor) else None
