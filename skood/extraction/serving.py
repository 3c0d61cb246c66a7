"""A network made ready to serve: what is checked for safety is checked once."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from operator import is_
from typing import Any

import torch
from torch import nn

from skood._turn import turn
from skood.extraction.borrow import is_compiled, lent, observable_parts
from skood.extraction.forward import Part, Settings, passed
from skood.extraction.hooks import Probe, Recorder
from skood.extraction.inputs import Inputs
from skood.extraction.network import floating_dtype
from skood.extraction.samples import Takes, takes_of
from skood.features import Key
from skood.store.identity.source import Source

__all__ = ["Serving", "Versions"]


class Versions:
    """The tensors and parts of a network, and how often torch counts them as written.

    It is looked at in microseconds. What is written past torch's counting, through
    ``parameter.data`` or NumPy, it does not see.
    """

    def __init__(self, module: nn.Module) -> None:
        self._homes = [
            home
            for part in module.modules()
            for home in (part._parameters, part._buffers, part._modules)
        ]
        self._held = self._now()
        self._counted = [
            held
            for held in self._held
            if isinstance(held, torch.Tensor) and not held.is_inference()
        ]
        self._versions = [tensor._version for tensor in self._counted]

    def _now(self) -> list[Any]:
        return [held for home in self._homes for held in home.values()]

    def unchanged(self) -> bool:
        """Return whether everything is there, as it was."""
        now = self._now()
        same = len(now) == len(self._held) and all(map(is_, now, self._held))
        return same and [tensor._version for tensor in self._counted] == self._versions


class Serving:
    """A network in evaluation mode, where it runs, with its hooks in place.

    Parameters
    ----------
    module : nn.Module
        The network.
    keys : tuple of (layer, statistic)
        The wanted blocks.
    found : Probe
        Made with these layers.
    settings : Settings
        How to run it.

    Attributes
    ----------
    versions : Versions
        Of the weights that are known to be those of ``fit``.
    sources : dict
        Where its features come from, once that has been looked at.
    takes : tuple of int, optional
        How many inputs it takes by position.
    """

    def __init__(
        self,
        module: nn.Module,
        keys: tuple[Key, ...],
        found: Probe,
        settings: Settings,
    ) -> None:
        self.module, self.settings, self.versions = module, settings, Versions(module)
        self.sources: dict[Any, Source] = {}
        self.takes: Takes = takes_of(module)
        self._recorder = Recorder(keys, found)
        self._compiled = is_compiled(module)
        self._where: tuple[torch.device, torch.dtype | None] | None = None

    @contextmanager
    def open(self) -> Iterator[Serving]:
        """Keep the network ready as long as this lasts, and then give it back.

        No thread holds it meanwhile: any number of them may call :meth:`parts`.
        """
        with ExitStack() as stack:
            with turn:
                device = stack.enter_context(lent(self.module, self.settings.device))
                self._where = device, floating_dtype(self.module)
                stack.enter_context(self._recorder.attached(self.module))
                self.versions = Versions(self.module)
            try:
                yield self
            finally:
                turn.acquire()
                stack.callback(turn.release)

    def parts(self, inputs: Inputs) -> Generator[Part, None, None]:
        """Yield the blocks of consecutive rows, as an extraction does."""
        assert self._where is not None
        made = (self.module, inputs, self._recorder, self.settings, self._where)
        with turn, observable_parts(self._compiled):
            yield from passed(*made)
