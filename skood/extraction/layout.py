"""From what a layer puts out to channels x positions, whatever the architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "NETWORK_ENTRIES",
    "FeatureMap",
    "channel_width",
    "first_tensor",
    "is_channels_last",
    "is_guess",
]

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

LAYER_ENTRIES = (
    "sentence_embedding",
    "last_hidden_state",
    "logits",
    "token_embeddings",
)
"""What stands for the output of a layer that puts out a mapping, best first."""

NETWORK_ENTRIES = ("logits", "sentence_embedding", "last_hidden_state")
"""The same for a whole network."""


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
        mask: Tensor | None = None,
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
        mask : Tensor of shape (n, tokens), optional
            The attention mask; only outputs of three axes are pooled under it.

        Returns
        -------
        FeatureMap

        Raises
        ------
        ValueError
            If the mask does not describe the layer's tokens.
        """
        if not output.is_floating_point() or output.element_size() < 4:
            output = output.float()
        if output.ndim < 3:
            return cls(layer, output.reshape(len(output), -1, 1))
        values = (output.movedim(-1, 1) if channels_last else output).flatten(2)
        if output.ndim > 3:
            return cls(layer, values, None, channels_last)
        kept = _checked_mask(layer, values, mask)
        return cls(layer, values, kept, channels_last, is_sequence=channels_last)

    def kept(self, fill: float) -> Tensor:
        """Return the values with ``fill`` at the positions that do not count."""
        if self.mask is None:
            return self.values
        return self.values.masked_fill(~self.mask[:, None, :], fill)


def _checked_mask(layer: str, values: Tensor, mask: Tensor | None) -> Tensor | None:
    if mask is None:
        return None
    expected = (values.shape[0], values.shape[2])
    if tuple(mask.shape) != expected:
        raise ValueError(
            f"layer {layer!r} has {expected[1]} positions a row, but attention_mask "
            f"has shape {tuple(mask.shape)}: it can be pooled only under a mask of "
            "its own tokens. Name another layer, or give as network the part whose "
            "tokens the mask describes."
        )
    return mask.to(device=values.device, dtype=torch.bool)


def first_tensor(
    output: Any, preferred: Sequence[str] = LAYER_ENTRIES
) -> Tensor | None:
    """Return the tensor that stands for a module's output.

    Parameters
    ----------
    output : Tensor, tuple, list or mapping
        What a module returned.
    preferred : sequence of str
        The entries of a mapping to look at before the others.

    Returns
    -------
    Tensor or None
        The tensor itself, else the first one found inside; None when there is none.
        In a mapping without a preferred entry, integers (ids, masks) and single
        numbers (a loss) come after all others.

    Examples
    --------
    >>> import torch
    >>> from skood.extraction.layout import first_tensor
    >>> first_tensor((None, [torch.ones(2)], torch.zeros(2)))
    tensor([1., 1.])
    >>> first_tensor({"loss": torch.zeros(()), "logits": torch.ones(2)})
    tensor([1., 1.])
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        chosen = [output[key] for key in preferred if key in output]
        output = [*chosen, *sorted(output.values(), key=_is_beside)]
    if isinstance(output, (tuple, list)):
        found = (first_tensor(part, preferred) for part in output)
        return next((tensor for tensor in found if tensor is not None), None)
    return None


def _is_beside(value: Any) -> bool:
    """Return whether a mapping's entry is no features: a loss, ids or a mask."""
    if not isinstance(value, Tensor):
        return False
    return value.ndim == 0 or not value.is_floating_point()


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


def is_channels_last(
    module: nn.Module, shape: Sequence[int], before: tuple[int, bool] | None
) -> bool:
    """Return whether an output has its channels on the last axis.

    Parameters
    ----------
    module : nn.Module
        The module that put it out.
    shape : sequence of int
        The output's shape, with three axes or more.
    before : tuple of (int, bool), optional
        Of the last layer with a known number of channels that ran up to here: that
        number, and whether the layer is of the channels-first kind.

    Returns
    -------
    bool
        What only one reading of the shape allows; where both are possible,
        a sequence after a layer of the token kind is channels last, and everything
        else channels first.
    """
    if is_spatial(module) or is_by_last_axis(module):
        return not is_spatial(module)
    width, spatial = before or (None, False)
    if spatial and len(shape) > 3:
        return False
    first, last = shape[1] == width, shape[-1] == width
    if first != last:
        return last
    return len(shape) == 3 and not spatial


def is_guess(
    module: nn.Module, shape: Sequence[int], before: tuple[int, bool] | None
) -> bool:
    """Return whether other sizes of the input could make the reading another one.

    Parameters
    ----------
    module, shape, before
        As for :func:`is_channels_last`.

    Returns
    -------
    bool
        Whether neither the module's kind nor the known number of channels settles it:
        both axes, or none, have that length.
    """
    if len(shape) < 3 or is_spatial(module) or is_by_last_axis(module):
        return False
    if before is None or (before[1] and len(shape) > 3):
        return False
    return (shape[1] == before[0]) == (shape[-1] == before[0])
