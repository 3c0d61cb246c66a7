"""FeatureNorm, NormRatio and the rescaled logits, from whole maps and in loops."""

from __future__ import annotations

import math

import numpy as np


def channel_norms(maps):
    """Return sqrt(sum over positions of max(z, 0)^2), (n, channels)."""
    return np.array(
        [
            [
                math.sqrt(math.fsum(max(z, 0.0) ** 2 for z in channel))
                for channel in map_
            ]
            for map_ in np.reshape(maps, (*np.shape(maps)[:2], -1)).tolist()
        ]
    )


def feature_norm(maps):
    return np.array([math.fsum(row) / len(row) for row in channel_norms(maps)])


def norm_ratio(maps, jigsaw_maps):
    norms, of_jigsaws = feature_norm(maps), feature_norm(jigsaw_maps)
    ratios = [a / b for a, b in zip(norms, of_jigsaws, strict=True) if b > 0]
    return math.fsum(ratios) / len(ratios)


def matching_scale(penultimate, norms):
    lengths = [math.sqrt(math.fsum(v * v for v in row)) for row in penultimate]
    return (math.fsum(lengths) / len(lengths)) / (math.fsum(norms) / len(norms))


def rescaled_logits(penultimate, norms, weight, bias, scale):
    rows = []
    for h, norm in zip(penultimate, norms, strict=True):
        direction = h / math.sqrt(math.fsum(v * v for v in h))
        rows.append(
            [
                w @ (scale * norm * direction) + b
                for w, b in zip(weight, bias, strict=True)
            ]
        )
    return np.array(rows)
