"""Which blocks of a network are wanted, checked against its names."""

from __future__ import annotations

from collections import Counter
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from skood.extraction.naming import RESERVED, module_name, resolved_name
from skood.extraction.network import named_layers
from skood.extraction.statistics import checked_statistics
from skood.features import LOGITS, Key
from skood.features.names import is_logits

__all__ = ["checked_blocks", "checked_channels", "checked_layers"]


def checked_blocks(
    layers: Any, statistics: tuple[str, ...], module: nn.Module
) -> tuple[Key, ...]:
    """Return the wanted blocks of a network.

    Parameters
    ----------
    layers : str or sequence of str or (str, str)
        As the user gave them: a layer's name stands for all its statistics, a pair of
        a layer and a statistic for itself.
    statistics : tuple of str
        Checked.
    module : nn.Module
        The network.

    Returns
    -------
    tuple of (layer, statistic)

    Raises
    ------
    TypeError, ValueError
        As from :func:`checked_layers` and ``checked_statistics``.
    """
    entries = (layers,) if isinstance(layers, str) else tuple(layers)
    pairs = [tuple(entry) for entry in entries if _is_pair(entry)]
    names = [entry for entry in entries if not _is_pair(entry)]
    checked_layers([*names, *{la: 0 for la, _ in pairs if la not in names}], module)
    wanted = []
    for entry in entries:
        layer, own = entry if _is_pair(entry) else (entry, statistics)
        chosen = (LOGITS,) if is_logits(layer) else checked_statistics(own)
        wanted += [(layer, statistic) for statistic in chosen]
    return tuple(dict.fromkeys(wanted))


def _is_pair(entry: Any) -> bool:
    return isinstance(entry, (tuple, list)) and len(entry) == 2


def checked_layers(layers: Any, module: nn.Module) -> tuple[str, ...]:
    """Return the layers' names, each in the network and named once.

    Parameters
    ----------
    layers : str or sequence of str
        As the user gave them.
    module : nn.Module
        The network.

    Returns
    -------
    tuple of str

    Raises
    ------
    TypeError
        If a name is no text.
    ValueError
        If there is none, one is unknown (close matches are named) or named twice.
    """
    names = (layers,) if isinstance(layers, str) else tuple(layers)
    if not names:
        raise ValueError("layers is empty: name at least one, or 'logits'.")
    modules = named_layers(module)
    known = [*map(module_name, modules), *RESERVED]
    for name in names:
        if not isinstance(name, str):
            raise TypeError(
                f"layers has {name!r}: layers are given by name, or as pairs of a "
                "name and a statistic."
            )
        meant = resolved_name(name, modules)
        if meant is None:
            near = get_close_matches(name, known, n=3)
            hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise ValueError(
                f"the network has no layer {name!r}.{hint} "
                "skood.layer_names(network) lists all names, and "
                "skood.list_layers(network, X) shows what they put out."
            )
        if isinstance(modules.get(meant[0]), torch.jit.ScriptModule):
            raise ValueError(
                f"layer {name!r} is a TorchScript module, which cannot be observed: "
                "name a layer around it or after it, or put the Python module back."
            )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"layers names {twice[0]!r} twice.")
    return names


def checked_channels(channels: Any, layers: tuple[str, ...]) -> None:
    """Check where the channels of each layer are said to be.

    Raises
    ------
    ValueError
        If that is said of a layer which is not wanted, or is none of the words for it.
    """
    if isinstance(channels, str):
        return
    for name, place in channels.items():
        if name not in layers:
            raise ValueError(f"channels has {name!r}; the layers are {[*layers]}.")
        if place not in ("auto", "first", "last"):
            raise ValueError(
                f"channels has {name!r}: {place!r}; wanted is 'auto', 'first' or "
                "'last'."
            )
