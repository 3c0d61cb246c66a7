"""Looking into a forward pass: hooks by qualified name, always removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from skood.extraction.batch import Batch
from skood.extraction.layout import NETWORK_ENTRIES, FeatureMap, first_tensor
from skood.extraction.network import named_layers
from skood.extraction.statistics import STATISTICS
from skood.features import LOGITS, Key

__all__ = [
    "PENULTIMATE",
    "EarlyStop",
    "Probe",
    "Recorder",
    "hooked",
    "not_called",
    "observable",
]

PENULTIMATE = "penultimate"
"""The input of the head."""


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
    """

    runs: dict[str, dict[str, int]]
    channels_last: dict[str, bool]
    guessed: list[str] = field(default_factory=list)
    head: str | None = None

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


@contextmanager
def hooked(hooks: Iterable[tuple[Callable[..., Any], Any]]) -> Iterator[None]:
    """Register hooks, given as (register method, hook), and remove them at the end."""
    with ExitStack() as handles:
        for register, hook in hooks:
            handles.callback(register(hook).remove)
        yield


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
            if layer != LOGITS:
                self.statistics.setdefault(layer, []).append(statistic)
        self.wants_output = any(layer == LOGITS for layer, _ in keys)
        self.found = found
        self.values: dict[Key, Tensor] = {}

    def start(self, batch: Batch) -> None:
        """Begin a batch.

        It is stopped early only if each wanted layer is known to run once in batches
        of its form: of a layer that a loop calls the last run counts, and that one
        cannot be told before the end.
        """
        self.n_rows, self.mask, self.form = batch.n_rows, batch.mask, batch.form()
        self.values = {}
        self.runs: Counter[str] = Counter()
        known = self.found.runs.get(self.form, {})
        run_once = all(known.get(layer) == 1 for layer in self.statistics)
        self.stops = run_once and not self.wants_output

    @contextmanager
    def attached(self, module: nn.Module) -> Iterator[None]:
        """Hook into a network for the length of a pass."""
        modules = named_layers(module)
        hooks: list[tuple[Callable[..., Any], Any]] = []
        for layer in self.statistics:
            if layer == PENULTIMATE:
                head = module.get_submodule(str(self.found.head))
                hooks.append((head.register_forward_pre_hook, self._before_head))
            else:
                hook = partial(self._after, layer)
                hooks.append((modules[layer].register_forward_hook, hook))
        with hooked(hooks):
            yield

    def finish(self, output: Any) -> dict[Key, Tensor]:
        """Return the batch's values in the order in which they were asked for.

        Raises
        ------
        ValueError
            If a layer did not run, or the output is no vector of logits.
        """
        if not self.stops:
            self.found.runs.setdefault(self.form, {}).update(self.runs)
        if self.wants_output:
            self.values[(LOGITS, LOGITS)] = self._logits(output)
        for layer in self.statistics:
            if not any(key[0] == layer for key in self.values):
                raise ValueError(not_called(layer))
        return {key: self.values[key] for key in self.keys}

    def values_of(
        self, batch: Batch, outputs: Mapping[str, Tensor]
    ) -> dict[Key, Tensor]:
        """Return the values of a batch whose layers' outputs were kept."""
        self.start(batch)
        for layer in self.statistics:
            self._record(layer, outputs.get(layer))
        self.stops = True  # nothing ran here that could be counted
        return self.finish(outputs.get(LOGITS))

    def _before_head(self, _module: nn.Module, args: Any) -> None:
        self._seen(PENULTIMATE, first_tensor(args))

    def _after(self, layer: str, _module: nn.Module, _args: Any, output: Any) -> None:
        self._seen(layer, first_tensor(output))

    def _seen(self, layer: str, output: Tensor | None) -> None:
        self._record(layer, output)
        self.runs[layer] += 1
        if self.stops and len(self.runs) == len(self.statistics):
            raise EarlyStop

    def _record(self, layer: str, output: Tensor | None) -> None:
        output = self._checked(f"layer {layer!r}", output)
        last = self.found.channels_last[layer]
        with torch.autocast(output.device.type, enabled=False):
            maps = FeatureMap.of(layer, output, last, self.mask)
            for name in self.statistics[layer]:
                value = STATISTICS[name](maps)
                self.values[(layer, name)] = _owned(value, output)

    def _checked(self, name: str, output: Tensor | None) -> Tensor:
        if output is None:
            raise ValueError(f"{name} puts out no tensor.")
        if output.ndim == 0 or len(output) != self.n_rows:
            raise ValueError(
                f"{name} puts out a tensor of shape {tuple(output.shape)} for "
                f"{self.n_rows} rows of input: the first axis must be the rows. Where "
                "it works on windows or crops, name the layer around it."
            )
        return output

    def _logits(self, output: Any) -> Tensor:
        tensor = first_tensor(output, NETWORK_ENTRIES)
        tensor = self._checked("the network", tensor)
        if tensor.ndim > 2 and tensor[0].numel() > tensor.shape[1]:
            raise ValueError(
                f"the network puts out a tensor of shape {tuple(tensor.shape)}; "
                "'logits' are never pooled and need (rows, classes). Name the layer "
                "that gives the output instead, and it is pooled."
            )
        return tensor.reshape(self.n_rows, -1).clone()


def _owned(value: Tensor, output: Tensor) -> Tensor:
    """Return the value, copied if the network could still write into its memory."""
    shared = value.untyped_storage().data_ptr() == output.untyped_storage().data_ptr()
    return value.clone() if shared else value
