"""The contrastive loss on the energies of layers, and its margins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skood.extraction.entries import first_tensor
from skood.extraction.hooks import PENULTIMATE, head_input, hooked, not_called
from skood.extraction.layout import FeatureMap
from skood.extraction.network import named_layers
from skood.extraction.statistics import lse
from skood.features import LOGITS

__all__ = ["EnergyRecorder", "RunningMargins", "contrastive_energy_loss"]

LEAST_SCALE = 1e-6


def contrastive_energy_loss(
    inside: Tensor, outside: Tensor, m_in: float, m_out: float
) -> Tensor:
    r"""Return the squared hinge loss that parts the energies of two sets.

    .. math:: \overline{\max(0, E(x_{in}) - m_{in})^2}
        + \overline{\max(0, m_{out} - E(x_{out}))^2}

    Parameters
    ----------
    inside : Tensor of shape (n,)
        Energies of in-distribution rows, which should be at most ``m_in``.
    outside : Tensor of shape (m,)
        Energies of outliers, which should be at least ``m_out``; of none, the term is
        zero.
    m_in, m_out : float
        The margins.

    Returns
    -------
    Tensor
        A number.

    References
    ----------
    Liu, Wang, Owens and Li, "Energy-based out-of-distribution detection", NeurIPS
    2020, for the logits.

    Examples
    --------
    >>> import torch
    >>> from skood.neural.energy_loss import contrastive_energy_loss
    >>> contrastive_energy_loss(torch.tensor([1.0]), torch.tensor([2.0]), 0.0, 5.0)
    tensor(10.)
    """
    loss = torch.relu(inside - m_in).square().mean()
    if len(outside):
        loss = loss + torch.relu(m_out - outside).square().mean()
    return loss


@dataclass
class RunningMargins:
    """Margins of each layer, from the running mean and spread of its energies.

    Energies contain the logarithm of the number of units and their scale differs from
    layer to layer, so that no margin fits all. Both are measured here in standard
    deviations from the mean of the in-distribution energies of late.

    Parameters
    ----------
    inside, outside : float
        The margins in standard deviations above the mean.
    momentum : float, default=0.1
        Weight of a new batch.

    means, variances : dict of str to float, optional
        Of each layer's energies so far.

    Examples
    --------
    >>> import torch
    >>> from skood.neural.energy_loss import RunningMargins
    >>> margins = RunningMargins(inside=1.0, outside=3.0)
    >>> margins.update("conv1", torch.tensor([-4.0, -6.0]))
    >>> margins.of("conv1")
    (-4.0, -2.0)
    """

    inside: float
    outside: float
    momentum: float = 0.1
    means: dict[str, float] = field(default_factory=dict)
    variances: dict[str, float] = field(default_factory=dict)

    def update(self, layer: str, energies: Tensor) -> None:
        """Take in a batch's in-distribution energies, shape (n,)."""
        energies = energies.detach().double()
        mean, variance = energies.mean().item(), energies.var(correction=0).item()
        share = self.momentum if layer in self.means else 1.0
        for running, new in ((self.means, mean), (self.variances, variance)):
            running[layer] = (1 - share) * running.get(layer, 0.0) + share * new

    def scale(self, layer: str) -> float:
        """Return the standard deviation of a layer's energies."""
        return max(float(np.sqrt(self.variances[layer])), LEAST_SCALE)

    def of(self, layer: str) -> tuple[float, float]:
        """Return the margins of a layer, as energies."""
        mean, scale = self.means[layer], self.scale(layer)
        return mean + self.inside * scale, mean + self.outside * scale

    def loss(self, layer: str, inside: Tensor, outside: Tensor) -> Tensor:
        """Return the layer's loss, with energies in standard deviations.

        So layers count alike, whatever their scale.
        """
        mean, scale = self.means[layer], self.scale(layer)
        return contrastive_energy_loss(
            (inside - mean) / scale, (outside - mean) / scale, self.inside, self.outside
        )


@dataclass
class EnergyRecorder:
    """Takes the energies of layers while a network runs, with their gradients.

    Parameters
    ----------
    layers : sequence of str
        Qualified names; ``"logits"`` is the network's output and ``"penultimate"`` the
        input of its head.
    head : str, optional
        The qualified name of the head.
    """

    layers: Sequence[str]
    head: str | None = None
    _found: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    def run(self, module: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the network's logits and each layer's energies, shape (n,).

        Raises
        ------
        ValueError
            If a layer did not run.
        """
        self._found = {}
        with self._attached(module):
            logits: Tensor = module(x)
        if LOGITS in self.layers:
            self._record(LOGITS, logits)
        # Not kept here: they hold on to the whole graph.
        found, self._found = self._found, {}
        for layer in self.layers:
            if layer not in found:
                raise ValueError(not_called(layer))
        return logits, {layer: found[layer] for layer in self.layers}

    @contextmanager
    def _attached(self, module: nn.Module) -> Iterator[None]:
        parts = named_layers(module)
        hooks: list[Any] = []
        for layer in self.layers:
            if layer == PENULTIMATE:
                head = module.get_submodule(str(self.head))
                register = partial(head.register_forward_pre_hook, with_kwargs=True)
                hooks.append((register, self._before_head))
            elif layer != LOGITS:
                hook = partial(self._after, layer)
                hooks.append((parts[layer].register_forward_hook, hook))
        with hooked(hooks) as own, own.running():
            yield

    def _before_head(self, _module: nn.Module, args: Any, kwargs: Any) -> None:
        given = head_input(args, kwargs)
        self._record(PENULTIMATE, None if given is None else given.tensor)

    def _after(self, layer: str, _module: nn.Module, _args: Any, output: Any) -> None:
        self._record(layer, first_tensor(output))

    def _record(self, layer: str, output: Tensor | None) -> None:
        if output is None:
            raise ValueError(f"layer {layer!r} puts out no tensor.")
        with torch.autocast(output.device.type, enabled=False):
            # A copy: the network may go on in place in what the gradient needs.
            maps = FeatureMap.of(layer, output.clone())
            self._found[layer] = -lse(maps)[:, 0]
