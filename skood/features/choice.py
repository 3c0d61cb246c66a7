"""Which blocks a layer and a statistic mean among those that are there."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from skood.features.names import DEFAULT_STATISTIC, LOGITS, Key, Layers, is_logits

__all__ = ["chosen_keys", "known_key"]


def chosen_keys(
    there: Sequence[Key], layers: Layers, statistic: str | None
) -> list[Key]:
    """Return the blocks of some layers, or of all, under a statistic, or any.

    Raises
    ------
    ValueError
        If a layer or a statistic is not there.
    """
    if layers is None:
        return _of_statistic(there, statistic)
    names = [layers] if isinstance(layers, str) else list(layers)
    if not names:
        raise ValueError("layers is empty: name at least one, or give None.")
    if statistic is None:
        names = [_known_layer(there, name) for name in names]
        return [key for key in there if key[0] in names]
    return [known_key(there, name, statistic) for name in names]


def _of_statistic(there: Sequence[Key], statistic: str | None) -> list[Key]:
    chosen = [key for key in there if statistic in (None, key[1])]
    if not chosen:
        # The logits have no statistic, and are read when they are named.
        has_logits = any(layer == LOGITS for layer, _ in there)
        named = f"; layers={LOGITS!r} reads them." if has_logits else "."
        listing = ", ".join(map("/".join, there))
        raise ValueError(
            f"no layer has the statistic {statistic!r}; there are {listing}{named}"
            f"{_how_to_have(statistic)}"
        )
    return chosen


def known_key(there: Sequence[Key], layer: str, statistic: str | None) -> Key:
    """Return the block of a layer; without a statistic its average, or its only one.

    Raises
    ------
    ValueError
        If there is no such block.
    """
    if (layer, statistic) in there:
        return layer, str(statistic)
    layer = _known_layer(there, layer)
    own = [key for key in there if key[0] == layer]
    if is_logits(layer) or (statistic is None and len(own) == 1):
        return own[0]
    key = (layer, statistic or DEFAULT_STATISTIC)
    if key not in there:
        raise ValueError(
            f"layer {layer!r} has no statistic {key[1]!r}; it has "
            f"{[s for _, s in own]}.{_how_to_have(key[1])}"
        )
    return key


def _known_layer(there: Sequence[Key], layer: str) -> str:
    """Return a layer's name here; ``"logits"`` may be the one named entry of it."""
    layers = list(dict.fromkeys(name for name, _ in there))
    if layer not in layers:
        entries = [name for name in layers if is_logits(name)]
        if layer == LOGITS and len(entries) == 1:
            return entries[0]
        near = get_close_matches(str(layer), layers)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        if layer == LOGITS and not near:
            hint = (
                " Name it among the layers of LayerFeatureTransformer, or give "
                "LayerFeatures a block of that name with the network's output."
            )
        raise ValueError(f"there is no layer {layer!r}; there are {layers}.{hint}")
    return layer


def _how_to_have(statistic: str | None) -> str:
    """Return where a statistic comes from, the last sentence of an error."""
    return f" LayerFeatureTransformer takes it by statistics=[..., {statistic!r}]."
