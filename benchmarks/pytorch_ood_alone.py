"""pytorch-ood's detectors where there is no torchvision, which its data sets import."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def pytorch_ood_detectors() -> Any:
    """Return pytorch-ood's module of detectors; torchvision need not be there."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        sys.meta_path.append(NoTorchvision())
    from pytorch_ood import detector

    return detector


class NoTorchvision:
    """Imports of torchvision give empty modules: only pytorch-ood's data need it."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return a spec for torchvision and what is in it."""
        if name.partition(".")[0] == "torchvision":
            return ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return a module whose every attribute is an empty class."""
        module = ModuleType(spec.name)
        module.__dict__["__getattr__"] = _empty_class
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Leave it empty."""


def _empty_class(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {})
