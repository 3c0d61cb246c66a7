"""One pass of a network over inputs: the only place where a network runs."""

from __future__ import annotations

from collections.abc import (
    Callable,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skood.extraction.batch import Batch
from skood.extraction.borrow import borrowed
from skood.extraction.explained import Explained
from skood.extraction.feeding import portions
from skood.extraction.hooks import EarlyStop, Probe, Recorder
from skood.extraction.inputs import Inputs
from skood.extraction.kept import remembering
from skood.extraction.leaving import Sent, Values, as_arrays, one_behind
from skood.extraction.masks import MaskOf, own_mask
from skood.extraction.network import floating_dtype
from skood.extraction.probe import Channels, probe_and_outputs
from skood.features import Key

__all__ = [
    "PROBE_ROWS",
    "Part",
    "Settings",
    "Values",
    "View",
    "assembled",
    "extract",
    "first_batch",
    "passed",
    "probed",
]

View = Callable[[Tensor, NDArray[np.intp]], Tensor]
"""Changes a batch, given with its rows' numbers, to one of the same shape."""

Part = tuple[slice, Values]
"""Consecutive rows, and their blocks."""

PROBE_ROWS = 2

_HALF = {"cuda": torch.float16, "mps": torch.float16}


@dataclass(frozen=True)
class Settings:
    """How a network is run; none of it changes what comes out beyond rounding.

    Parameters
    ----------
    batch_size : int, default=256
        Rows in one forward; halved while the device's memory does not suffice.
    device : str or torch.device, default="auto"
        Where the network runs.
    autocast : bool or {"bfloat16", "float16"}, default=False
        Mixed precision; True is float16 on an accelerator and bfloat16 on the CPU.
    mask : callable, optional
        ``mask(attention_mask, length)`` returns the mask of a layer with another number
        of positions; by default the network's own method for that, if it has one.
    memory : mapping of str to tensor or bool, optional
        What of the network a forward writes to, as all forwards are to find it; by
        default as it is.
    """

    batch_size: int = 256
    device: Any = "auto"
    autocast: bool | str = False
    mask: MaskOf | None = None
    memory: Mapping[str, Any] | None = None

    def placed(
        self,
        inputs: Inputs,
        rows: slice,
        device: torch.device,
        module: nn.Module,
        dtype: torch.dtype | None,
    ) -> Batch:
        """Return some rows where the network runs, with what becomes of their mask."""
        batch, waits = inputs[rows], not inputs.is_fed
        # An accelerator has a copy anyhow, and may ask again for fewer rows at once.
        is_own = device.type == "cpu" and inputs.gives_away(batch)
        batch = batch.moved(device, dtype, waits=waits, is_own=is_own)
        if batch.mask is None:
            return batch
        return replace(batch, shorten=self.mask or own_mask(module))

    def precision(self, device: torch.device) -> Any:
        """Return the context in which the network runs on a device."""
        if not self.autocast:
            return nullcontext()
        dtype = _HALF.get(device.type, torch.bfloat16)
        if isinstance(self.autocast, str):
            dtype = getattr(torch, self.autocast)
        return torch.autocast(device.type, dtype)


def probed(
    module: nn.Module,
    inputs: Inputs,
    keys: Sequence[Key],
    channels: Channels = "auto",
    settings: Settings | None = None,
) -> tuple[Probe, Values]:
    """Return what a forward of the first rows tells about a network, and their blocks.

    Parameters
    ----------
    module : nn.Module
        The network; it is left as it was.
    inputs : Inputs
        What it is to be run on.
    keys : sequence of (layer, statistic)
        The wanted blocks, of known layers. What cannot be taken is found here.
    channels : {"auto", "first", "last"} or mapping of str to these, default="auto"
        Where the channels of outputs with three axes or more are.
    settings : Settings, optional
        How to run it.

    Returns
    -------
    found : Probe
    values : dict
        From (layer, statistic) to an array of shape (rows, columns).
    """
    settings = settings or Settings()
    layers = [*dict.fromkeys(layer for layer, _ in keys)]
    with borrowed(module, settings.device) as device, torch.no_grad():
        n_rows = min(PROBE_ROWS, settings.batch_size, len(inputs))
        dtype = floating_dtype(module)
        batch = settings.placed(inputs, slice(n_rows), device, module, dtype)
        explained = Explained(batch, inputs, slice(batch.n_rows), module)
        with remembering(module) as written, explained:
            with settings.precision(device):
                found, outputs, output = probe_and_outputs(
                    module, lambda: batch.call(module), layers, channels, batch
                )
            values = Recorder(keys, found).values_of(batch, outputs, output)
            arrays = as_arrays(values)
    found.written.extend(written)
    if written:
        found.notes.append(_WRITES.format(", ".join(map(repr, written))))
    return found, arrays


_WRITES = (
    "the network writes to itself in evaluation mode: {}. They were put back, and are "
    "after each batch, so that all rows see the same network."
)


def first_batch(inputs: Inputs, batch_size: int) -> Batch:
    """Return the rows that a network is probed with, no more than it is run with."""
    return inputs[: min(PROBE_ROWS, batch_size, len(inputs))]


def extract(
    module: nn.Module,
    inputs: Inputs,
    keys: Iterable[Key],
    found: Probe,
    settings: Settings | None = None,
    view: View | None = None,
) -> Generator[Part, None, None]:
    """Yield the wanted blocks of consecutive rows, from one pass of the network.

    Parameters
    ----------
    module : nn.Module
        The network; it is given back as it was when the iteration ends, or is
        closed, or fails.
    inputs : Inputs
        What it is run on.
    keys : iterable of (layer, statistic)
        The wanted blocks.
    found : Probe
        Made by :func:`probed` with these layers or more.
    settings : Settings, optional
        How to run it.
    view : callable, optional
        Changes each batch before it goes in: ``view(tensor, rows)``.

    Yields
    ------
    tuple of slice and dict
        Rows, counted within ``inputs``, and from (layer, statistic) to an array of
        shape (rows, columns).
    """
    settings = settings or Settings()
    recorder = Recorder(tuple(keys), found)
    with borrowed(module, settings.device) as device, recorder.attached(module):
        where = device, floating_dtype(module)
        yield from passed(module, inputs, recorder, settings, where, view)


def passed(
    module: nn.Module,
    inputs: Inputs,
    recorder: Recorder,
    settings: Settings,
    where: tuple[torch.device, torch.dtype | None],
    view: View | None = None,
) -> Generator[Part, None, None]:
    """Yield the blocks of consecutive rows from a network that is borrowed and hooked.

    Parameters
    ----------
    module, inputs, settings, view
        As for :func:`extract`.
    recorder : Recorder
        Attached to the network.
    where : tuple of torch.device and torch.dtype
        Where it is, and the floating type of its inputs.
    """
    parts = _parts(module, inputs, recorder, settings, where, view)
    return one_behind(parts) if _leaves_later(where[0]) else parts


def _leaves_later(device: torch.device) -> bool:
    """Return whether results leave a device while it computes the next ones."""
    return device.type == "cuda"


def _parts(
    module: nn.Module,
    inputs: Inputs,
    recorder: Recorder,
    settings: Settings,
    where: tuple[torch.device, torch.dtype | None],
    view: View | None,
) -> Generator[tuple[slice, Any], None, None]:
    for first, portion in portions(inputs, settings.batch_size):
        made = _parts_of(module, portion, recorder, settings, where, view)
        for rows, values in made:
            yield slice(first + rows.start, first + rows.stop), values


def _parts_of(
    module: nn.Module,
    inputs: Inputs,
    recorder: Recorder,
    settings: Settings,
    where: tuple[torch.device, torch.dtype | None],
    view: View | None,
) -> Generator[tuple[slice, Any], None, None]:
    device, dtype = where
    start, size, written = 0, settings.batch_size, recorder.found.written
    while start < len(inputs):
        rows = slice(start, min(start + size, len(inputs)))
        try:
            batch = settings.placed(inputs, rows, device, module, dtype)
            if view is not None:
                batch = batch.viewed(view, inputs.numbers(rows))
            explained = Explained(batch, inputs, rows, module)
            watched = remembering(module, written, settings.memory)
            with watched, explained, settings.precision(device):
                values: Any = _forward(module, batch, recorder)
                later = _leaves_later(device)
                values = Sent(values, explained) if later else as_arrays(values)
        except torch.cuda.OutOfMemoryError:
            if rows.stop - start == 1:
                raise
            size = (rows.stop - start) // 2
            values = None
        if values is None:
            # Out here the error, and with it the frames that hold the failed
            # batch, is gone.
            _release_cached_memory(device)
            continue
        yield rows, values
        start = rows.stop


def assembled(
    parts: Iterable[Part],
    n_rows: int,
    dtype: np.dtype[Any],
    progress: Callable[[int], Any],
) -> Values:
    """Return whole blocks, each allocated once, from blocks of consecutive rows."""
    blocks: Values = {}
    for rows, values in parts:
        for key, value in values.items():
            if key not in blocks:
                blocks[key] = np.empty((n_rows, value.shape[1]), dtype)
            whole = blocks[key]
            if value.shape[1] != whole.shape[1]:
                raise ValueError(
                    f"layer {key[0]!r} gave {value.shape[1]} columns of {key[1]!r} "
                    f"for rows {rows.start} to {rows.stop - 1}, and {whole.shape[1]} "
                    "before: inputs of several sizes need a statistic that pools."
                )
            whole[rows] = value
        progress(rows.stop - rows.start)
    return blocks


def _forward(
    module: nn.Module, batch: Batch, recorder: Recorder
) -> Mapping[Key, Tensor]:
    recorder.start(batch)
    output = None
    # Not inference_mode: what a module creates on its first forward and keeps (cached
    # position codes, say) could then never be trained with. Measured, it would save
    # less than 1 % of 20 small convolutions.
    with torch.no_grad(), suppress(EarlyStop):
        output = recorder.run(batch, module)
    return recorder.finish(output)


def _release_cached_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
