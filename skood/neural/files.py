"""What a trained net is in a file: its parameters, and its weights as arrays."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skood._state import InPickle
from skood.extraction.network import on_cpu
from skood.numerics.device import resolved_device

__all__ = ["as_arrays", "as_tensors", "device_here", "put_weights", "state_of"]

_MADE = ("module", "criterion", "optimizer")
"""What skorch makes of the parameters, and what has weights or moments of its own."""

_PLAIN = (str, int, float, bool, type(None))
_WITHOUT_MODULE = (
    "give the module as a class, or as a function that returns it, with module__... "
    "parameters."
)


def state_of(net: Any, kept: Iterable[str]) -> dict[str, Any]:
    """Return a net as a file holds it.

    Parameters
    ----------
    net : TrainedClassifier
        Fitted or not.
    kept : iterable of str
        Attributes that are kept as they are.

    Returns
    -------
    dict
        ``"params"``, the constructor's; ``"kept"``; and, once there is a module,
        ``"weights"``, its arrays and those of criterion and optimizer, and
        ``"epochs"``, the history without its batches.
    """
    own = net.__dict__
    state: dict[str, Any] = {
        "params": _stored_parameters(net),
        "kept": {name: own[name] for name in kept if name in own},
    }
    if "module_" in own:
        made = [name for name in _MADE if f"{name}_" in own]
        state["weights"] = {n: as_arrays(own[f"{n}_"].state_dict()) for n in made}
        state["epochs"] = [{**epoch, "batches": []} for epoch in net.history_]
    return state


def put_weights(net: Any, state: dict[str, Any]) -> None:
    """Give a net that is initialised the weights and the epochs of its state."""
    for name, weights in state["weights"].items():
        getattr(net, f"{name}_").load_state_dict(as_tensors(weights))
    net.history_.extend(state["epochs"])


def _stored_parameters(net: Any) -> dict[str, Any]:
    # Classes and objects that are the defaults stay out: nothing to trust in them.
    default = type(net)(None).get_params(deep=False)
    return {
        name: _in_file(value)
        for name, value in net.get_params(deep=False).items()
        if not name.startswith("_")
        and (isinstance(value, _PLAIN) or not _same(value, default.get(name)))
    }


def as_arrays(value: Any) -> Any:
    """Return what a ``state_dict`` holds with arrays for tensors, in plain dicts.

    Parameters
    ----------
    value : Tensor, dict, list or tuple of such, or anything else
        bfloat16, which NumPy lacks, becomes float32.

    Returns
    -------
    ndarray, dict, list, tuple or what was given
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return _mapped(as_arrays, value)


def as_tensors(value: Any) -> Any:
    """Return what :func:`as_arrays` was given, in tensors of their own memory."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value))
    return _mapped(as_tensors, value)


def device_here(device: Any) -> Any:
    """Return a file's device, or the CPU with a warning where it is not there."""
    if device is None or device == "auto":
        return device
    try:
        resolved_device(device)
    except ValueError:
        warnings.warn(
            f"device={device!r} of the file is not available: the network is on the "
            "CPU now, and so is device.",
            UserWarning,
            stacklevel=4,
        )
        return "cpu"
    return device


def _mapped(change: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: change(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(change(item) for item in value)
    return value


def _same(value: Any, default: Any) -> bool:
    """Return whether a parameter is its default, or a clone's copy of it."""
    if value is default or type(value) is not type(default):
        return value is default
    return hasattr(value, "__dict__") and vars(value) == vars(default)


def _in_file(value: Any) -> Any:
    if isinstance(value, nn.Module):
        return InPickle(on_cpu(value), _WITHOUT_MODULE)
    if isinstance(value, Tensor):
        return InPickle(value.detach().cpu(), "give no tensors as parameters.")
    return value
