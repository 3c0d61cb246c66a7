"""Statistics of a layer's output: from a map to a row, on the device.

A statistic is a function from a :class:`~skood.extraction.layout.FeatureMap` (values
of shape (n, d, positions), and a mask of the positions that count) to a tensor of
shape (n, columns); :data:`STATISTICS` names them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from difflib import get_close_matches

import torch
from torch import Tensor

from skood.extraction.layout import FeatureMap

__all__ = ["STATISTICS", "Statistic", "checked_statistics"]

Statistic = Callable[[FeatureMap], Tensor]

POWERS = 10
"""Powers whose Gram matrices are taken (Sastry and Oore, 2020)."""

GRAM_ELEMENTS = 1 << 20
"""Entries of the maps that are raised at a time: they stay in the cache."""


def avg(maps: FeatureMap) -> Tensor:
    """Return the mean over positions, (n, d)."""
    if maps.mask is None:
        return maps.values.mean(dim=2)
    return maps.kept(0.0).sum(dim=2) / maps.mask.sum(dim=1, keepdim=True)


def maximum(maps: FeatureMap) -> Tensor:
    """Return the largest value over positions, (n, d)."""
    return maps.kept(-math.inf).amax(dim=2)


def l2(maps: FeatureMap) -> Tensor:
    """Return each channel's L2 norm over positions of the positive part, (n, d).

    References
    ----------
    Yu et al., "Block Selection Method for Using Feature Norm in Out-of-Distribution
    Detection", CVPR 2023: FeatureNorm is the mean of these over channels.
    """
    return torch.linalg.vector_norm(maps.kept(0.0).relu(), dim=2)


def lse(maps: FeatureMap) -> Tensor:
    """Return the log-sum-exp over all units of the layer, (n, 1).

    References
    ----------
    Guglielmo and Masana, "Leveraging Intermediate Representations for Better
    Out-of-Distribution Detection", 2025: minus the layer's energy at temperature 1.
    """
    return torch.logsumexp(maps.kept(-math.inf), dim=(1, 2)).unsqueeze(1)


def std(maps: FeatureMap) -> Tensor:
    """Return the standard deviation over positions, of all of them, (n, d)."""
    if maps.mask is None:
        return maps.values.std(dim=2, correction=0)
    centred = maps.values - avg(maps)[:, :, None]
    squares = centred.square().masked_fill(~maps.mask[:, None, :], 0.0)
    return (squares.sum(dim=2) / maps.mask.sum(dim=1, keepdim=True)).sqrt()


def first(maps: FeatureMap) -> Tensor:
    """Return the first token that the mask keeps, (n, d)."""
    return _token(maps, "first", from_end=False)


def last(maps: FeatureMap) -> Tensor:
    """Return the last token that the mask keeps, (n, d)."""
    return _token(maps, "last", from_end=True)


def cls(maps: FeatureMap) -> Tensor:
    """Return the first token, under the name that encoders have for it, (n, d)."""
    return _token(maps, "cls", from_end=False)


def _token(maps: FeatureMap, statistic: str, from_end: bool) -> Tensor:
    if not maps.is_sequence:
        shape, which = tuple(maps.values.shape), "last" if from_end else "first"
        raise ValueError(
            f"the statistic {statistic!r} is the {which} token of a sequence, but "
            f"layer {maps.layer!r} puts out no tokens (rows x channels x positions: "
            f"{shape}). Use 'avg', 'max' or 'flatten' for it."
        )
    if maps.mask is None:
        return maps.values[:, :, -1 if from_end else 0]
    kept = maps.mask.int()
    if from_end:
        place = kept.shape[1] - 1 - kept.flip(1).argmax(dim=1)
    else:
        place = kept.argmax(dim=1)
    return maps.values[torch.arange(place.shape[0], device=place.device), :, place]


def gram(maps: FeatureMap) -> Tensor:
    r"""Return the row sums of the Gram matrices of powers 1 to 10, (n, 10 d).

    With the map F of shape (d, positions), power p gives the signed p-th root of the
    row sums of :math:`F^p (F^p)^T` (powers of each entry); columns are ordered by
    power, then channel. Like the Gram matrix, the sums scale with the map squared.

    References
    ----------
    Sastry and Oore, "Detecting Out-of-Distribution Examples with Gram Matrices",
    ICML 2020.
    """
    values = maps.kept(0.0)
    if torch.compiler.is_compiling():  # a graph has no number of rows to cut at
        return _gram(values)
    rows = max(1, GRAM_ELEMENTS // max(values.shape[1] * values.shape[2], 1))
    return torch.cat([_gram(some) for some in values.split(rows)])


def _gram(values: Tensor) -> Tensor:
    # Each channel is divided by its own largest entry, so that its tenth power
    # neither overflows nor vanishes; the root gives the factors back unchanged.
    channel = values.abs().amax(dim=2, keepdim=True)
    tiny = torch.finfo(values.dtype).tiny
    scale = channel.amax(dim=1, keepdim=True).clamp_min(tiny)
    unit = values / channel.clamp_min(tiny)
    share = (channel / scale).transpose(1, 2)
    power, weight = unit.clone(), share.clone()
    sums = [_gram_sums(power, weight)]
    for _ in range(1, POWERS):
        # In place: a new array of the map's size each time would cost twice as much.
        power *= unit
        weight *= share
        sums.append(_gram_sums(power, weight))
    by_power = torch.cat(sums, dim=2).transpose(1, 2)
    roots = 1 / torch.arange(1, POWERS + 1, device=values.device)[:, None]
    factor = (channel * scale).transpose(1, 2)
    return (by_power.sign() * by_power.abs() ** roots * factor).flatten(1)


def _gram_sums(power: Tensor, weight: Tensor) -> Tensor:
    # F^p (F^p)^T 1 = F^p (1^T F^p)^T: the d x d matrix is never formed.
    return power @ (weight @ power).transpose(1, 2)


def flatten(maps: FeatureMap) -> Tensor:
    """Return every unit in the module's own order, masked ones zero, (n, units)."""
    values = maps.kept(0.0)
    return (values.transpose(1, 2) if maps.channels_last else values).flatten(1)


STATISTICS: dict[str, Statistic] = {
    "avg": avg,
    "mean": avg,
    "max": maximum,
    "std": std,
    "l2": l2,
    "lse": lse,
    "cls": cls,
    "first": first,
    "last": last,
    "gram": gram,
    "flatten": flatten,
}
"""The statistics by name; adding one is adding a function here."""


def checked_statistics(
    statistics: str | tuple[str, ...] | list[str],
) -> tuple[str, ...]:
    """Return the statistics' names, each known and named once.

    Parameters
    ----------
    statistics : str or sequence of str
        As the user gave them.

    Returns
    -------
    tuple of str

    Raises
    ------
    ValueError
        If there is none, one is unknown or one is named twice.

    Examples
    --------
    >>> from skood.extraction.statistics import checked_statistics
    >>> checked_statistics("avg")
    ('avg',)
    """
    names = (statistics,) if isinstance(statistics, str) else tuple(statistics)
    if not names:
        raise ValueError(f"statistics is empty: name at least one of {[*STATISTICS]}.")
    for name in names:
        if name not in STATISTICS:
            near = get_close_matches(str(name), STATISTICS)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"statistics has {name!r}; the statistics are {[*STATISTICS]}.{hint}"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"statistics={list(names)} names one of them twice.")
    return names
