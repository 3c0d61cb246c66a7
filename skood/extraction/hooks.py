"""Looking into a forward pass: hooks by qualified name, always removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from skood.extraction.batch import Batch
from skood.extraction.entries import (
    NETWORK_ENTRIES,
    Path,
    Taken,
    entries,
    entry_name,
    taken,
)
from skood.extraction.layout import FeatureMap, Mask
from skood.extraction.naming import PENULTIMATE, resolved_name
from skood.extraction.network import named_layers
from skood.extraction.passes import Pass, hooked
from skood.extraction.statistics import STATISTICS
from skood.features import Key
from skood.features.names import is_logits

__all__ = [
    "PENULTIMATE",
    "EarlyStop",
    "Probe",
    "Recorder",
    "asked_entry",
    "head_input",
    "hooked",
    "not_called",
    "observable",
]


class EarlyStop(BaseException):
    """Ends a forward pass once everything wanted was seen.

    No ``Exception``, so that a network that catches its own errors lets it through.
    """


@dataclass(frozen=True)
class Probe:
    """What one forward of a few rows tells about a network.

    Parameters
    ----------
    runs : dict of str to dict
        From the form of a batch to how often layers run in one forward of it; passes
        add what they see. The last run counts.
    channels_last : dict of str to bool
        How each wanted layer's output is laid out.
    guessed : list of str, default=[]
        The layers among them whose layout nothing but the number of axes says.
    head : str, optional
        The qualified name of the final linear map, when there is one.
    output : list, default=[]
        The way to the logits in what the network returns, where it returns several
        tensors and no name tells.
    written : list of str, default=[]
        The tensors and flags that a forward writes to in evaluation mode.
    notes : list of str, default=[]
        What the user should know.
    """

    runs: dict[str, dict[str, int]]
    channels_last: dict[str, bool]
    guessed: list[str] = field(default_factory=list)
    head: str | None = None
    output: list[Any] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def channels(self, wanted: str) -> str:
        """Return where channels are taken to be, as far as features depend on it.

        Parameters
        ----------
        wanted : {"auto", "first", "last"}
            What was asked for. ``"auto"`` reads the same layout from all inputs but
            where it guesses; then features also depend on what was guessed.

        Returns
        -------
        str
        """
        readings = {name: self.channels_last[name] for name in sorted(self.guessed)}
        guesses = [f"{n!r} {'last' if r else 'first'}" for n, r in readings.items()]
        return ", ".join([wanted, *guesses])


def observable(module: nn.Module) -> dict[str, nn.Module]:
    """Return the parts of a network that run hooks, itself too, by their first name."""
    parts = module.named_modules()
    return {n: p for n, p in parts if not isinstance(p, torch.jit.ScriptModule)}


def not_called(name: str) -> str:
    """Return the message for a layer that did not run."""
    return (
        f"layer {name!r} did not run in the network's forward pass: it is unused, only "
        "holds other layers (as blocks do in a torch.fx graph), or its parent works "
        "without calling it (a scripted or fused part). Name the layer around it, or "
        "one inside; skood.list_layers(network, X) shows which run."
    )


def head_input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Taken | None:
    """Return what the head is called with, by position or by keyword."""
    return taken((args, dict(kwargs)))


class Recorder:
    """Takes the statistics of the wanted blocks while a network runs.

    Parameters
    ----------
    keys : sequence of (layer, statistic)
        The wanted blocks.
    found : Probe
        Made with these layers.

    Attributes
    ----------
    values : dict
        From (layer, statistic) to a tensor of shape (n, columns) that shares no memory
        with what the network computes in.
    """

    def __init__(self, keys: Sequence[Key], found: Probe) -> None:
        self.keys = keys
        self.statistics: dict[str, list[str]] = {}
        for layer, statistic in keys:
            if not is_logits(layer):
                self.statistics.setdefault(layer, []).append(statistic)
        self.outputs = [key for key in keys if is_logits(key[0])]
        self.found = found
        self.values: dict[Key, Tensor] = {}
        self._pass: Pass | None = None

    def start(self, batch: Batch) -> None:
        """Begin a batch.

        It is stopped early only if each wanted layer is known to run once in batches
        of its form: of a layer that a loop calls the last run counts, and that one
        cannot be told before the end.
        """
        self.n_rows, self.form = batch.n_rows, batch.form()
        self.mask = None if batch.mask is None else Mask(batch.mask, batch.shorten)
        self.values = {}
        self.runs: Counter[str] = Counter()
        known = self.found.runs.get(self.form, {})
        run_once = all(known.get(layer) == 1 for layer in self.statistics)
        self.stops = run_once and not self.outputs

    @contextmanager
    def attached(self, module: nn.Module) -> Iterator[None]:
        """Hook into a network for the length of a pass."""
        modules = named_layers(module)
        hooks: list[tuple[Callable[..., Any], Any]] = []
        for layer in self.statistics:
            if layer == PENULTIMATE:
                head = module.get_submodule(str(self.found.head))
                register = partial(head.register_forward_pre_hook, with_kwargs=True)
                hooks.append((register, self._before_head))
            else:
                target, path = resolved_name(layer, modules) or ("", ())
                part = modules[target] if target else module
                hook = partial(self._after, layer, path)
                hooks.append((part.register_forward_hook, hook))
        with hooked(hooks) as self._pass:
            yield
        self._pass = None

    def run(self, batch: Batch, module: nn.Module) -> Any:
        """Return the network's output for a batch; the hooks answer to this call."""
        assert self._pass is not None
        with self._pass.running():
            return batch.call(module)

    def finish(self, output: Any) -> dict[Key, Tensor]:
        """Return the batch's values in the order in which they were asked for.

        Raises
        ------
        ValueError
            If a layer did not run, or the output is no vector of logits.
        """
        if not self.stops:
            self.found.runs.setdefault(self.form, {}).update(self.runs)
        for key in self.outputs:
            path = resolved_name(key[0], {})[1]  # type: ignore[index]
            chosen = path or tuple(self.found.output)
            self.values[key] = self._logits(
                asked_entry("the network", output, chosen, NETWORK_ENTRIES)
            )
        for layer in self.statistics:
            if not any(key[0] == layer for key in self.values):
                raise ValueError(not_called(layer))
        return {key: self.values[key] for key in self.keys}

    def values_of(
        self, batch: Batch, outputs: Mapping[str, Taken | None], output: Any
    ) -> dict[Key, Tensor]:
        """Return the values of a batch whose layers' outputs were kept."""
        self.start(batch)
        for layer in self.statistics:
            self._record(layer, outputs.get(layer))
        self.stops = True  # nothing ran here that could be counted
        return self.finish(output)

    def _before_head(self, _module: nn.Module, args: Any, kwargs: Any) -> None:
        self._seen(PENULTIMATE, head_input(args, kwargs))

    def _after(
        self, layer: str, path: Path, _module: nn.Module, _args: Any, output: Any
    ) -> None:
        self._seen(layer, asked_entry(f"layer {layer!r}", output, path))

    def _seen(self, layer: str, output: Taken | None) -> None:
        self._record(layer, output)
        self.runs[layer] += 1
        if self.stops and len(self.runs) == len(self.statistics):
            raise EarlyStop

    def _record(self, layer: str, found: Taken | None) -> None:
        output = self._checked(f"layer {layer!r}", found)
        last = self.found.channels_last[layer]
        mask = self.mask
        if found is not None and found.mask is not None:
            mask = Mask(found.mask)
        with _full_precision(output.device.type):
            maps = FeatureMap.of(layer, output, last, mask)
            for name in self.statistics[layer]:
                value = STATISTICS[name](maps)
                self.values[(layer, name)] = _owned(value, output)

    def _checked(self, name: str, found: Taken | None) -> Tensor:
        if found is None:
            raise ValueError(f"{name} puts out no tensor.")
        output = found.tensor
        if output.ndim == 0 or output.shape[0] != self.n_rows:
            raise ValueError(
                f"{name} puts out a tensor of shape {tuple(output.shape)} for "
                f"{self.n_rows} rows of input: the first axis must be the rows. Where "
                "it works on windows or crops, name the layer around it."
            )
        return output

    def _logits(self, found: Taken | None) -> Tensor:
        tensor = self._checked("the network", found)
        if tensor.is_complex():
            raise ValueError(
                "the network puts out complex numbers, which are no logits: name its "
                "last layer instead, whose real and imaginary parts are then columns."
            )
        if tensor.ndim > 2 and tensor[0].numel() > tensor.shape[1]:
            raise ValueError(
                f"the network puts out a tensor of shape {tuple(tensor.shape)}; "
                "'logits' are never pooled and need (rows, classes). Name the layer "
                "that gives the output instead, and it is pooled."
            )
        return tensor.reshape(self.n_rows, -1).clone()


def _full_precision(device: str) -> Any:
    """Return a context without mixed precision; entering torch's own takes a while."""
    try:
        is_mixed = torch.is_autocast_enabled(device)
    except TypeError:  # torch before 2.4 does not say it of a device
        is_mixed = True
    return torch.autocast(device, enabled=False) if is_mixed else nullcontext()


def asked_entry(
    name: str, output: Any, path: Path, preferred: Sequence[str] = ()
) -> Taken | None:
    """Return an entry of an output.

    Raises
    ------
    ValueError
        If there is none on that way; the message lists those that there are.
    """
    try:
        return taken(output, path, preferred) if preferred else taken(output, path)
    except LookupError as error:
        there = [entry_name("", way) for way, _ in entries(output) if way]
        raise ValueError(
            f"{name} puts out no entry {error.args[0]} in what was asked for; it puts "
            f"out {', '.join(there) or 'a ' + type(output).__name__}."
        ) from None


def _owned(value: Tensor, output: Tensor) -> Tensor:
    """Return the value, copied if the network could still write into its memory."""
    shared = value.untyped_storage().data_ptr() == output.untyped_storage().data_ptr()
    return value.clone() if shared else value
