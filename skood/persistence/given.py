"""What a caller of ``load`` gives for a network."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Given"]


class Given(NamedTuple):
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
