"""What an error inside of a network is told with: where, what came, what mends it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from torch import Tensor, nn

from skood.extraction.batch import Batch
from skood.extraction.inputs import Inputs
from skood.extraction.network import floating_dtype

__all__ = ["Explained"]


class Explained:
    """Adds to an error inside which rows it happened with, and what may mend it.

    Parameters
    ----------
    batch : Batch
        What the network runs on.
    inputs : Inputs
        Where it is from.
    rows : slice
        Which rows of these it is.
    module : nn.Module
        The network.
    """

    def __init__(
        self, batch: Batch, inputs: Inputs, rows: slice, module: nn.Module
    ) -> None:
        self.batch, self.inputs, self.rows, self.module = batch, inputs, rows, module

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, Exception):
            return
        of_shapes = ("expected", "the first axis must be the rows")
        if isinstance(error, (RuntimeError, TypeError, IndexError)) or any(
            text in str(error) for text in of_shapes
        ):
            for advice in self._advice():
                _add_note(error, advice)
        numbers = self.inputs.numbers(self.rows)
        _add_note(error, f"The network ran on rows {numbers[0]} to {numbers[-1]} of X.")
        _add_note(error, f"Its input is {self._given()}.")
        if isinstance(error, RuntimeError) and "type" in str(error):
            _add_note(error, self._types())
        names = [*self.batch.kwargs]
        if isinstance(error, TypeError) and names and "argument" in str(error):
            _add_note(
                error,
                f"The batch is a mapping, given as keyword arguments {names}; a "
                "tuple that preprocess returns is given by position.",
            )

    def _given(self) -> str:
        parts = self.batch.tensors()
        given = [f"{name}: {p.dtype} of shape {tuple(p.shape)}" for name, p in parts]
        return ", ".join(given) or "without a tensor"

    def _types(self) -> str:
        return (
            f"Its weights are {floating_dtype(self.module)}; "
            "floating inputs are cast to the weights' type, others are left as they "
            "are: preprocess=... can change them (images of uint8, say)."
        )

    def _advice(self) -> Iterator[str]:
        """Yield what the first layer wants, what came, and the mend, if that is it."""
        given = next((tensor for _, tensor in self.batch.tensors()), None)
        first = _first_layer(self.module)
        if given is None or first is None:
            return
        wanted, steps = _mends(first, given)
        if steps:
            mend = "rows" if self.inputs.has_preprocess else self.inputs.as_tensor
            mend += "".join(steps)
            where = "end preprocess with" if self.inputs.has_preprocess else "give"
            form = mend if self.inputs.has_preprocess else f"preprocess=lambda {mend}"
            came = f"{given.dtype} of shape {tuple(given.shape)}"
            yield f"The network wants {wanted}; what came is {came}: {where} {form}"


def _first_layer(module: nn.Module) -> nn.Module | None:
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.Embedding)
    return next((part for part in module.modules() if isinstance(part, kinds)), None)


def _mends(first: nn.Module, given: Tensor) -> tuple[str, list[str]]:
    """Return what a layer takes, in words, and the steps that make the input that."""
    if isinstance(first, nn.Embedding):
        return "numbers of tokens", [".long()"] if given.is_floating_point() else []
    if isinstance(first, nn.Linear):
        wanted = f"floating rows of {first.in_features} features"
        steps = _steps_to_vectors(first.in_features, given)
    else:
        conv = cast(nn.Conv2d, first)
        channels, sides = conv.in_channels, len(conv.kernel_size)
        axes = ("length",) if sides == 1 else ("depth", "height", "width")[-sides:]
        shape = ", ".join(["rows", str(channels), *axes])
        wanted = f"floating numbers of shape ({shape})"
        steps = _steps_to_maps(channels, sides, given)
    if not (given.is_floating_point() or given.is_complex()):
        is_pixels = given.element_size() == 1
        steps.append(" / 255" if is_pixels else ".float()")
    return wanted, steps


def _steps_to_vectors(width: int, given: Tensor) -> list[str]:
    if given.ndim > 2 and given.shape[-1] != width and given[0].numel() == width:
        return [".flatten(1)"]
    return []


def _steps_to_maps(channels: int, sides: int, given: Tensor) -> list[str]:
    """Return what is lacking: the place of the channels, their axis, their number."""
    shape = given.shape
    if given.ndim == sides + 2:
        if shape[1] == channels:
            return []
        if shape[-1] == channels:
            return [".movedim(-1, 1)"]
        if shape[1] == 1:
            return [_repeated(channels, sides)]
        if shape[-1] == 1:
            return [".movedim(-1, 1)", _repeated(channels, sides)]
        if shape[-1] == channels + 1 == 4:
            return [".movedim(-1, 1)[:, :3]"]
        return []
    if given.ndim == sides + 1:
        steps = [".unsqueeze(1)"]
        return steps if channels == 1 else [*steps, _repeated(channels, sides)]
    return []


def _repeated(channels: int, sides: int) -> str:
    return f".expand(-1, {channels}{', -1' * sides})"


def _add_note(error: Exception, text: str) -> None:
    if hasattr(error, "add_note"):  # Python 3.11
        error.add_note(text)
    elif error.args and isinstance(error.args[0], str):
        error.args = (f"{error.args[0]}\n{text}", *error.args[1:])
