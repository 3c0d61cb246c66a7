"""Rows in the forms that X comes in, and what a network should make of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.utils.data import (
    Dataset,
)

from skood import LayerFeatureTransformer
from skood.features import LOGITS


def logits(network, X, preprocess=None, batch_size=4):
    features = LayerFeatureTransformer(
        network, "logits", preprocess=preprocess, batch_size=batch_size
    )
    return features.fit_transform(X).block(LOGITS)


def expected(network, X):
    with torch.no_grad():
        return network(torch.tensor(X, dtype=torch.float32)).numpy()


class Plain(Dataset):
    """Items without labels."""

    def __init__(self, X):
        self.X = X

    def __len__(self):
        return len(self.X)

    def __getitem__(self, row):
        return torch.tensor(self.X[row])


class Listed(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


KINDS = {"arrays": np.asarray, "tensors": torch.as_tensor}
HOLDERS = {"list": list, "Dataset": Listed}


def seen_by_preprocess(X, preprocess=None, network=None):
    """The forms of what preprocess got, and the features."""
    seen = []

    def noted(rows):
        seen.append(rows)
        return rows if preprocess is None else preprocess(rows)

    torch.manual_seed(0)
    found = logits(network or nn.Linear(3, 2), X, noted)
    return seen, found
