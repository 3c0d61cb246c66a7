"""Weights of a torch module: taken out, and put back into a module of the same kind."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from skood.persistence.callers_network import CallersNetwork
from skood.persistence.errors import LoadError
from skood.store.identity.weights import values_digest, weights_digest

__all__ = ["described", "network_like", "tensors_of"]


def described(module: nn.Module, where: str) -> dict[str, Any]:
    """Return what is said of a network: its class and digests.

    Raises
    ------
    TypeError
        If its weights cannot be read.
    """
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    try:
        digest, beside = weights_digest(module, fresh=True), _buffers_digest(module)
    except (NotImplementedError, RuntimeError, ValueError) as error:
        raise TypeError(
            f"{where} is a {kind}, whose weights cannot be read: {error}"
        ) from error
    return {"class": kind, "digest": digest, "buffers": beside}


def tensors_of(
    module: nn.Module, where: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a network by name, and the names that share another's.

    Raises
    ------
    TypeError
        If one is no dense tensor of a type that safetensors has.
    """
    state = module.state_dict()
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[Any, str] = {}
    for name, value in {**state, **_buffers_beside(module, state)}.items():
        tensor = _dense(value, f"{where}: {name!r}")
        # Tied weights are one tensor under several names.
        same = (value.data_ptr(), value.dtype, value.shape, value.stride())
        if value.numel() and first.setdefault(same, name) != name:
            aliases[name] = first[same]
        else:
            kept[name] = tensor
    return kept, aliases


def _dense(value: Any, where: str) -> Tensor:
    dense = isinstance(value, Tensor) and value.layout == torch.strided
    known = dense and not value.is_quantized and value.dtype != torch.complex128
    if not known or value.is_meta:
        raise TypeError(
            f"{where} is a {type(value).__name__} that safetensors does not hold: save "
            "without weights (weights=False), or use joblib.dump."
        )
    value = value.detach().cpu().contiguous()
    whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
    return value if whole else value.clone()  # the library takes no part of a tensor


def _buffers_beside(module: nn.Module, state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the buffers that are not in a module's ``state_dict``."""
    return {n: value for n, value in module.named_buffers() if n not in state}


def _buffers_digest(module: nn.Module) -> str:
    return values_digest(_buffers_beside(module, module.state_dict()))


def network_like(
    given: CallersNetwork, about: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Any:
    """Return the caller's network with the weights that were saved.

    Parameters
    ----------
    given : CallersNetwork
        It is returned itself when its weights are the ones that were saved, or it was
        made for this; otherwise a copy gets them.
    about : mapping
        What the folder says of the network.
    tensors : mapping of str to Tensor
        By name, if they were saved.

    Raises
    ------
    LoadError
        If it is not of the same kind, or, where no weights were saved, has others.
    """
    module, digest = given.module, about["digest"]
    unknown = digest is None and not about["weights"]
    if unknown or _is_the_saved(module, about):
        return given.network
    if not about["weights"]:
        raise LoadError(
            "network: its weights, or its buffers that no state_dict has, are not "
            "those of the network that the estimator was saved with (digest "
            f"{digest}), and the folder holds no weights: give that network."
        )
    own = module if given.made else _copied(module)
    _fill(own, tensors, about["aliases"])
    if not _is_the_saved(own, about):
        raise LoadError(
            f"network: the weights that were saved do not stay as they are in this "
            f"{type(own).__name__}: it has other types, or its code changes "
            "them when they are loaded."
        )
    return own


def _copied(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module)
    except Exception as error:
        raise LoadError(
            f"network: the {type(module).__name__} has other weights than those saved "
            f"and cannot be copied ({error}): give a function that makes it."
        ) from error


def _is_the_saved(module: nn.Module, about: Mapping[str, Any]) -> bool:
    # Fresh, since writing through parameter.data is not counted as a change.
    return weights_digest(module, fresh=True) == about["digest"] and (
        about["buffers"] in (None, _buffers_digest(module))
    )


def _fill(
    module: nn.Module, tensors: Mapping[str, Tensor], aliases: Mapping[str, str]
) -> None:
    try:
        named = {**tensors, **{name: tensors[of] for name, of in aliases.items()}}
        beside = _buffers_beside(module, module.state_dict())
        module.load_state_dict({n: t for n, t in named.items() if n not in beside})
        with torch.no_grad():
            for name, own in beside.items():
                own.copy_(named[name])
    except (KeyError, RuntimeError) as error:
        raise LoadError(
            f"network: this {type(module).__name__} is not of the kind that was saved: "
            f"{error}"
        ) from error
