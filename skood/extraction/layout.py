"""From what a layer puts out to channels x positions, whatever the architecture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["FeatureMap", "Mask"]


@dataclass(frozen=True)
class FeatureMap:
    """A layer's output for one batch.

    Parameters
    ----------
    layer : str
        The layer's name, for messages.
    values : Tensor of shape (n, channels, positions)
        At least float32. A plain vector has one position.
    mask : Tensor of bool of shape (n, positions), optional
        The positions that count; None when all do.
    channels_last : bool
        Whether the layer itself puts its channels last.
    is_sequence : bool
        Whether the layer puts out tokens, (n, tokens, channels).
    """

    layer: str
    values: Tensor
    mask: Tensor | None = None
    channels_last: bool = False
    is_sequence: bool = False

    @classmethod
    def of(
        cls,
        layer: str,
        output: Tensor,
        channels_last: bool = False,
        mask: Mask | Tensor | None = None,
    ) -> FeatureMap:
        """Return the map of a module's output.

        Parameters
        ----------
        layer : str
            The layer's name.
        output : Tensor of shape (n,), (n, d), (n, d, ...) or (n, ..., d)
            What the module put out.
        channels_last : bool, default=False
            Whether the channels are the last axis; of no account for vectors.
        mask : Mask or Tensor of shape (n, tokens), optional
            What counts of the tokens; only outputs of three axes are pooled under it.

        Returns
        -------
        FeatureMap

        Raises
        ------
        ValueError
            If the mask does not describe the layer's tokens.
        """
        output = _real(output, channels_last)
        if output.ndim < 3:
            return cls(layer, output.reshape(output.shape[0], -1, 1))
        values = (output.movedim(-1, 1) if channels_last else output).flatten(2)
        if output.ndim > 3:
            return cls(layer, values, None, channels_last)
        if isinstance(mask, Tensor):
            mask = Mask(mask)
        kept = None if mask is None else mask.of(layer, values)
        return cls(layer, values, kept, channels_last, is_sequence=channels_last)

    def kept(self, fill: float) -> Tensor:
        """Return the values with ``fill`` at the positions that do not count."""
        if self.mask is None:
            return self.values
        return self.values.masked_fill(~self.mask[:, None, :], fill)


def _real(output: Tensor, channels_last: bool) -> Tensor:
    """Return an output as floating numbers: of complex ones both parts, as channels."""
    if output.is_complex():
        axis = -1 if channels_last or output.ndim < 3 else 1
        parts = output if output.ndim > 1 else output[:, None]
        output = torch.cat([parts.real, parts.imag], dim=axis)
    if not output.is_floating_point() or output.element_size() < 4:
        return output.float()
    return output


@dataclass(frozen=True)
class Mask:
    """Which tokens of a batch count, whatever a layer has made of their number.

    Parameters
    ----------
    given : Tensor of shape (n, tokens)
        The attention mask.
    shorten : callable, optional
        ``shorten(given, length)`` returns the mask of a layer with another number of
        positions.
    """

    given: Tensor
    shorten: Callable[[Tensor, int], Tensor] | None = None

    def of(self, layer: str, values: Tensor) -> Tensor:
        """Return the mask of a layer's positions, (n, positions).

        Parameters
        ----------
        layer : str
            The layer's name, for messages.
        values : Tensor of shape (n, channels, positions)
            What it put out.

        Raises
        ------
        ValueError
            If the mask does not describe them, or leaves a row without any.
        """
        expected, mask = (values.shape[0], values.shape[2]), self.given
        if tuple(mask.shape) != expected and self.shorten is not None:
            mask = torch.as_tensor(self.shorten(mask, expected[1]))
        if tuple(mask.shape) != expected:
            raise ValueError(
                f"layer {layer!r} has {expected[1]} positions a row, but "
                f"attention_mask has shape {tuple(mask.shape)}: it can be pooled only "
                "under a mask of its own tokens. Give mask=..., a function of the "
                "attention mask and a layer's number of positions that returns that "
                "layer's mask; or name another layer; or give as network the part "
                "whose tokens the mask describes."
            )
        mask = mask.to(device=values.device, dtype=torch.bool)
        if torch.compiler.is_compiling():  # values cannot be looked at
            return mask
        if self.shorten is not None and not bool(mask.any(dim=1).all()):
            raise ValueError(
                f"the mask of layer {layer!r} keeps none of its {expected[1]} "
                "positions in some rows: there is nothing to pool. Their inputs are "
                "too short for it."
            )
        return mask
