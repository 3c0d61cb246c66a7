"""Where features come from: everything that decides what they are, but the input."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from torch import nn

from skood.numerics.device import resolved_device
from skood.store.identity.network import callable_fingerprint, structure_fingerprint
from skood.store.identity.weights import weights_digest

__all__ = ["Source"]

VERSION = 3
"""Raised when a statistic comes to mean something else, so that old features miss."""


@dataclass(frozen=True)
class Source:
    """A network, and how it is run.

    Parameters
    ----------
    parts : dict of str
        All that decides what the features of an input are.
    description : str
        The same for people.
    is_view : bool, default=False
        Whether inputs are changed before they go in.
    kept_as : str, optional
        The digest of the same source, as it was taken before it was known what
        forwards change in the network.
    """

    parts: dict[str, Any]
    description: str
    is_view: bool = False
    kept_as: str | None = None

    @property
    def digest(self) -> str:
        """A digest of the parts."""
        text = json.dumps(self.parts, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return f"view-{digest}" if self.is_view else digest

    @property
    def name(self) -> str:
        """What its features are kept under."""
        return self.kept_as or self.digest

    def about(self) -> dict[str, str]:
        """Return it as the text of a shard."""
        return {"source": self.name, "description": self.description}

    def again(self, module: nn.Module) -> Source:
        """Return the source with what is known by now about the network's attributes.

        Parameters
        ----------
        module : nn.Module
            The network, of which :func:`leave_out` has learned more.
        """
        structure = structure_fingerprint(module)
        return replace(self, parts={**self.parts, "structure": structure})

    @classmethod
    def of(
        cls,
        module: nn.Module,
        *,
        weights: str | None = None,
        preprocess: Any = None,
        dtype: DTypeLike = "float32",
        autocast: bool | str = False,
        channels: str = "auto",
        device: Any = "auto",
        view: Any = None,
    ) -> Source:
        """Return the source that a network is with some settings.

        Parameters
        ----------
        module : nn.Module
            The network: its weights, structure, attributes and code count.
        weights : str, optional
            The digest of its weights, if it was just taken.
        preprocess, view : callable, optional
            They count by :func:`callable_fingerprint`.
        dtype : dtype, default="float32"
            Type of the features.
        autocast : bool or str, default=False
            Mixed precision. True depends on the kind of device.
        channels : str, default="auto"
            Where the channels are.
        device : str or torch.device, default="auto"
            Counts only for ``autocast=True``.

        Returns
        -------
        Source

        Raises
        ------
        TypeError
            If ``preprocess`` or ``view`` cannot be told from others by its content.
        """
        parts = {
            "version": VERSION,
            "weights": weights or weights_digest(module),
            "structure": structure_fingerprint(module),
            "preprocess": callable_fingerprint(preprocess),
            "view": callable_fingerprint(view, "a view"),
            "dtype": np.dtype(dtype).name,
            "autocast": autocast,
            "channels": channels,
        }
        if autocast is True:
            parts["device"] = _kind_of_device(module, device)
        said = {"autocast": autocast, "preprocess": preprocess, "view": view}
        words = [f"{name} {_title(v)}" for name, v in said.items() if v]
        network = f"{type(module).__name__} with weights {str(parts['weights'])[:8]}"
        description = ", ".join([network, str(parts["dtype"]), *words])
        return cls(parts, description, view is not None)


def _kind_of_device(module: nn.Module, device: Any) -> str:
    homes = {parameter.device.type for parameter in module.parameters()} - {"cpu"}
    if device == "auto" and homes:
        return min(homes)
    return resolved_device(device).partition(":")[0]


def _title(value: Any) -> str:
    plain = isinstance(value, (bool, str))
    return str(value) if plain else getattr(value, "__qualname__", type(value).__name__)
