"""The model that the recipes serve: digits that are known, and a detector.

    python make_model.py FOLDER

FOLDER gets `detector`, a pipeline that takes images of shape (1, 8, 8);
`reference.npz`, its scores and flags of digits that it has not seen, with which a
service compares; and `rows.npy`, 20 digits and 20 patches of photographs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from torch import nn

import skood
from skood.datasets import load_digits_ood


class DigitsNetwork(nn.Module):
    """Images of 8 x 8 pixels to eight classes."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU())
        self.block2 = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU())
        self.fc = nn.Linear(32, 8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = nn.functional.max_pool2d(self.block1(images), 2)
        return self.fc(self.block2(maps).mean(dim=(2, 3)))


def trained_network(images: np.ndarray, labels: np.ndarray) -> DigitsNetwork:
    """Return the network that a team has before it thinks of outliers."""
    torch.manual_seed(0)
    network = DigitsNetwork()
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    X, y = torch.from_numpy(images), torch.from_numpy(labels)
    for _ in range(15):
        for rows in torch.randperm(len(X)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(X[rows]), y[rows]).backward()
            optimizer.step()
    return network


def main(folder: Path) -> None:
    data = load_digits_ood()
    network = trained_network(data.X_train, data.y_train)
    features = skood.LayerFeatureTransformer(network, ["block1", "block2"])
    detector = skood.ConformalDetector(skood.Mahalanobis(covariance="oas"))
    pipeline = Pipeline([("features", features), ("detector", detector)])
    pipeline.fit(data.X_fit, data.y_fit)
    folder.mkdir(parents=True, exist_ok=True)
    skood.save(pipeline, folder / "detector", overwrite=True)
    scored = skood.score_and_predict(pipeline, data.X_test)
    np.savez(folder / "reference.npz", scores=scored.scores, flags=scored.flags)
    rows = np.concatenate([data.X_test[:20], data.X_far[:20]])
    np.save(folder / "rows.npy", rows)
    flagged = [(pipeline.predict(part) == -1).mean() for part in (rows[:20], rows[20:])]
    print(
        f"{folder}: flags {flagged[0]:.0%} of the digits, {flagged[1]:.0%} of patches"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
