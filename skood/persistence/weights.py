"""Weights of a torch module: to bytes, and back into a module of the same kind."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor as TorchTensor
from torch import nn

from skood.persistence.errors import LoadError
from skood.persistence.given import Given
from skood.persistence.tensors import Tensor
from skood.store.identity.weights import values_digest, weights_digest

__all__ = ["buffers_beside", "buffers_digest", "network_like", "tensor_of"]

LABELS = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.uint16: "U16",
    torch.uint32: "U32",
    torch.uint64: "U64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}
DTYPES = {label: dtype for dtype, label in LABELS.items()}

LISTED = 8
"""So many differences are named in a message."""


def tensor_of(value: Any, where: str) -> Tensor:
    """Return the bytes of a tensor, on the CPU.

    Raises
    ------
    TypeError
        If it is no dense tensor of a type that the layout knows.
    """
    dense = isinstance(value, TorchTensor) and value.layout == torch.strided
    if not dense or value.dtype not in LABELS or value.is_meta:
        raise TypeError(
            f"{where} is a {type(value).__name__} that safetensors does not hold: save "
            "without weights (weights=False), or use joblib.dump."
        )
    flat = value.detach().cpu().contiguous().reshape(-1)
    data = flat.view(torch.uint8).numpy() if len(flat) else np.empty(0, np.uint8)
    return Tensor(LABELS[value.dtype], tuple(value.shape), data)


def buffers_beside(
    module: nn.Module, state: Mapping[str, Any]
) -> dict[str, TorchTensor]:
    """Return the buffers that are not in a module's ``state_dict``."""
    return {n: value for n, value in module.named_buffers() if n not in state}


def buffers_digest(module: nn.Module) -> str:
    """Return a digest of the buffers that are not in a module's ``state_dict``."""
    return values_digest(buffers_beside(module, module.state_dict()))


def network_like(
    given: Given, about: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Any:
    """Return the caller's network with the weights that were saved.

    Parameters
    ----------
    given : Given
        It is returned itself when its weights are the ones that were saved, or it was
        made for this; otherwise a copy gets them.
    about : mapping
        What the folder says of the network.
    tensors : mapping of str to Tensor
        ``weights/...`` and ``buffers/...``, if they were saved.

    Raises
    ------
    LoadError
        If it is not of the same kind, or, where no weights were saved, has others.
    """
    module, digest = given.module, about["digest"]
    weights = {n[8:]: t for n, t in tensors.items() if n.startswith("weights/")}
    buffers = {n[8:]: t for n, t in tensors.items() if n.startswith("buffers/")}
    if about["weights"]:
        aliases = about["aliases"].items()
        if not set(about["aliases"].values()) <= set(weights):
            raise LoadError("network: weights are tied to others that there are not.")
        weights.update({name: weights[of] for name, of in aliases})
        _check_like(module, weights, buffers)
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
    _fill(own, weights, buffers)
    if not _is_the_saved(own, about):
        raise LoadError(
            f"network: the weights that were saved do not stay as they are in this "
            f"{type(own).__name__}; its code changes them when they are loaded."
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


def _check_like(
    module: nn.Module, weights: Mapping[str, Tensor], buffers: Mapping[str, Tensor]
) -> None:
    state = module.state_dict()
    own = {name: _form(value) for name, value in state.items()}
    own |= {n: _form(value) for n, value in buffers_beside(module, state).items()}
    saved = {n: _saved_form(tensor) for n, tensor in {**weights, **buffers}.items()}
    differences = [
        *(f"{name} is missing" for name in saved if name not in own),
        *(f"{name} is not among those saved" for name in own if name not in saved),
        *(
            f"{name} is {own[name]}, saved was {form}"
            for name, form in saved.items()
            if own.get(name, form) != form
        ),
    ]
    if differences:
        more = len(differences) - LISTED
        listed = "; ".join(differences[:LISTED]) + (f"; {more} more" * (more > 0))
        raise LoadError(
            f"network: this {type(module).__name__} is not of the kind that was saved: "
            f"{listed}."
        )


def _form(value: Any) -> str:
    if not isinstance(value, TorchTensor):
        return f"a {type(value).__name__}"
    return f"{str(value.dtype)[6:]} {tuple(value.shape)}"


def _saved_form(tensor: Tensor) -> str:
    return f"{str(DTYPES[tensor.label])[6:]} {tensor.shape}"


def _loaded(tensor: Tensor) -> TorchTensor:
    dtype = DTYPES[tensor.label]
    if not len(tensor.data):
        return torch.empty(tensor.shape, dtype=dtype)
    # A copy, since torch wants memory that may be written.
    return torch.from_numpy(np.array(tensor.data)).view(dtype).reshape(tensor.shape)


def _is_the_saved(module: nn.Module, about: Mapping[str, Any]) -> bool:
    # Fresh, since writing through parameter.data is not counted as a change.
    return weights_digest(module, fresh=True) == about["digest"] and (
        about["buffers"] in (None, buffers_digest(module))
    )


def _fill(
    module: nn.Module, weights: Mapping[str, Tensor], buffers: Mapping[str, Tensor]
) -> None:
    own = dict(module.named_buffers())
    state = {name: _loaded(tensor) for name, tensor in weights.items()}
    with torch.no_grad():
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise LoadError(
                f"network: it does not take the weights: {error}"
            ) from error
        for name, tensor in buffers.items():
            own[name].copy_(_loaded(tensor))
