"""A network made ready to serve: what is checked for safety is checked once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from skood._turn import turn
from skood.extraction.borrow import lent, observable_parts
from skood.extraction.forward import Part, Settings, passed
from skood.extraction.hooks import Probe, Recorder
from skood.extraction.inputs import Inputs
from skood.features import Key

__all__ = ["Serving", "Versions"]


class Versions:
    """The tensors and parts of a network, and how often torch counts them as written.

    It is looked at in microseconds. What is written past torch's counting, through
    ``parameter.data`` or NumPy, it does not see.
    """

    def __init__(self, module: nn.Module) -> None:
        self._held: list[tuple[dict[str, Any], int]] = []
        self._slots: list[tuple[dict[str, Any], str, Any, int]] = []
        for part in module.modules():
            for home in (part._parameters, part._buffers, part._modules):
                self._held.append((home, len(home)))
                pairs = home.items()
                self._slots += [(home, n, held, _version(held)) for n, held in pairs]

    def unchanged(self) -> bool:
        """Return whether everything is there, as it was."""
        return all(len(home) == length for home, length in self._held) and all(
            home.get(name) is held and _version(held) == version
            for home, name, held, version in self._slots
        )


def _version(held: Any) -> int:
    is_counted = isinstance(held, torch.Tensor) and not held.is_inference()
    return held._version if is_counted else 0


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
    """

    def __init__(
        self,
        module: nn.Module,
        keys: tuple[Key, ...],
        found: Probe,
        settings: Settings,
    ) -> None:
        self.module, self.settings, self.versions = module, settings, Versions(module)
        self._recorder = Recorder(keys, found)
        self._compiled = False
        self._device = torch.device("cpu")

    @contextmanager
    def open(self) -> Iterator[Serving]:
        """Keep the network ready as long as this lasts, and then give it back.

        No thread holds it meanwhile: any number of them may call :meth:`parts`.
        """
        with ExitStack() as stack:
            with turn:
                self._device = stack.enter_context(
                    lent(self.module, self.settings.device)
                )
                stack.enter_context(self._recorder.attached(self.module))
                self.versions = Versions(self.module)
            try:
                yield self
            finally:
                turn.acquire()
                stack.callback(turn.release)

    def parts(self, inputs: Inputs) -> Iterator[Part]:
        """Yield the blocks of consecutive rows; see :func:`skood.extraction.extract`."""
        with turn, observable_parts(self.module):
            yield from passed(
                self.module, inputs, self._recorder, self.settings, self._device
            )
