"""Masks of layers that put out fewer positions than went in."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

__all__ = ["MaskOf", "own_mask"]

MaskOf: TypeAlias = Callable[[Tensor, int], Tensor]
"""From an attention mask and a layer's number of positions to that layer's mask."""

_MASK = "_get_feature_vector_attention_mask"
_LENGTHS = "_get_feat_extract_output_lengths"
"""What the audio networks of transformers call their own methods for it."""


def own_mask(module: nn.Module) -> MaskOf | None:
    """Return the network's own function for the masks of its shorter layers, if any.

    Parameters
    ----------
    module : nn.Module
        A network of transformers whose convolutions shorten what goes in has one, by
        itself or in a part.
    """
    for part in module.modules():
        if callable(getattr(part, _MASK, None)):
            return partial(_by_method, part)
    return None


def _by_method(part: Any, mask: Tensor, length: int) -> Tensor:
    """Return the mask of a layer of some length, as far as the network tells it."""
    lengths = getattr(part, _LENGTHS, None)
    if lengths is None:
        return torch.as_tensor(getattr(part, _MASK)(length, mask))
    for options in ({}, {"add_adapter": False}, {"add_adapter": True}):
        try:
            whole = int(lengths(mask.shape[1], **options))
        except TypeError:  # of a network without adapters
            continue
        if whole == length:
            kept = lengths(mask.sum(dim=1), **options)
            return torch.arange(length, device=mask.device) < kept[:, None]
    return mask  # of another layer; whoever pools says what is wrong
