"""A module as a graph of ONNX, and a graph of ONNX as something that runs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, export

from skood.export.inputs import Called
from skood.export.module import OUTPUTS, DetectorModule

__all__ = [
    "KEY",
    "ByPosition",
    "check_installed",
    "input_names",
    "onnx_model",
    "session_of",
]

KEY = "skood.certificate"
"""The name in a model's metadata under which its certificate stands."""

NEEDED = ("onnx", "onnxscript", "onnxruntime")


def check_installed(*packages: str) -> None:
    """Raise ImportError if what files of ONNX need is missing."""
    missing = [name for name in packages or NEEDED if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"files of ONNX need {', '.join(missing)}: pip install 'skood[export]'. "
            "to_module needs torch alone."
        )


class ByPosition(nn.Module):
    """A module whose named inputs come last, in order: graphs have no names for them.

    Parameters
    ----------
    module : nn.Module
        What is called.
    names : list of str
        Of the last inputs.
    """

    def __init__(self, module: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.module, self.names = module, names

    def forward(self, *tensors: Tensor) -> Any:
        """Return what the module returns."""
        first = len(tensors) - len(self.names)
        named = dict(zip(self.names, tensors[first:], strict=True))
        return self.module(*tensors[:first], **named)


def onnx_model(module: DetectorModule, called: Called, axes: Sequence[int]) -> Any:
    """Return a module as a model of ONNX.

    Parameters
    ----------
    module : DetectorModule
        From ``to_module``.
    called : tuple
        Positional and named tensors of at least two rows that the module can be
        called with.
    axes : sequence of int
        The axes of the inputs whose size may be any.
    """
    args, kwargs = called
    tensors = (*args, *kwargs.values())
    shapes = tuple(
        {axis: Dim.DYNAMIC for axis in axes if axis < tensor.ndim} for tensor in tensors
    )
    by_position = ByPosition(module, [*kwargs]).eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's remarks on itself
        program = torch.onnx.export(
            export(by_position, tensors, dynamic_shapes=(shapes,), strict=False),
            dynamo=True,
            input_names=input_names(module, called),
            output_names=list(OUTPUTS),
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def input_names(module: DetectorModule, called: Called) -> list[str]:
    """Return what the inputs of a module are called in ONNX."""
    args, kwargs = called
    if module.capture is None and len(args) > 1:
        return ["_".join(name) for name in module.blocks]
    first = "input" if module.capture is not None else "features"
    own = [first] if len(args) == 1 else [f"{first}_{n}" for n in range(len(args))]
    return [*own, *kwargs]


def session_of(model: bytes) -> Any:
    """Return a function that runs a model on the CPU, from what it is called with."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"]
    )
    inputs = session.get_inputs()

    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        named = {one.name: kwargs[one.name] for one in inputs if one.name in kwargs}
        others = [one.name for one in inputs if one.name not in named]
        named |= dict(zip(others, args, strict=True))
        types = {one.name: _TYPES[one.type] for one in inputs}
        given: dict[str, Any] = {
            k: np.asarray(v).astype(types[k], copy=False) for k, v in named.items()
        }
        return session.run(list(OUTPUTS), given)

    return run


_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(uint8)": np.uint8,
}
