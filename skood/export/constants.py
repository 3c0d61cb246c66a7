"""What a formula has learned, as buffers of a module instead of numbers in a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["Constants"]

_WITH_NUMBERS = frozenset(
    f"{before}{name}{after}"
    for name in ("add", "sub", "rsub", "mul", "div", "truediv", "pow", "true_divide")
    for before, after in (("", ""), ("__", "__"), ("__r", "__"))
) | {"gt", "ge", "lt", "le", "__gt__", "__ge__", "__lt__", "__le__"}
"""Functions of a tensor and a number, by their names."""


class Constants(TorchFunctionMode):
    """Gives a formula its arrays and numbers as buffers, in the order of their use.

    A formula asks for arrays by :func:`skood.numerics.device.like`, in the same order
    each time it runs: the first run makes the buffers, later ones get them. Numbers
    that float32 does not have become buffers too, since a graph of ONNX would keep
    them in float32.

    Parameters
    ----------
    module : nn.Module
        Whose buffers they are.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._number = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is torch.Tensor.new_tensor:
            return self._buffer(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in _WITH_NUMBERS:
            args = self._exact(args)
        return func(*args, **(kwargs or {}))

    def _exact(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        kinds = [x for x in args if isinstance(x, Tensor) and x.dtype == torch.float64]
        if not kinds:
            return args
        return tuple(self._buffer(kinds[0], x) if _is_long(x) else x for x in args)

    def _buffer(
        self, beside: Tensor, value: Any, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Return the next constant, in the type of a tensor unless another is named."""
        name = f"constant_{self._number}"
        self._number += 1
        if name not in self.module._buffers:
            with torch._C.DisableTorchFunction():
                made = torch.tensor(np.asarray(value), dtype=dtype or beside.dtype)
            self.module.register_buffer(name, made)
        return self.module.get_buffer(name)


def _is_long(value: Any) -> bool:
    """Return whether it is a number that float32 does not have."""
    is_number = isinstance(value, float) and np.isfinite(value)
    with np.errstate(over="ignore"):
        return bool(is_number and float(np.float32(value)) != value)
