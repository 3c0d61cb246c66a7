"""From a trained network to flagged outliers, in under a minute on two cores.

A small network learns the digits 0 to 7. Then it meets what it has never seen: the
digits 8 and 9 (near outliers) and patches of photographs (far outliers).

    python examples/quickstart.py [folder for the results]
"""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import joblib
import numpy as np
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from torch import nn

from skood import (
    KNN,
    LSGM,
    NAP,
    AutoOOD,
    FeatureNorm,
    InlierKFold,
    Jigsaw,
    LayerFeatureTransformer,
    Mahalanobis,
    TargetRateThreshold,
    auroc_scorer,
    make_pseudo_outliers,
    ood_report,
)
from skood.datasets import load_digits_ood

BLOCKS = ["relu1", "relu2", "relu3"]


def small_network() -> nn.Sequential:
    """Return a convolutional network for images of 8 x 8 pixels and eight classes."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 16, 3, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(16, 32, 3, padding=1),
            bn2=nn.BatchNorm2d(32),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            conv3=nn.Conv2d(32, 64, 3, padding=1),
            bn3=nn.BatchNorm2d(64),
            relu3=nn.ReLU(),
            pool3=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(64, 8),
        )
    )


def trained_network(X: np.ndarray, y: np.ndarray, epochs: int = 25) -> nn.Sequential:
    """Return the network after training: what a user of skood already has."""
    torch.manual_seed(0)
    network = small_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    images, labels = torch.from_numpy(X), torch.from_numpy(y)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(images[rows]), labels[rows])
            loss.backward()
            optimizer.step()
    return network


def tuned_detector(
    network: nn.Sequential, X: np.ndarray, y: np.ndarray, X_new: np.ndarray
) -> TargetRateThreshold:
    """Return the best of nine pipelines, its threshold set on images that are new.

    The outliers to tune on are made from X.
    """
    X_tune, y_tune = make_pseudo_outliers(X, y, kind="mixup", random_state=0)
    pipeline = Pipeline(
        [("features", LayerFeatureTransformer(network, BLOCKS)), ("detector", KNN(5))]
    )
    grid = {
        "features__layers": [["relu2"], ["relu3"], ["relu2", "relu3"]],
        "detector__n_neighbors": [1, 5, 20],
    }
    search = GridSearchCV(pipeline, grid, scoring=auroc_scorer, cv=InlierKFold(3))
    search.fit(X_tune, y_tune)
    print("tuned:", search.best_params_)
    return TargetRateThreshold(search.best_estimator_, cv="prefit").fit(X_new)


def fitted_pipelines(
    network: nn.Sequential, X: np.ndarray, y: np.ndarray, X_new: np.ndarray
) -> dict[str, Pipeline]:
    """Return pipelines that take images, one extraction for all detectors.

    They are fitted on what the network was trained on; images that are new to it set
    their thresholds.
    """
    features = LayerFeatureTransformer(
        network, [*BLOCKS, "logits"], ["avg", "max", "l2"], views={"jigsaw": Jigsaw()}
    )
    extracted, unseen = features.fit_transform(X), features.transform(X_new)
    detectors = {
        "Mahalanobis, last block": Mahalanobis("relu3", covariance="oas"),
        "Mahalanobis, all blocks": Mahalanobis(covariance="oas"),
        "KNN, last block": KNN(5, layers="relu3"),
        "KNN, all blocks": KNN(5),
        "LSGM": LSGM(n_components=8, random_state=0),
        "NAP": NAP(),
        "FeatureNorm": FeatureNorm(),
        "AutoOOD": AutoOOD(),
    }
    for detector in detectors.values():
        detector.fit(extracted, y, threshold_data=unseen)
    block = detectors["FeatureNorm"].selected_layer_
    print(f"FeatureNorm chose the block {block} by its NormRatio")
    return {
        name: Pipeline([("features", features), ("detector", detector)])
        for name, detector in detectors.items()
    }


def score_histograms(
    scores: dict[str, np.ndarray], threshold: float, path: Path
) -> None:
    """Draw the scores of each kind of input and the threshold."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    bins = np.linspace(min(map(np.min, scores.values())), 0, 50)
    for (name, values), colour in zip(
        scores.items(), ["#0072B2", "#E69F00", "#D55E00"], strict=True
    ):
        axes.hist(values, bins, density=True, alpha=0.6, label=name, color=colour)
    axes.axvline(threshold, color="black", linestyle="--", label="threshold")
    axes.set(xlabel="score (higher: more in-distribution)", ylabel="density")
    axes.set_title("Tuned detector")
    axes.legend()
    figure.savefig(path, dpi=120)


LOAD_AND_SCORE = """
import sys, joblib, numpy as np
pipeline = joblib.load(sys.argv[1])
np.save(sys.argv[3], pipeline.score_samples(np.load(sys.argv[2])))
"""


def scores_in_a_fresh_process(file: Path, X: np.ndarray) -> np.ndarray:
    """Return what the saved pipeline says when another process loads it."""
    images, scores = file.with_name("images.npy"), file.with_name("scores.npy")
    np.save(images, X)
    command = [sys.executable, "-c", LOAD_AND_SCORE, *map(str, (file, images, scores))]
    subprocess.run(command, check=True)
    result = np.load(scores)
    images.unlink()
    scores.unlink()
    return result


def main(folder: Path) -> None:
    """Train, extract, fit, tune, report, draw, save and load."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # images of 64 pixels are too small for more
    data = load_digits_ood()

    network = trained_network(data.X_train, data.y_train)
    with torch.no_grad():
        guesses = network.eval()(torch.from_numpy(data.X_test)).argmax(dim=1)
    print(f"network: {np.mean(guesses.numpy() == data.y_test):.1%} of digits 0-7 right")

    known = (network, data.X_train, data.y_train, data.X_fit)
    pipelines = fitted_pipelines(*known)
    pipelines["KNN, tuned"] = tuned_detector(*known)

    X = np.concatenate([data.X_test, data.X_near, data.X_far])
    y = np.concatenate([data.y_test, np.full(len(X) - len(data.y_test), -1)])
    sources = np.repeat(
        ["digits 0-7", "near: digits 8, 9", "far: photographs"],
        [len(data.X_test), len(data.X_near), len(data.X_far)],
    )
    scores = {name: pipeline.score_samples(X) for name, pipeline in pipelines.items()}
    report = ood_report(y, scores, sources=sources, n_bootstrap=200)
    report["flags_right"] = [
        flags_right(pipelines[name], X, y, sources, source)
        for name, source in report.index
    ]
    columns = ["auroc", "auroc_low", "auroc_high", "fpr95", "flags_right"]
    print("\n" + report[columns].to_string(float_format="{:.3f}".format))
    print("flags_right: balanced accuracy of the flags at 5 % false alarms\n")

    tuned = pipelines["KNN, tuned"]
    alarms = np.mean(tuned.predict(data.X_test) == -1)
    print(f"tuned detector: {alarms:.1%} false alarms on new digits 0-7 (5 % wanted)")
    picture = folder / "scores.png"
    kinds = {name: scores["KNN, tuned"][sources == name] for name in np.unique(sources)}
    score_histograms(kinds, tuned.offset_, picture)

    file = folder / "detector.joblib"
    joblib.dump(tuned, file)
    again = scores_in_a_fresh_process(file, X)
    same = "the same scores" if np.array_equal(again, scores["KNN, tuned"]) else "OTHER"
    print(f"{file}: loaded in a fresh process, gives {same}")
    print(f"{picture}: drawn")


def flags_right(
    pipeline: Pipeline, X: np.ndarray, y: np.ndarray, sources: np.ndarray, source: str
) -> float:
    """Return the balanced accuracy of ``predict`` on the inliers and one source."""
    flags = pipeline.predict(X)
    alarms = np.mean(flags[y >= 0] == -1)
    outlying = (y < 0) if source == "mean" else (sources == source)
    return float((1 - alarms + np.mean(flags[outlying] == -1)) / 2)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo_output"))
