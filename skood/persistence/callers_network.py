"""The networks that whoever loads an estimator gives for those it was saved with."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

__all__ = ["CallersNetwork", "callers_networks", "is_network"]


class CallersNetwork(NamedTuple):
    """A caller's network.

    Parameters
    ----------
    network : nn.Module or fitted skorch net
        As it was given, or made.
    module : nn.Module or None
        The module in it; None where the folder's own is wanted.
    made : bool
        Whether it was made for this, and is nobody else's.
    """

    network: Any
    module: Any
    made: bool


def is_network(value: Any) -> bool:
    """Return whether a value is a torch module."""
    # Only where torch is loaded can there be one.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def callers_networks(network: Any) -> list[CallersNetwork] | None:
    """Return the networks that a caller has given, made if they have to be.

    Raises
    ------
    TypeError
        If one is no network, and nothing that makes one.
    """
    if network is None:
        return None
    from skood.extraction.network import as_module

    networks = list(network) if isinstance(network, (list, tuple)) else [network]
    found = []
    for one in networks:
        made = not (is_network(one) or hasattr(one, "module_")) and callable(one)
        one = one() if made else one
        found.append(CallersNetwork(one, None if one is None else as_module(one), made))
    return found
