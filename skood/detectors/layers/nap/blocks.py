"""Which blocks NAP reads."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

from skood.detectors.layers.nap.auto import STATISTICS, LayerChoice
from skood.features import LOGITS, Key, LayerFeatures

__all__ = [
    "OUTPUT",
    "candidate_blocks",
    "searched_blocks",
    "stated_blocks",
    "stated_layers",
]

OUTPUT: Key = (LOGITS, LOGITS)


def stated_layers(
    features: LayerFeatures,
    layers: str | Sequence[Any] | None,
    statistic: str,
    percentile: float,
) -> list[LayerChoice]:
    """Return the layers that the parameters name, thresholds yet unknown.

    Parameters
    ----------
    features : LayerFeatures
        Where the layers are.
    layers : str, sequence of str or (str, str, float), or None
        As given to the detector.
    statistic : str
        Of layers that are only named.
    percentile : float
        Of layers that are only named.

    Returns
    -------
    list of LayerChoice

    Raises
    ------
    ValueError
        If an entry is neither a name nor a triple, or there is no such block.
    """
    if layers is None or isinstance(layers, str):
        names = features.select(layers, statistic).block_names
        return [LayerChoice(*name, percentile) for name in names]
    if not layers:
        raise ValueError("layers is empty: name at least one, or give None.")
    choices = []
    for entry in layers:
        triple = (entry, statistic, percentile) if isinstance(entry, str) else entry
        _check_triple(triple)
        ((layer, pooled),) = features.select([triple[0]], triple[1]).block_names
        choices.append(LayerChoice(layer, pooled, float(triple[2])))
    return choices


def _check_triple(entry: Any) -> None:
    right = (
        isinstance(entry, (tuple, list))
        and len(entry) == 3
        and all(isinstance(name, str) for name in entry[:2])
        and isinstance(entry[2], Real)
        and 0 < float(entry[2]) < 100
    )
    if not right:
        raise ValueError(
            f"layers has the entry {entry!r}: an entry is a layer's name or a tuple "
            "(layer, statistic, percentile), with the percentile in (0, 100)."
        )


def candidate_blocks(
    features: LayerFeatures, layers: str | Sequence[Any] | None
) -> list[Key]:
    """Return the blocks that the automatic configuration may choose from.

    Parameters
    ----------
    features : LayerFeatures
        Where the layers are.
    layers : str, sequence of str, or None
        The candidates; None takes all layers.

    Returns
    -------
    list of (layer, statistic)
        The blocks of a layer next to each other.

    Raises
    ------
    ValueError
        If ``layers`` has an entry that is no name, or a layer has neither statistic.
    """
    names = [layers] if isinstance(layers, str) else layers
    if names is None:
        names = [layer for layer in features.layers if layer != LOGITS]
    elif not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"layers={layers!r} with auto=True: statistics and percentiles are "
            "searched, so give names of layers only, or auto=False."
        )
    there = features.select(None if layers is None else list(names)).block_names
    blocks = [(layer, s) for layer in names for s in STATISTICS if (layer, s) in there]
    without = {*names} - {layer for layer, _ in blocks} if layers is not None else {}
    if without or not blocks:
        raise ValueError(
            f"auto=True searches the statistics 'max' and 'avg': layers "
            f"{sorted(without or features.layers)} have neither."
        )
    return blocks


def stated_blocks(
    features: LayerFeatures, layers: str | Sequence[Any] | None, statistic: str
) -> list[Key]:
    """Return the blocks of :func:`stated_layers`."""
    return [
        (c.layer, c.statistic) for c in stated_layers(features, layers, statistic, 50)
    ]


def searched_blocks(
    features: LayerFeatures, layers: str | Sequence[Any] | None, statistic: str
) -> list[Key]:
    """Return the candidates, and the blocks used if there is nothing to choose them by.

    The latter have the statistic given, and need not be there.
    """
    candidates = candidate_blocks(features, layers)
    stated = [(layer, statistic) for layer, _ in candidates]
    there = [name for name in stated if name in features.block_names]
    return list(dict.fromkeys([*candidates, *there]))
