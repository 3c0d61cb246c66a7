"""What a network's layers put out, and how long each of them takes."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from skood.extraction.batch import Batch
from skood.extraction.borrow import borrowed
from skood.extraction.entries import (
    NETWORK_ENTRIES,
    Path,
    entries,
    entry_name,
    first_tensor,
    plain,
    rival_entries,
)
from skood.extraction.forward import Settings, probed
from skood.extraction.hooks import PENULTIMATE, head_input, hooked, observable
from skood.extraction.inputs import Inputs, Preprocess
from skood.extraction.kept import KeptTensors
from skood.extraction.naming import module_name
from skood.extraction.network import as_module, floating_dtype, named_layers
from skood.features import LOGITS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["list_layers"]

Shape = tuple[int, ...]

WARM_UPS = 2

_HEAD_INPUT = " input of the head"
"""Its key among the names of modules, of which it can be none."""

COLUMNS = ("type", "output", "parameters", "runs", "time", "saved")


def list_layers(
    network: Any,
    example: Any,
    *,
    preprocess: Preprocess | None = None,
    device: Any = "auto",
    batch_size: int = 16,
    repeats: int = 5,
) -> pd.DataFrame:
    """Return the layers of a network with what a forward pass shows of them.

    The names are those that :class:`skood.LayerFeatureTransformer` takes as
    ``layers``, ``"penultimate"`` and ``"logits"`` among them where the network has
    them. The network is only looked at, as by the transformer.

    Parameters
    ----------
    network : torch.nn.Module, fitted skorch net, or callable
        As for the transformer.
    example : array, tensor, Dataset, DataFrame or list
        Some inputs, as the transformer's ``X``.
    preprocess : callable or str, optional
        Turns rows of the example into the network's input, or names a column.
    device : str or torch.device, default="auto"
        Where the network runs.
    batch_size : int, default=16
        At most so many rows of the example are run.
    repeats : int, default=5
        Timed forwards, of which the fastest counts; two that warm up go before.

    Returns
    -------
    DataFrame
        One row a layer, named by the index, in the order in which the layers end: a
        block comes after its parts. Layers that do not run come last. Columns:

        - ``type``: the module's class. Another name of a module that has a row
          already says so, and has no time of its own.
        - ``output``: the shape of its output for the rows that were run, of its last
          run if there are several; None where it is no tensor.
        - ``parameters``: the number of them in the layer and its parts.
        - ``runs``: how often it runs in one forward. With 0 it cannot be taken: it is
          unused, a mere container, or its parent does its work without calling it.
        - ``time``: its share of the forward's time, without that of its parts; the
          shares of all rows add to 1. What the network does outside of layers is in
          its own row, the last that runs.
        - ``saved``: the share of the forward that lies after its end, which a
          transformer saves that wants nothing deeper. NaN for what does not run.

    Raises
    ------
    TypeError
        If the network, the example or a parameter is of no known kind.
    ValueError
        If the example is not usable, or ``repeats`` or ``batch_size`` is not positive.

    See Also
    --------
    skood.layer_names : The names alone, without inputs and without a forward.
    skood.LayerFeatureTransformer : What takes the names.

    Notes
    -----
    Times are those of these rows on this machine. On an accelerator the
    layers are waited for one by one, so that what it does besides is not counted.
    A network whose output is no vector has the name ``""`` in place of ``"logits"``.
    A layer that puts out several tensors has a row for each below its own, by the name
    that takes it: ``"block[1]"``, ``"block['map']"``.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from skood import list_layers
    >>> network = nn.Sequential(
    ...     nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5)
    ... )
    >>> table = list_layers(network, np.zeros((4, 3, 8, 8)))
    >>> table[["type", "output", "parameters", "runs"]]
                       type        output  parameters  runs
    layer
    0                Conv2d  (4, 8, 6, 6)         224     1
    1                  ReLU  (4, 8, 6, 6)           0     1
    2               Flatten      (4, 288)           0     1
    penultimate  input of 3      (4, 288)           0     1
    3                Linear        (4, 5)        1445     1
    logits       Sequential        (4, 5)        1669     1
    """
    import pandas as pd

    _check(preprocess, repeats=repeats, batch_size=batch_size)
    module = as_module(network)
    inputs = Inputs(example, preprocess).into(module)
    settings = Settings(batch_size, device)
    found, _ = probed(module, inputs, (), settings=settings)
    for note in found.notes:
        warnings.warn(note, UserWarning, stacklevel=2)
    batch = inputs[: min(batch_size, len(inputs))]
    forwards = []
    with borrowed(module, device) as place, torch.no_grad():
        for _ in range(WARM_UPS + repeats):
            # Anew each time, since a network may work in place.
            given = batch.moved(place, floating_dtype(module))
            kept = KeptTensors(module, found.written)
            forwards.append(_Forward(module, found.head, place).of(given))
            kept.put_back()
    fastest = min(forwards[WARM_UPS:], key=lambda forward: forward.total)
    rows = [*_rows(module, found.head, fastest, batch.n_rows)]
    return pd.DataFrame(rows, columns=["layer", *COLUMNS]).set_index("layer")


def _check(preprocess: Any, **numbers: Any) -> None:
    if not (preprocess is None or callable(preprocess) or isinstance(preprocess, str)):
        raise TypeError(
            f"preprocess={preprocess!r}: wanted is a function of some rows, "
            "the name of a column, or None."
        )
    for name, value in numbers.items():
        if not isinstance(value, Integral):
            raise TypeError(f"{name}={value!r}: wanted is an integer of at least 1.")
        if value < 1:
            raise ValueError(f"{name}={value}: a minimum of 1 is required.")


class _Forward:
    """What hooks on all modules note, and when, while a batch goes through."""

    def __init__(
        self, module: nn.Module, head: str | None, device: torch.device
    ) -> None:
        self.module, self.head, self.device = module, head, device
        self.runs: dict[str, int] = {}
        self.own: dict[str, float] = {}
        self.end: dict[str, float] = {}
        self.shape: dict[str, Shape | None] = {}
        self.entries: dict[str, dict[str, Shape]] = {}
        self._open: list[list[Any]] = []
        self._lost = 0.0

    def of(self, batch: Batch) -> _Forward:
        """Run a batch, and return what was noted."""
        hooks: list[tuple[Callable[..., Any], Any]] = []
        for name, part in observable(self.module).items():
            register = partial(part.register_forward_pre_hook, with_kwargs=True)
            hooks.append((register, partial(self._before, name)))
            hooks.append((part.register_forward_hook, partial(self._after, name)))
        self.n_rows = batch.n_rows
        with hooked(hooks) as own, own.running():
            batch.call(self.module)
        return self

    @property
    def total(self) -> float:
        """The seconds of the whole."""
        return self.end[""]

    def _before(self, name: str, _module: nn.Module, args: Any, kwargs: Any) -> None:
        now = self._now()
        if not self._open:
            self._lost += now
            now = 0.0
        if name == self.head:
            given = head_input(args, kwargs)
            self._note(_HEAD_INPUT, now, None if given is None else given.tensor)
        self._open.append([name, now, 0.0])
        self._lost += self._now() - now

    def _after(self, name: str, _module: nn.Module, _args: Any, output: Any) -> None:
        now = self._now()
        # A part whose error its parent caught was begun and never ended.
        while self._open[-1][0] != name:
            _, _, inside = self._open.pop()
            self._open[-1][2] += inside
        _, start, inside = self._open.pop()
        self.own[name] = self.own.get(name, 0.0) + now - start - inside
        self._note(name, now, output)
        if self._open:
            self._open[-1][2] += now - start
        self._lost += self._now() - now

    def _now(self) -> float:
        """Return the time since the forward began, without what hooks took."""
        if self.device.type != "cpu":
            getattr(torch, self.device.type).synchronize()
        return time.perf_counter() - self._lost

    def _note(self, name: str, now: float, values: Any) -> None:
        tensor = first_tensor(values, NETWORK_ENTRIES) if name == "" else None
        tensor = first_tensor(values) if tensor is None else tensor
        self.runs[name] = self.runs.get(name, 0) + 1
        self.end[name] = now
        self.shape[name] = None if tensor is None else tuple(tensor.shape)
        self.entries[name] = {}
        ways = rival_entries(values, self.n_rows)
        if len(ways) > 1:
            self.entries[name] = _shapes(values, ways)


def _shapes(values: Any, ways: list[Path]) -> dict[str, Shape]:
    found = {path: plain(value).tensor for path, value in entries(values)}
    return {entry_name("", way): tuple(found[way].shape) for way in ways}


def _rows(
    module: nn.Module, head: str | None, forward: _Forward, n_rows: int
) -> Iterator[tuple[Any, ...]]:
    """Yield the table's rows: name, type, output, parameters, runs, time, saved."""
    ran, names = sorted(forward.end, key=forward.end.__getitem__), _names(module)
    for name in [*ran, *(name for name in names if name not in forward.end)]:
        shape, runs = forward.shape.get(name), forward.runs.get(name, 0)
        saved = 1 - forward.end.get(name, math.nan) / forward.total
        if name == _HEAD_INPUT:
            yield PENULTIMATE, f"input of {head}", shape, 0, runs, 0.0, saved
            continue
        part = module.get_submodule(name)
        kind, time_ = type(part).__name__, forward.own.get(name, 0.0) / forward.total
        size = sum(parameter.numel() for parameter in part.parameters())
        shown = module_name(name) if name else ""
        if name == "" and _are_logits(shape, n_rows):
            shown = LOGITS
        yield shown, kind, shape, size, runs, time_, saved
        for entry, own in forward.entries.get(name, {}).items():
            yield f"{shown}{entry}", f"entry of {shown}", own, 0, runs, 0.0, saved
        for other in names[name][1:]:
            yield other, f"{kind}, the same as {name}", shape, size, runs, 0.0, saved


def _names(module: nn.Module) -> dict[str, list[str]]:
    """Return all names of each part of a network, by its first name."""
    names: dict[nn.Module, list[str]] = {}
    for name, part in [("", module), *named_layers(module).items()]:
        names.setdefault(part, []).append(name)
    return {group[0]: group for group in names.values()}


def _are_logits(shape: Shape | None, n_rows: int) -> bool:
    """Return whether a network's output has a vector a row."""
    if shape is None or not shape or shape[0] != n_rows:
        return False
    return len(shape) < 3 or math.prod(shape[1:]) == shape[1]
