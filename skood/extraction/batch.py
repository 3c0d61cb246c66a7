"""One batch of a network's input: made of whatever it comes as, and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from skood.extraction.sharing import stacked_tensors
from skood.numerics.arrays import as_array, unread_columns

__all__ = ["Batch", "as_batch"]


@dataclass(frozen=True)
class Batch:
    """What the network is called with for some rows.

    Parameters
    ----------
    args : tuple
        Positional arguments.
    kwargs : dict
        Keyword arguments, of a batch that is a mapping.
    n_rows : int
        How many rows of X these are.
    shorten : callable, optional
        From the attention mask and a layer's number of positions to that layer's mask.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    n_rows: int
    shorten: Callable[[Tensor, int], Tensor] | None = None

    @property
    def mask(self) -> Tensor | None:
        """The attention mask, if the batch has one."""
        return dict(self._tensors).get("attention_mask")

    def form(self, *, sizes: bool = True) -> str:
        """Return a digest of what the network is called with, but for the values.

        Parameters
        ----------
        sizes : bool, default=True
            Whether the lengths of axes count, besides their number. The rows' never do.

        Returns
        -------
        str
        """
        text = _form([self.args, self.kwargs], self.n_rows, sizes)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Return the batch's tensors with their names; positions are named ``X``."""
        return iter(self._tensors)

    @cached_property
    def _tensors(self) -> list[tuple[str, Tensor]]:
        named: list[tuple[str, Any]] = []
        for value in self.args:
            named += value.items() if isinstance(value, Mapping) else [("X", value)]
        named += self.kwargs.items()
        return [(name, part) for name, part in named if isinstance(part, Tensor)]

    def moved(
        self,
        device: torch.device,
        dtype: torch.dtype | None,
        *,
        waits: bool = True,
        is_own: bool = False,
    ) -> Batch:
        """Return a copy on a device, its floating tensors of a type if one is given.

        It need not be waited for where it is made of memory that nobody writes to, and
        what is there already need not be copied where nobody else has it.
        """

        def move(tensor: Tensor) -> Tensor:
            # A copy even where nothing changes: the network may work in place, and
            # the memory may be the user's X.
            kind = (dtype if tensor.is_floating_point() else None) or tensor.dtype
            is_later = device.type == "cuda" and not waits  # by itself, if pinned
            return tensor.to(
                device=device, dtype=kind, non_blocking=is_later, copy=copies
            )

        copies = not (is_own and all(isinstance(v, Tensor) for v in self.args))
        return self.mapped(move)

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with each of its tensors changed, wherever they are."""

        def changed(value: Any) -> Any:
            if isinstance(value, PackedSequence):
                return _mapped_sequence(value, change)
            if isinstance(value, Mapping):
                return {name: changed(part) for name, part in value.items()}
            if type(value) in (tuple, list):
                return type(value)(map(changed, value))
            return change(value) if isinstance(value, Tensor) else value

        return replace(self, args=changed(self.args), kwargs=changed(self.kwargs))

    def picked(self, rows: NDArray[np.intp]) -> Batch | None:
        """Return some of the rows; None if they cannot be picked from what there is."""
        if len(rows) == self.n_rows and (np.diff(rows) == 1).all():
            return self
        values = [*self.args, *self.kwargs.values()]
        if not all(isinstance(v, Tensor) and v[:0].ndim > 0 for v in values):
            return None
        if any(len(value) != self.n_rows for value in values):
            return None
        chosen = torch.as_tensor(rows)
        args = tuple(value[chosen] for value in self.args)
        kwargs = {name: value[chosen] for name, value in self.kwargs.items()}
        return replace(self, args=args, kwargs=kwargs, n_rows=len(rows))

    def viewed(self, view: Callable[..., Any], rows: NDArray[np.intp]) -> Batch:
        """Return the batch with its one tensor changed by ``view(tensor, rows)``.

        Raises
        ------
        TypeError
            If the batch is not one tensor.
        ValueError
            If the view changes the shape.
        """
        if len(self.args) != 1 or self.kwargs or not isinstance(self.args[0], Tensor):
            raise TypeError(
                "views change inputs that are one tensor; here the network takes "
                f"{len(self.args)} positional arguments and {[*self.kwargs]}."
            )
        given = self.args[0]
        made = view(given, rows)
        if not isinstance(made, Tensor) or made.shape != given.shape:
            found = tuple(made.shape) if isinstance(made, Tensor) else type(made)
            raise ValueError(
                f"a view returned {found} for a batch of shape {tuple(given.shape)}: "
                "it returns a tensor of the same shape."
            )
        return replace(self, args=(made.to(given.device, given.dtype),))

    def call(self, module: nn.Module) -> Any:
        """Return the network's output."""
        return module(*self.args, **self.kwargs)


def _mapped_sequence(
    packed: PackedSequence, change: Callable[[Tensor], Tensor]
) -> PackedSequence:
    orders = (packed.sorted_indices, packed.unsorted_indices)
    moved = (None if order is None else change(order) for order in orders)
    return PackedSequence(change(packed.data), packed.batch_sizes, *moved)


def _form(value: Any, n_rows: int, sizes: bool) -> str:
    if isinstance(value, Tensor):
        lengths: Sequence[Any] = ["n" if n == n_rows else n for n in value.shape[:1]]
        shape = [*lengths, *value.shape[1:]] if sizes else value.ndim
        return f"{value.dtype} {shape}"
    if isinstance(value, Mapping):
        parts = value.items()
        return str({name: _form(part, n_rows, sizes) for name, part in parts})
    if isinstance(value, (tuple, list)):
        return str([_form(part, n_rows, sizes) for part in value])
    is_setting = isinstance(value, (bool, int, float, type(None)))
    return repr(value) if is_setting else type(value).__qualname__


def as_batch(part: Any, numbers: NDArray[np.intp], is_raw: bool) -> Batch:
    """Return some rows as a batch, checked.

    Parameters
    ----------
    part : array, tensor, tuple, mapping or list
        The rows.
    numbers : ndarray of int, shape (n,)
        Which rows of X they are, for messages.
    is_raw : bool
        Whether they are rows of X itself, and not what preprocess made of them.

    Returns
    -------
    Batch

    Raises
    ------
    TypeError
        If the rows do not make a tensor.
    ValueError
        If there is NaN or infinity, or the number of rows is another one.
    """
    batch = _as_batch(part, len(numbers), is_raw)
    _check_tensors(batch)
    _check_rows(batch)
    _check_finite(batch, numbers)
    _check_mask(batch, numbers)
    return batch


def _as_batch(part: Any, n_rows: int, is_raw: bool) -> Batch:
    if isinstance(part, Mapping):
        named = {str(name): _tensor_if_array(value) for name, value in part.items()}
        return Batch((), named, n_rows)
    if isinstance(part, tuple) and not isinstance(part, PackedSequence):
        return Batch(tuple(_tensor_if_array(value) for value in part), {}, n_rows)
    return Batch((_as_tensor(part, is_raw),), {}, n_rows)


def _tensor_if_array(value: Any) -> Any:
    return _as_tensor(value, False) if isinstance(value, np.ndarray) else value


def _as_tensor(part: Any, is_raw: bool) -> Tensor | PackedSequence:
    if isinstance(part, (Tensor, PackedSequence)):
        return part
    source = "X" if is_raw else "preprocess"
    try:
        if isinstance(part, list) and part and isinstance(part[0], Tensor):
            return stacked_tensors(part)
        array = as_array(part, source)
        return torch.from_numpy(_for_torch(array))
    except (TypeError, ValueError, RuntimeError) as error:
        help_ = _MAKE_A_TENSOR if is_raw else "it must do that"
        unread = "; ".join(unread_columns(part))
        if unread:
            raise TypeError(
                f"{source} has columns that are not numbers: {unread}. Leave them out, "
                "or give a preprocess that makes a tensor of the rows."
            ) from error
        first = part[0] if isinstance(part, list) and part else part
        kind = type(first).__name__
        if hasattr(first, "shape") and is_raw:
            help_ = _MAKE_EQUAL
        if hasattr(first, "convert") and hasattr(first, "resize"):  # a PIL image
            help_ = _MAKE_IMAGES
        # Of texts it says no more than that NumPy's type for them is none of torch's.
        why = "" if kind == "str" else f" ({error})"
        raise TypeError(
            f"rows of {source} ({kind}) do not make one tensor{why}: {help_}."
        ) from error


def _for_torch(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array as torch takes it: of the machine's byte order, to be written."""
    if not (array.flags.carray and array.dtype.isnative):
        array = np.require(array, array.dtype.newbyteorder("="), ["C", "W"])
    # A single row counts as contiguous.
    return array.copy() if min(array.strides, default=0) < 0 else array


_MAKE_A_TENSOR = (
    "give preprocess=..., which does that; for texts "
    "preprocess=functools.partial(tokenizer, padding=True, return_tensors='pt')"
)

_MAKE_EQUAL = (
    "give preprocess=..., which does that: lambda rows: "
    "torch.nn.utils.rnn.pad_sequence([torch.as_tensor(row) for row in rows], "
    "batch_first=True) for rows of several lengths, say"
)

_MAKE_IMAGES = (
    "give preprocess=lambda rows: np.stack([np.asarray(row.convert('RGB').resize((224, "
    "224))) for row in rows]).transpose(0, 3, 1, 2) / 255, or the network's own "
    "transforms in its place"
)


def _check_tensors(batch: Batch) -> None:
    if any(True for _ in batch.tensors()):
        return
    for name, value in batch.kwargs.items():
        if isinstance(value, (list, tuple)) and not isinstance(value[0], str):
            raise TypeError(
                f"preprocess made {name!r} a {type(value).__name__}, where the network "
                "takes a tensor. A tokenizer of transformers makes tensors when it is "
                "called with return_tensors='pt' and padding=True."
            )


def _check_rows(batch: Batch) -> None:
    for part in batch.args:
        if isinstance(part, PackedSequence) and part.batch_sizes[0] != batch.n_rows:
            raise ValueError(
                f"preprocess made a packed sequence of {int(part.batch_sizes[0])} rows "
                f"from {batch.n_rows} rows."
            )
    for name, tensor in list(batch.tensors())[:1]:
        if tensor.ndim == 0 or len(tensor) != batch.n_rows:
            raise ValueError(
                f"preprocess made {name} of shape {tuple(tensor.shape)} from "
                f"{batch.n_rows} rows: the first axis must be the rows."
            )


def _check_finite(batch: Batch, numbers: NDArray[np.intp]) -> None:
    for name, tensor in batch.tensors():
        # An additive attention mask may well hold -inf.
        if not (tensor.is_floating_point() or tensor.is_complex()) or "mask" in name:
            continue
        # A finite sum proves finite terms at a fraction of the cost of a full look.
        if bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all()):
            continue
        bad = ~tensor.reshape(len(tensor), -1).isfinite().all(dim=1)
        raise ValueError(
            f"{name} has NaN or infinity in {_listed(numbers, bad)}: "
            "remove these rows or fill them in."
        )


def _check_mask(batch: Batch, numbers: NDArray[np.intp]) -> None:
    mask = batch.mask
    if mask is None or mask.ndim != 2 or len(mask) != batch.n_rows:
        return
    empty = ~mask.bool().any(dim=1)
    if bool(empty.any()):
        raise ValueError(
            f"attention_mask keeps no token in {_listed(numbers, empty)}: "
            "there is nothing to pool."
        )


def _listed(numbers: NDArray[np.intp], chosen: Tensor, limit: int = 5) -> str:
    found: Sequence[int] = numbers[chosen.cpu().numpy()].tolist()
    more = f" and {len(found) - limit} more of the batch" if len(found) > limit else ""
    names = ", ".join(map(str, found[:limit]))
    return f"{'row' if len(found) == 1 else 'rows'} {names}{more}"
