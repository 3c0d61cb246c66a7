"""Every detector on every in/out pair of real images, in one table.

    python benchmarks/detection.py --network mnist_convnet [--train-rows 5000]
        [--test-rows 10000] [--cache FOLDER] [--out FOLDER]

The images and the published weights are read from the folder SKOOD_DATA. Nothing is
tuned on outliers, but where a detector's name says on which; these are then left out of
its row. The features are computed once and kept in the cache's folder, if one is given.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Mapping, Sized
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

os.environ.setdefault("OMP_NUM_THREADS", "1")

import data
import numpy as np
import pandas as pd
import sklearn
import torch
from networks import NETWORKS, Published
from numpy.typing import NDArray
from published import comparison
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

import skood
from skood import LayerFeatures

STATISTICS = ("avg", "max", "l2")

Labelled: TypeAlias = tuple[LayerFeatures, NDArray[Any]]
Scores: TypeAlias = Mapping[str, Mapping[str, NDArray[np.float64]]]


def extracted(
    network: Published, train_rows: int, test_rows: int, cache: Path | None
) -> tuple[Labelled, dict[str, Labelled]]:
    """Return training features and labels, and those of each test set by its name.

    The training features have jigsaw views; what the cache has is not computed again.
    """
    transformer = skood.LayerFeatureTransformer(
        network.loaded(data.data_folder()),
        network.layers,
        STATISTICS,
        preprocess=network.preprocess,
        batch_size=8,  # maps that fit a core's cache: several times faster than 256
        views={"jigsaw": skood.Jigsaw(grid=3)},
    )
    images, labels = data.train_set(network.inliers, train_rows)
    train = cached(cache, "train", images, transformer.fit_transform)
    transformer.fit(images[:2])
    tests = {}
    for name in [network.inliers, *data.OUTLIERS[network.inliers]]:
        inputs, y = data.test_set(name, network.inliers, test_rows)
        tests[name] = cached(cache, name, inputs, transformer.transform), y
    return (train, labels), tests


def cached(
    cache: Path | None, name: str, inputs: Sized, make: Callable[[Any], LayerFeatures]
) -> LayerFeatures:
    """Return the features of some inputs, from the cache's folder if it has them."""
    if cache is None:
        return make(inputs)
    folder = cache / f"{name}-{len(inputs)}"
    if not folder.exists():
        print(f"extracting {name}, {len(inputs)} rows", flush=True)
        make(inputs).save(folder)
    return LayerFeatures.load(folder)


class Entry(NamedTuple):
    """A detector of the table, and the outliers that configure it, if any."""

    detector: Any
    outliers: str | None = None


def detectors(network: Published) -> dict[str, Entry]:
    """Return the detectors of the table by name."""
    rescaled = skood.NormRescaledHead(network.norm_layers)
    reference = skood.LSGM(layers=network.lsgm_layers, random_state=0)
    nap = skood.NAP(network.activations, auto=True)
    one_covariance = skood.Mahalanobis(network.blocks, joint=True, covariance="oas")
    return {
        "MSP": Entry(skood.MSP()),
        "MaxLogit": Entry(skood.MaxLogit()),
        "Energy": Entry(skood.Energy()),
        "KNN": Entry(skood.KNN(50, layers="penultimate")),
        "Mahalanobis": Entry(skood.Mahalanobis("penultimate")),
        "Mahalanobis, OAS": Entry(skood.Mahalanobis("penultimate", covariance="oas")),
        "Mahalanobis++, OAS": Entry(
            skood.Mahalanobis("penultimate", covariance="oas", normalize=True)
        ),
        "Mahalanobis, all blocks": Entry(skood.Mahalanobis(network.blocks)),
        "Mahalanobis, all blocks as one, OAS": Entry(one_covariance),
        "LSGM, reference's layers": Entry(reference),
        "LSGM, all blocks": Entry(skood.LSGM(layers=network.blocks, random_state=0)),
        "NAP, max": Entry(skood.NAP(network.activations, "max")),
        "NAP, avg": Entry(skood.NAP(network.activations, "avg")),
        "NAP, auto on jigsaws": Entry(nap, "jigsaw"),
        "NAP, auto on Tiny ImageNet": Entry(clone(nap), "tiny_imagenet"),
        "FeatureNorm": Entry(skood.FeatureNorm(network.norm_layers)),
        "Energy, selected norm": Entry(make_pipeline(rescaled, skood.Energy())),
    }


def scored_by(
    entries: Mapping[str, Entry], tests: Mapping[str, LayerFeatures], train: Labelled
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return each detector's scores of each test set, fitted on the training rows.

    A test set that configured a detector is not scored by it.
    """
    scores = {}
    for name, (detector, outliers) in entries.items():
        start = time.perf_counter()
        detector.fit(*with_outliers(train, outliers, tests))
        fitted = time.perf_counter()
        scores[name] = {
            test: np.asarray(detector.score_samples(features))
            for test, features in tests.items()
            if test != outliers
        }
        rows = sum(map(len, scores[name].values()))
        per_row = 1e6 * (time.perf_counter() - fitted) / rows
        print(f"{name}: fit {fitted - start:.1f} s, {per_row:.0f} us a row", flush=True)
    return scores


def with_outliers(
    train: Labelled, outliers: str | None, tests: Mapping[str, LayerFeatures]
) -> Labelled:
    """Return the training rows and, with the label -1, those of a view or test set."""
    features, labels = train
    if outliers is None:
        return train
    more = features.views[outliers] if outliers in features.views else tests[outliers]
    both = LayerFeatures.concatenate([features, more])
    return both, np.concatenate([labels.astype(int), np.full(len(more), -1)])


def measured(scores: Scores, inliers: str) -> pd.DataFrame:
    """Return one row an outlier set and detector: AUROC, FPR95 and TNR95 in per cent.

    FPR95 has the in-distribution positive; TNR95 has the outliers positive, as in
    LSGM's paper: the share of the in-distribution accepted when 95 % of outliers are
    refused.
    """
    rows = []
    for detector, by_set in scores.items():
        known = by_set[inliers]
        for name, new in by_set.items():
            if name == inliers:
                continue
            y = np.repeat([0, -1], [len(known), len(new)])
            both = np.concatenate([known, new])
            rows.append(
                {
                    "detector": detector,
                    "outliers": name,
                    "n_id": len(known),
                    "n_ood": len(new),
                    "auroc": 100 * skood.auroc(y, both),
                    "fpr95": 100 * skood.fpr_at_tpr(y, both),
                    "tnr95": 100 * (1 - skood.fpr_at_tpr(y, both, pos_label="ood")),
                }
            )
    return pd.DataFrame(rows)


def wide(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return detectors by outlier sets, with the mean over these."""
    cells = table.pivot(index="detector", columns="outliers", values=metric)
    cells = cells.loc[table["detector"].unique(), table["outliers"].unique()]
    return cells.assign(mean=cells.mean(axis=1))


def report(name: str, scores: Scores, inliers: str, out: Path | None) -> None:
    """Print the tables of a network, and write them to a folder if one is given."""
    table = measured(scores, inliers)
    tables = {metric: wide(table, metric) for metric in ("auroc", "fpr95", "tnr95")}
    for metric, cells in tables.items():
        print(f"\n{name}, {metric}\n\n{cells.round(2).to_string()}")
    known = comparison(name, table)
    print(f"\n{known.round(2).to_string(index=False)}")
    if out:
        out.mkdir(parents=True, exist_ok=True)
        for metric, cells in tables.items():
            cells.to_csv(out / f"{name}_{metric}.csv", float_format="%.2f")
        known.to_csv(out / f"{name}_known.csv", index=False, float_format="%.2f")


def machine() -> str:
    """Return what the figures depend on, in a line."""
    return (
        f"{platform.machine()}, {torch.get_num_threads()} threads, Python "
        f"{platform.python_version()}, torch {torch.__version__}, NumPy "
        f"{np.__version__}, scikit-learn {sklearn.__version__}, skood "
        f"{skood.__version__}"
    )


def main() -> None:
    """Print the tables, and write them as CSV."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", choices=NETWORKS, required=True)
    parser.add_argument("--train-rows", type=int, default=5000)
    parser.add_argument("--test-rows", type=int, default=10000)
    parser.add_argument("--cache", type=Path, help="folder where features are kept")
    parser.add_argument("--out", type=Path, help="folder for the tables as CSV")
    options = parser.parse_args()
    network = NETWORKS[options.network]
    cache = options.cache and options.cache / options.network
    train, tests = extracted(network, options.train_rows, options.test_rows, cache)
    known, y = tests[network.inliers]
    right = known.block("logits").argmax(axis=1) == y
    print(f"{machine()}\n{options.network}: accuracy {100 * right.mean():.2f} %")
    only_features = {name: features for name, (features, _) in tests.items()}
    scores = scored_by(detectors(network), only_features, train)
    report(options.network, scores, network.inliers, options.out)


if __name__ == "__main__":
    main()
