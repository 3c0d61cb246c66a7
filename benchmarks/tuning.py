"""What honest tuning costs and brings: forward passes, and figures on unseen outliers.

First a grid search over a whole pipeline, raw images in, with the rows counted that go
through the network. Then, for each source of outliers, a detector tuned on the other
sources, beside the untuned one and beside the leak: tuned on the outliers of the test.

    python benchmarks/tuning.py --data digits
    python benchmarks/tuning.py --data fashion
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from harness import write_table
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from torch import nn

from skood import (
    NAP,
    InlierKFold,
    LayerFeatureTransformer,
    LeaveOutlierSourceOut,
    auroc_scorer,
    fpr95_scorer,
)
from skood.datasets import load_digits_ood

BLOCKS = ["relu1", "relu2", "relu3"]
GRID = {
    "detector__layers": [[block] for block in BLOCKS],
    "detector__percentile": [10, 30, 50, 70, 90],
    "detector__statistic": ["avg", "max"],
}


class Problem:
    """Images to train a network on; then inliers and named sources of outliers."""

    def __init__(self, train: Any, inliers: Any, outliers: dict[str, Any]) -> None:
        self.X_train, self.y_train = train
        inlier_images, inlier_labels = inliers
        self.X = np.concatenate([inlier_images, *outliers.values()])
        n_outliers = len(self.X) - len(inlier_images)
        self.y = np.concatenate([inlier_labels, np.full(n_outliers, -1)])
        names, sizes = ["", *outliers], map(len, [inlier_images, *outliers.values()])
        self.sources = np.repeat(names, list(sizes))


def digits(rows: int) -> Problem:
    """Return the digits 0 to 7; a third source is noise."""
    data = load_digits_ood()
    noise = np.random.default_rng(0).random((rows, 1, 8, 8), dtype=np.float32)
    return Problem(
        (data.X_train, data.y_train),
        (
            np.concatenate([data.X_fit, data.X_test]),
            np.concatenate([data.y_fit, data.y_test]),
        ),
        {
            "digits 8, 9": data.X_near[:rows],
            "photographs": data.X_far[:rows],
            "uniform noise": noise,
        },
    )


def fashion(rows: int) -> Problem:
    """Return Fashion-MNIST of the folder of real data, and three sources."""
    from data import data_folder

    def images(name: str, part: str) -> tuple[Any, Any]:
        with np.load(data_folder() / f"{name}.npz") as file:
            pixels = file[f"x_{part}"][:, None].astype(np.float32) / 255
            return pixels, file[f"y_{part}"].astype(int)

    (X, y), (X_test, y_test) = (
        images("fashion_mnist", "train"),
        images("fashion_mnist", "test"),
    )
    noise = np.random.default_rng(0).random((rows, 1, 28, 28), dtype=np.float32)
    return Problem(
        (X[:10_000], y[:10_000]),
        (X_test[: 4 * rows], y_test[: 4 * rows]),
        {
            "MNIST": images("mnist", "test")[0][:rows],
            "notMNIST": images("notmnist", "test")[0][:rows],
            "uniform noise": noise,
        },
    )


def trained_network(problem: Problem, epochs: int) -> nn.Sequential:
    """Return a small convolutional network after training."""
    torch.manual_seed(0)
    network = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 16, 3, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(16, 32, 3, padding=1, stride=2),
            bn2=nn.BatchNorm2d(32),
            relu2=nn.ReLU(),
            conv3=nn.Conv2d(32, 64, 3, padding=1, stride=2),
            bn3=nn.BatchNorm2d(64),
            relu3=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(64, int(problem.y_train.max()) + 1),
        )
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    X, y = torch.from_numpy(problem.X_train), torch.from_numpy(problem.y_train)
    for _ in range(epochs):
        for rows in torch.randperm(len(X)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(X[rows]), y[rows]).backward()
            optimizer.step()
    return network


def search_over(pipeline: Pipeline) -> GridSearchCV:
    """Return the search of 30 candidates in three folds."""
    return GridSearchCV(
        pipeline, GRID, scoring=auroc_scorer, cv=InlierKFold(3), error_score="raise"
    )


def left_out_rows(
    problem: Problem, pipeline: Pipeline, train: NDArray[Any], test: NDArray[Any]
) -> dict[str, dict[str, float]]:
    """Return AUROC and FPR95 on one unseen source, for three ways to come by them."""
    X, y = problem.X, problem.y
    leak = np.concatenate([train[y[train] >= 0], test[y[test] < 0]])
    fitted = {
        "untuned": clone(pipeline).fit(X[train], y[train]),
        "tuned on other sources": search_over(pipeline).fit(X[train], y[train]),
        "tuned on the test's (leak)": search_over(pipeline).fit(X[leak], y[leak]),
    }
    return {
        how: {
            "AUROC": auroc_scorer(estimator, X[test], y[test]),
            "FPR95": 0.0 - fpr95_scorer(estimator, X[test], y[test]),
        }
        for how, estimator in fitted.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=["digits", "fashion"], default="digits")
    parser.add_argument("--rows", type=int, default=300, help="outliers a source")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--out", type=Path, help="a folder for the tables")
    args = parser.parse_args()
    problem = {"digits": digits, "fashion": fashion}[args.data](args.rows)
    network = trained_network(
        problem, args.epochs or {"digits": 25, "fashion": 4}[args.data]
    )
    seen = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal seen
        seen += len(inputs[0])

    network.register_forward_pre_hook(count)
    with tempfile.TemporaryDirectory() as folder:
        features = LayerFeatureTransformer(
            network, [*BLOCKS, "logits"], ["avg", "max"], cache=folder
        )
        pipeline = Pipeline([("features", features), ("detector", NAP())])
        start = time.perf_counter()
        search = search_over(pipeline).fit(problem.X, problem.y)
        seconds = time.perf_counter() - start
        one_pass = {
            "candidates": len(search.cv_results_["params"]),
            "images": len(problem.X),
            "rows through the network": seen,
            "search, s": seconds,
        }
        splitter = LeaveOutlierSourceOut()
        splits = splitter.split(problem.X, problem.y, problem.sources)
        table = {}
        for train, test in splits:
            source = str(np.unique(problem.sources[test][problem.y[test] < 0])[0])
            for how, row in left_out_rows(problem, pipeline, train, test).items():
                table[source, how] = row
        one_pass["rows after all searches"] = seen
    frame = 100 * pd.DataFrame.from_dict(table, orient="index")
    for how, row in frame.groupby(level=1, sort=False).mean().iterrows():
        frame.loc[("mean", how), :] = row
    cells = frame["AUROC"].map("{:.1f}".format) + frame["FPR95"].map(" / {:.1f}".format)
    out = args.out
    write_table(pd.DataFrame([one_pass]), out and out / f"{args.data}_search.csv")
    left_out = cells.unstack(sort=False)
    write_table(left_out, out and out / f"{args.data}.csv", index="left-out source")


if __name__ == "__main__":
    main()
