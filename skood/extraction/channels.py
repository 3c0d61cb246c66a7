"""Where the channels of a layer's output are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Before", "Reading", "channel_width", "reading"]

_SPATIAL = {
    f"torch.nn.modules.{kind}"
    for kind in ("conv", "pooling", "batchnorm", "instancenorm")
}
_WIDTHS = (
    "out_channels",
    "num_features",
    "num_channels",
    "out_features",
    "embedding_dim",
    "embed_dim",
)


def is_spatial(module: nn.Module) -> bool:
    """Return whether a torch module by definition has its channels first."""
    homes = {cls.__module__ for cls in type(module).__mro__}
    return bool(homes & _SPATIAL) or isinstance(module, nn.GroupNorm)


_BY_LAST_AXIS = (nn.Linear, nn.LayerNorm, nn.Embedding)


def is_by_last_axis(module: nn.Module) -> bool:
    """Return whether a torch module by definition has its channels last.

    Subclasses with a forward of their own may well move the axes.
    """
    if len(getattr(module, "normalized_shape", (1,))) > 1:
        return False
    return any(type(module).forward is kind.forward for kind in _BY_LAST_AXIS)


def channel_width(module: nn.Module) -> int | None:
    """Return how many channels a torch layer puts out, None where it does not say."""
    if isinstance(module, nn.RNNBase):
        return (module.proj_size or module.hidden_size) * (1 + module.bidirectional)
    shape = getattr(module, "normalized_shape", None)
    if shape is not None:
        return int(shape[-1])
    widths = (getattr(module, name, None) for name in _WIDTHS)
    return next((width for width in widths if isinstance(width, int)), None)


@dataclass(frozen=True)
class Before:
    """What a layer with a known number of channels put out on the way to another one.

    Parameters
    ----------
    width : int
        Its number of channels.
    channels_last : bool
        Where they are.
    output : Tensor
        What it put out.
    """

    width: int
    channels_last: bool
    output: Tensor

    @classmethod
    def of(
        cls, module: nn.Module, output: Tensor | None, before: Before | None = None
    ) -> Before | None:
        """Return what a module's output tells, None where it tells nothing.

        Parameters
        ----------
        module : nn.Module
            The module.
        output : Tensor, optional
            What it put out.
        before : Before, optional
            What came before it.
        """
        width = channel_width(module)
        if output is None or output.ndim < 2:
            return None
        if width is None and is_spatial(module) and output.ndim > 2:
            width = output.shape[1]  # pooling
        if width is None:
            return None
        first, last = output.shape[1] == width, output.shape[-1] == width
        if is_spatial(module) or is_by_last_axis(module) or output.ndim == 2:
            place = not is_spatial(module)
        elif first != last:
            place = last
        else:
            place = reading(module, output, before).channels_last
        return cls(width, place, output)


@dataclass(frozen=True)
class Reading:
    """Where the channels of an output are.

    Parameters
    ----------
    channels_last : bool
        Whether they are the last axis.
    is_guess : bool
        Whether nothing but the number of axes says so.
    """

    channels_last: bool
    is_guess: bool = False


def reading(module: nn.Module, output: Tensor, before: Before | None) -> Reading:
    """Return where the channels of an output with three axes or more are.

    Parameters
    ----------
    module : nn.Module
        The module that put it out.
    output : Tensor
        What it put out.
    before : Before, optional
        Of the last layer with a known number of channels that ran up to here, best
        one whose output had as many axes.

    Returns
    -------
    Reading
        By the module's kind; else by the sides of the map that came before, which
        concatenated channels keep, and by the number of channels. Where both readings
        have that shape, by the values: an output is like what it was made from, axis
        by axis. A guess has the layout of what came before; without anything before,
        tokens have their channels last and maps first.
    """
    if is_spatial(module) or is_by_last_axis(module):
        return Reading(not is_spatial(module))
    is_sequence = output.ndim == 3
    if before is None:
        return Reading(is_sequence)
    compared = _compared(output, before)
    if compared is not None:
        return Reading(compared)
    first, last = (output.shape[axis] == before.width for axis in (1, -1))
    if not (before.channels_last or is_sequence):
        return Reading(False, is_guess=last)
    if first != last:
        return Reading(last)
    alike = is_sequence or output.ndim == before.output.ndim
    return Reading(alike and before.channels_last, is_guess=True)


def _compared(output: Tensor, before: Before) -> bool | None:
    """Return whether the channels are last, None if what came before does not tell."""
    if output.ndim != before.output.ndim:
        return None
    by_sides = _by_sides(output, before)
    return _by_values(output, before) if by_sides is None else by_sides


def _by_sides(output: Tensor, before: Before) -> bool | None:
    """Return the one reading in which the sides are those of the map before, if any."""
    shape, given = output.shape, before.output.shape
    sides = given[1:-1] if before.channels_last else given[2:]
    first, last = shape[2:] == sides, shape[1:-1] == sides
    return last if first != last else None


def _by_values(output: Tensor, before: Before) -> bool | None:
    """Return the reading in which an output is far more like what came before."""
    given = before.output
    turned = given.movedim(-1, 1) if before.channels_last else given.movedim(1, -1)
    if not output.shape == given.shape == turned.shape:
        return None
    same, other = _likeness(output, given), _likeness(output, turned)
    if max(same, other) < 0.1 or max(same, other) < 2 * min(same, other):
        return None
    return (same > other) == before.channels_last


def _likeness(a: Tensor, b: Tensor) -> float:
    pair = torch.stack([part.detach().double().flatten() for part in (a, b)])
    pair = pair - pair.mean(dim=1, keepdim=True)
    norms = pair.norm(dim=1).prod()
    return float((pair[0] @ pair[1]).abs() / norms) if norms > 0 else 0.0
