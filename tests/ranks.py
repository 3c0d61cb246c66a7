"""A counted network, and its extraction by ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from skood import FeatureStore, LayerFeatureTransformer

HERE = Path(__file__).resolve().parent
N, BATCH = 100, 8


class Counted(nn.Sequential):
    """A network that knows how many rows it has seen, and fails after so many."""

    rows, most = 0, np.inf
    cache_key = "counting changes nothing"

    def forward(self, x):
        Counted.rows += len(x)
        if Counted.rows > self.most:
            raise RuntimeError("out of order")
        return super().forward(x)


def network(seed=0):
    torch.manual_seed(seed)
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    return Counted(*layers).eval()


def transformer(seed=0, batch_size=BATCH, **parameters):
    layers = ["0", "logits"]
    return LayerFeatureTransformer(
        network(seed), layers, batch_size=batch_size, **parameters
    )


def extract(folder, X, shard, y=None, estimator=None, **options):
    estimator = transformer() if estimator is None else estimator
    return estimator.extract_to(
        FeatureStore(folder), X, y, shard=shard, progress=False, **options
    )


def assert_equal(features, expected):
    assert features.block_names == expected.block_names
    for name in expected.block_names:
        np.testing.assert_array_equal(features.block(*name), expected.block(*name))
