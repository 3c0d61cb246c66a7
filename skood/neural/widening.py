"""A network's first layer, made to take an anchor and a residual beside it."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from skood.extraction.network import named_layers

__all__ = ["widen_first_layer"]

Widenable: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
_KINDS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def widen_first_layer(
    network: nn.Module, residual_weights: str = "copy", first_layer: str | None = None
) -> str:
    """Make a network's first layer take [anchor, residual], in place.

    With the original weights W, an anchor c and a residual x - c:

    ``"copy"``
        W for both: W c + W (x - c) = W x, so the widened network says of x what the
        original did, whatever the anchor.
    ``"zero"``
        W for the anchor and zeros for the residual: it says what the original did of
        the anchor.
    ``"fresh"``
        New random weights for both.

    Parameters
    ----------
    network : nn.Module
        Its layer's weight is replaced; the rest is left as it is.
    residual_weights : {"copy", "zero", "fresh"}, default="copy"
        What becomes of the weights.
    first_layer : str, optional
        The layer's qualified name; by default the first convolution or linear layer
        in the order of definition.

    Returns
    -------
    str
        The name of the layer, empty when it is the network itself.

    Raises
    ------
    ValueError
        If there is no such layer, or it cannot be widened.

    Examples
    --------
    >>> from torch import nn
    >>> from skood.neural.widening import widen_first_layer
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    >>> widen_first_layer(net)
    '0'
    >>> net[0]
    Conv2d(6, 8, kernel_size=(3, 3), stride=(1, 1))
    """
    name = _first_name(network) if first_layer is None else first_layer
    layer = _found(network, name)
    old = layer.weight
    if residual_weights == "fresh":
        shape = (old.shape[0], 2 * old.shape[1], *old.shape[2:])
        _set_weight(layer, torch.empty(shape, dtype=old.dtype, device=old.device))
        layer.reset_parameters()
    else:
        kept = old.detach()
        other = kept if residual_weights == "copy" else torch.zeros_like(kept)
        _set_weight(layer, torch.cat([kept, other], dim=1))
    return name


def _set_weight(layer: nn.Module, weight: Tensor) -> None:
    old = layer.weight
    assert isinstance(old, Tensor)
    layer.weight = nn.Parameter(weight, requires_grad=old.requires_grad)
    width = "in_features" if isinstance(layer, nn.Linear) else "in_channels"
    setattr(layer, width, weight.shape[1])


def _first_name(network: nn.Module) -> str:
    for name, part in network.named_modules():
        if isinstance(part, _KINDS):
            return name
    raise ValueError(
        f"the module, a {type(network).__name__}, has no convolution or linear layer "
        "to widen for anchors."
    )


def _found(network: nn.Module, name: str) -> Widenable:
    layers = {"": network, **named_layers(network)}
    if name not in layers:
        near = get_close_matches(name, layers, n=3)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(
            f"first_layer={name!r} is no layer of the module.{hint} "
            "skood.layer_names(module) lists all names."
        )
    layer = layers[name]
    if not isinstance(layer, _KINDS):
        raise ValueError(
            f"the layer {name!r} is a {type(layer).__name__}: only a convolution or a "
            "linear layer can be widened for anchors. Name it by first_layer=..."
        )
    why = _obstacle(layer)
    if why:
        raise ValueError(f"the layer {name!r} {why}: it cannot be widened for anchors.")
    return layer


def _obstacle(layer: nn.Module) -> str:
    if getattr(layer, "groups", 1) != 1:
        return f"has groups={layer.groups}"
    weight = layer._parameters.get("weight")
    if weight is None:
        return "computes its weight from other parameters"
    if isinstance(weight, UninitializedParameter):
        return "is lazy and has no weight yet"
    return ""
