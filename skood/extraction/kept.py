"""What a network holds, kept to be compared and put back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Attributes", "KeptTensors", "remembering", "with_own_train"]


# Tensors ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Slot:
    """Where a part holds something: one of its own dictionaries, and the name there."""

    label: str
    home: dict[str, Any]
    name: str
    value: Any
    copy: Any


class KeptTensors:
    """Copies of what a forward may write to: tensors, and flags that go with them.

    Parameters
    ----------
    module : nn.Module
        Its parameters, buffers, other tensors among the attributes of its parts, and
        attributes that are True or False.
    names : collection of str, optional
        The names of those to keep, as :meth:`put_back` returned them; None keeps all.
    """

    def __init__(self, module: nn.Module, names: Collection[str] | None = None) -> None:
        copies: dict[int, Tensor] = {}
        self._is_set = False
        self._slots = [
            _Slot(label, home, name, value, _copy(value, copies))
            for label, home, name, value in _held(module)
            if names is None or label in names
        ]
        self._registered = [
            (prefix, home, {*home})
            for prefix, part in module.named_modules()
            if not isinstance(part, torch.jit.ScriptModule)
            for home in (part._parameters, part._buffers)
            if names is None or names
        ]

    def values(self) -> dict[str, Any]:
        """Return the copies, by name."""
        return {slot.label: slot.copy for slot in self._slots}

    def set(self, values: Mapping[str, Any]) -> None:
        """Write other values, and take out what has none, until :meth:`put_back`."""
        self._is_set = True
        for slot in self._slots:
            if slot.label not in values:
                slot.home.pop(slot.name, None)
            elif isinstance(slot.value, Tensor):
                _write(slot.value, values[slot.label])
            else:
                slot.home[slot.name] = values[slot.label]

    def put_back(self) -> list[str]:
        """Put back what was written to, and return its names."""
        written = [
            slot.label
            for slot in self._slots
            if isinstance(slot.value, Tensor) and _tensor_put_back(slot)
        ]
        for prefix, home, names in self._registered:
            for name in {*home} - names:
                del home[name]
                written.append(_label(prefix, name))
        if not written and not self._is_set:
            return []
        # A flag says that the tensors were written to (that weights are rescaled, say),
        # so that it goes with them. A flag alone is the network's own memory.
        flags = (slot for slot in self._slots if isinstance(slot.value, bool))
        for slot in flags:
            if slot.home.get(slot.name) is not slot.value:
                slot.home[slot.name] = slot.value
                written.append(slot.label)
        return list(dict.fromkeys(written))


@contextmanager
def remembering(
    module: nn.Module,
    names: Collection[str] | None = None,
    memory: Mapping[str, Any] | None = None,
) -> Iterator[list[str]]:
    """Put back what a forward writes to, and say in the list that is yielded what.

    Parameters
    ----------
    module : nn.Module
        The network.
    names : collection of str, optional
        What is looked at, None for everything.
    memory : mapping of str to tensor or bool, optional
        Its values meanwhile; by default those that it has.
    """
    written: list[str] = []
    if names is not None and not names:
        yield written
        return
    kept = KeptTensors(module, names)
    try:
        if memory is not None:
            kept.set(memory)
        yield written
    finally:
        written += kept.put_back()


def _held(module: nn.Module) -> Iterator[tuple[str, dict[str, Any], str, Any]]:
    for prefix, part in module.named_modules():
        for home in _registers(part):
            for name, value in home.items():
                yield _label(prefix, name), home, name, value
        for name, value in vars(part).items():
            is_flag = isinstance(value, bool) and name != "training"
            if is_flag or isinstance(value, Tensor):
                yield _label(prefix, name), vars(part), name, value


def _registers(part: nn.Module) -> tuple[dict[str, Any], ...]:
    if isinstance(part, torch.jit.ScriptModule):  # its own are no dictionaries
        return dict(part.named_parameters(recurse=False)), dict(
            part.named_buffers(recurse=False)
        )
    return part._parameters, part._buffers


def _label(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _copy(value: Any, copies: dict[int, Tensor]) -> Any:
    """Return a copy of a tensor in the machine's own memory, one for all its names."""
    if not isinstance(value, Tensor) or value.is_meta:
        return value
    if id(value) not in copies:
        copies[id(value)] = value.detach().to("cpu", copy=True)
    return copies[id(value)]


def _tensor_put_back(slot: _Slot) -> bool:
    """Return whether a tensor was written to, or is another one, and mend that."""
    is_registered = "_parameters" not in slot.home  # not among the plain attributes
    replaced = is_registered and slot.home.get(slot.name) is not slot.value
    if replaced:
        slot.home[slot.name] = slot.value
    changed = not same_values(slot.value, slot.copy)
    if changed:
        _write(slot.value, slot.copy)
    return replaced or changed


def same_values(tensor: Tensor, copy: Tensor) -> bool:
    """Return whether two tensors of the same layout hold the same bits."""
    if tensor is copy:
        return True
    if tensor.shape != copy.shape or tensor.layout != copy.layout:
        return False
    here = tensor.detach().to("cpu")
    if here.is_quantized:
        return torch.equal(here.int_repr(), copy.int_repr())
    if here.layout != torch.strided:
        here, copy = here.to_dense(), copy.to_dense()
    return torch.equal(here, copy) or _same_bits(here, copy)


def _same_bits(here: Tensor, copy: Tensor) -> bool:
    """Return whether tensors differ in nothing, not even in their NaN."""
    if not (here.is_floating_point() or here.is_complex()) or not bool(
        here.isnan().any()
    ):
        return False
    both = (t.contiguous().reshape(-1).view(torch.uint8) for t in (here, copy))
    return torch.equal(*both)


def _write(tensor: Tensor, copy: Tensor) -> None:
    # Through .data, which counts no change: there is none in the end.
    with torch.inference_mode(tensor.is_inference()):
        if tensor.shape == copy.shape and tensor.layout == torch.strided:
            tensor.data.copy_(copy)
        else:
            tensor.data = copy.to(tensor.device)


# Attributes ------------------------------------------------------------------------


def with_own_train(module: nn.Module) -> list[nn.Module]:
    """Return the parts whose modes are more than a flag, and all below them."""
    found: dict[nn.Module, None] = {}
    for part in module.modules():
        kind = type(part)
        if kind.train is not nn.Module.train or kind.eval is not nn.Module.eval:
            found.update(dict.fromkeys(part.modules()))
    return [*found]


class Attributes:
    """The attributes of some parts as they are now, containers with what they hold."""

    def __init__(self, parts: list[nn.Module]) -> None:
        self.parts = parts
        self._values = {
            (part, name): (value, _content(value))
            for part in parts
            for name, value in vars(part).items()
        }

    def changed(self) -> set[tuple[nn.Module, str]]:
        """Return which attributes are others now, by part and name."""
        now = Attributes(self.parts)._values
        return {
            key
            for key in {*self._values, *now}
            if key not in now
            or key not in self._values
            or not _is_same(self._values[key], now[key])
        }

    def put_back(self, chosen: set[tuple[nn.Module, str]]) -> None:
        """Put some attributes back as they were."""
        for part, name in chosen:
            if (part, name) not in self._values:
                vars(part).pop(name, None)
                continue
            value, content = self._values[part, name]
            vars(part)[name] = value
            if content is not None:
                with suppress(TypeError):  # of a kind that cannot be filled again
                    _refill(value, content)


def _content(value: Any) -> Any:
    """Return a copy of a container, None for anything else."""
    for kind in (dict, list, set):
        if isinstance(value, kind):
            return kind(value)
    return None


def _is_same(one: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    (value, content), (now, inside) = one, other
    if value is not now:
        return False
    if isinstance(content, dict):
        both = content.keys() == inside.keys()
        return both and all(inside[key] is part for key, part in content.items())
    if isinstance(content, list):
        pairs = zip(content, inside, strict=False)
        return len(content) == len(inside) and all(a is b for a, b in pairs)
    return bool(content == inside)


def _refill(container: Any, content: Any) -> None:
    container.clear()
    getattr(container, "extend" if isinstance(container, list) else "update")(content)
