"""Where kernels run: NumPy on the CPU, torch on an accelerator."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import array_api_compat
import array_api_compat.numpy
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "array_namespace",
    "auto_device",
    "like",
    "on_device",
    "resolved_device",
    "to_numpy",
]


def array_namespace(array: Any) -> Any:
    """Return the functions for an array, of the array API standard.

    It is asked for with every block of rows: for NumPy's arrays it takes no time.
    """
    if type(array) is np.ndarray:
        return array_api_compat.numpy
    return array_api_compat.array_namespace(array)


_AUTO: ContextVar[str | None] = ContextVar("auto", default=None)


@contextmanager
def auto_device(device: str) -> Iterator[None]:
    """Make ``"auto"`` mean a device inside: that of the process one works for."""
    token = _AUTO.set(device)
    try:
        yield
    finally:
        _AUTO.reset(token)


def resolved_device(device: Any) -> str:
    """Return ``"cpu"`` or the name of a torch device.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"`` is CUDA when the program has imported torch and torch sees one,
        else the CPU; importing torch only to look would cost more than it brings.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the device is not there.
    """
    torch = sys.modules.get("torch")
    if device == "auto" and (known := _AUTO.get()) is not None:
        device = known
    if device == "auto":
        return "cuda" if torch is not None and torch.cuda.is_available() else "cpu"
    if str(device) == "cpu":
        return "cpu"
    import torch as torch_

    try:
        torch_.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device={device!r} is not available: {error}") from error
    return str(device)


def on_device(array: NDArray[Any], device: str) -> Any:
    """Return the array as it is on the CPU, or as a tensor of that device."""
    if device == "cpu":
        return array
    import torch

    # Torch takes no arrays that may not be written to, as memory maps are.
    array = np.require(array, requirements=["C", "W"])
    return torch.as_tensor(array, device=device)


def to_numpy(array: Any) -> NDArray[Any]:
    """Return an array of any device as a NumPy array."""
    return array if isinstance(array, np.ndarray) else array.detach().cpu().numpy()


def like(array: NDArray[Any], other: Any) -> Any:
    """Return a NumPy array in the type, library and device of another array."""
    if isinstance(other, np.ndarray):
        return np.asarray(array, dtype=other.dtype)
    return other.new_tensor(array)
