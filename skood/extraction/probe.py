"""What one forward of a few rows tells about a network, before any pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from skood.extraction.batch import Batch
from skood.extraction.channels import Before, reading
from skood.extraction.entries import (
    NETWORK_ENTRIES,
    Path,
    Taken,
    entry_name,
    first_tensor,
    rival_entries,
    taken,
)
from skood.extraction.head import found_head
from skood.extraction.hooks import (
    PENULTIMATE,
    Probe,
    asked_entry,
    head_input,
    hooked,
    not_called,
    observable,
)
from skood.extraction.naming import RESERVED, module_name, resolved_name
from skood.extraction.network import named_layers
from skood.features import LOGITS
from skood.features.names import is_logits

__all__ = ["Channels", "probe", "probe_and_outputs"]

Channels = str | Mapping[str, str]


@dataclass
class _Trace:
    """What hooks on all modules note while a few rows go through."""

    channels: Channels
    n_rows: int
    masked: bool
    runs: Counter[str] = field(default_factory=Counter)
    channels_last: dict[str, bool] = field(default_factory=dict)
    guessed: dict[str, bool] = field(default_factory=dict)
    rivals: dict[str, list[Path]] = field(default_factory=dict)
    before: dict[int, Before] = field(default_factory=dict)
    linear: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    outputs: dict[str, Taken] = field(default_factory=dict)

    def width(self, module: nn.Module, _args: Any, output: Any) -> None:
        tensor = first_tensor(output)
        before = Before.of(module, tensor, self._before(tensor))
        if before is not None:
            self.before.pop(before.output.ndim, None)  # the latest one comes last
            self.before[before.output.ndim] = before

    def layer(
        self, name: str, path: Path, module: nn.Module, _args: Any, output: Any
    ) -> None:
        self.runs[name] += 1
        self.guessed[name] = self.channels_last[name] = False
        self.rivals[name] = []
        if not path and not _says_what_is_first(module):
            self.rivals[name] = rival_entries(output, self.n_rows)
        found = asked_entry(f"layer {name!r}", output, path)
        if found is None:
            return
        self.outputs[name] = found.cloned()
        if found.tensor.ndim > 2:
            self._read(name, module, found)

    def _read(self, name: str, module: nn.Module, found: Taken) -> None:
        wanted = _channels_of(self.channels, name)
        if wanted != "auto":
            self.channels_last[name] = wanted == "last"
            return
        tensor = found.tensor
        how = reading(module, tensor, self._before(tensor))
        self.channels_last[name] = how.channels_last
        # Under a mask three axes are tokens: rows, tokens, channels.
        is_sequence = tensor.ndim == 3 and (self.masked or found.mask is not None)
        self.guessed[name] = how.is_guess and not is_sequence

    def _before(self, tensor: Tensor | None) -> Before | None:
        """Return what came last, best with as many axes as a tensor has."""
        latest = [*self.before.values()][-1] if self.before else None
        return latest if tensor is None else self.before.get(tensor.ndim, latest)

    def affine(
        self, name: str, module: nn.Linear, args: Any, kwargs: Any, output: Any
    ) -> None:
        self.runs[f"{PENULTIMATE} {name}"] += 1
        given = head_input(args, kwargs)
        if isinstance(output, Tensor) and output.ndim <= 2 and given is not None:
            # Copies, since the network may go on in place; vectors only, so small.
            self.linear.pop(name, None)
            self.linear[name] = (given.tensor.clone(), output.clone())


def _channels_of(channels: Channels, layer: str) -> str:
    return channels if isinstance(channels, str) else channels.get(layer, "auto")


def _says_what_is_first(module: nn.Module) -> bool:
    """Return whether a module's kind puts out its features first, beside other things.

    Recurrent layers put out their states beside them, attention its weights, and so do
    the layers of transformers.
    """
    home = type(module).__module__
    return home.startswith(("torch.nn.modules.", "transformers."))


def probe(
    module: nn.Module,
    forward: Callable[[], Any],
    layers: Iterable[str],
    channels: Channels = "auto",
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
    channels : {"auto", "first", "last"} or mapping of str to these, default="auto"
        Where the channels of outputs with three axes or more are, for all or by layer.

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
    channels: Channels = "auto",
    batch: Batch | None = None,
) -> tuple[Probe, dict[str, Taken], Any]:
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
    outputs : dict of str to Taken
    output : object
        What the network returned.
    """
    layers = [*layers]
    n_rows = -1 if batch is None else batch.n_rows
    trace = _Trace(channels, n_rows, batch is not None and batch.mask is not None)
    wanted = [name for name in layers if not (name == PENULTIMATE or is_logits(name))]
    with hooked(_hooks(module, trace, wanted, layers)) as own, own.running():
        output = forward()
    for name in wanted:
        if not trace.runs[name]:
            raise ValueError(not_called(name))
    runs = {name: trace.runs[name] for name in wanted}
    head, way = found_head(module, trace.linear, output)
    if PENULTIMATE in layers:
        if head is None:
            raise ValueError(_NO_HEAD)
        runs[PENULTIMATE] = trace.runs[f"{PENULTIMATE} {head}"]
        trace.channels_last[PENULTIMATE] = False
        trace.outputs[PENULTIMATE] = Taken(trace.linear[head][0])
    guessed = [name for name in wanted if trace.guessed[name]]
    found = Probe(
        {} if batch is None else {batch.form(): runs},
        {n: last for n, last in trace.channels_last.items() if n in layers},
        guessed,
        head,
        [*way],
    )
    found.notes.extend(_notes(trace, found, wanted, layers, output))
    return found, trace.outputs, output


def _hooks(
    module: nn.Module, trace: _Trace, wanted: list[str], layers: list[str]
) -> list[tuple[Callable[..., Any], Any]]:
    modules = named_layers(module)
    # Modules whose names mean something else here, to see whether it is the same.
    clashing = [module_name(n) for n in RESERVED if n in layers and n in modules]
    targets = {}
    for name in [*wanted, *(n for n in clashing if n not in wanted)]:
        target, path = resolved_name(name, modules) or ("", ())
        targets[name] = (modules[target] if target else module, path)
    return [
        *((p.register_forward_hook, trace.width) for p in observable(module).values()),
        *(
            (
                partial(part.register_forward_hook, with_kwargs=True),
                partial(trace.affine, name),
            )
            for name, part in module.named_modules()
            if isinstance(part, nn.Linear)
        ),
        *(
            (part.register_forward_hook, partial(trace.layer, name, path))
            for name, (part, path) in targets.items()
        ),
    ]


def _notes(
    trace: _Trace, found: Probe, wanted: list[str], layers: list[str], output: Any
) -> Iterator[str]:
    """Yield what the user should know about what was read where."""
    for name in wanted:
        if len(trace.rivals[name]) > 1:
            names = [entry_name(name, path) for path in trace.rivals[name]]
            yield _SEVERAL.format(f"layer {name!r}", names[0], ", ".join(names))
    for name in found.guessed:
        shape, last = tuple(trace.outputs[name].tensor.shape), found.channels_last[name]
        yield _GUESS.format(name, shape, "last" if last else "first", name)
    ways = rival_entries(output, trace.n_rows)
    if LOGITS in layers and len(ways) > 1:
        names = [entry_name(LOGITS, path) for path in ways]
        path = tuple(found.output) or ways[0]
        chosen = entry_name(LOGITS, path)
        yield _SEVERAL.format("the network", chosen, ", ".join(names))
    for name in RESERVED:
        kept = trace.outputs.get(module_name(name))
        meant = trace.outputs.get(name) if name != LOGITS else _logits(found, output)
        if name in layers and kept is not None and not _are_equal(kept, meant):
            yield _CLASH.format(name, _MEANS[name], module_name(name))


def _logits(found: Probe, output: Any) -> Taken | None:
    return taken(output, tuple(found.output), NETWORK_ENTRIES)


def _are_equal(one: Taken, other: Taken | None) -> bool:
    return other is not None and torch.equal(one.tensor, other.tensor)


_SEVERAL = "{} puts out several tensors; {} was taken. Name the one that is meant: {}."
_GUESS = (
    "layer {!r} puts out a tensor of shape {}, and nothing tells where its channels "
    "are; they were taken to be {}. Say where by channels={{{!r}: 'first'}} or 'last'."
)
_CLASH = (
    "layers has {0!r}, which is {1}; the network has a module of that name besides, "
    "which puts out something else. It is called {2!r}."
)
_MEANS = {
    LOGITS: "the network's output",
    PENULTIMATE: "the input of its last linear map",
}

_NO_HEAD = (
    "layers has 'penultimate', the input of the network's final linear map, but no "
    "torch.nn.Linear of this network gives its output unchanged. Name the layer "
    "instead; skood.layer_names(network) lists all names."
)
