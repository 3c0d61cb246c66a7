"""Detectors that are trained, beside post-hoc ones on the same network.

A network learns the classes with cross-entropy and with anchors (AMP), and the one of
cross-entropy is tuned with the energy regularisation for half as many epochs. AMP also
stands on its cached embeddings. The known outliers of the regularisation are other
images of one of the outlier sets, whose column is then of a seen source (marked *).

    python benchmarks/amp.py --train-rows 5000 --epochs 10 --seeds 3
    python benchmarks/amp.py --data cifar10 --train-rows 15000 --epochs 60 --seeds 1

The first has Fashion-MNIST in and MNIST, notMNIST and noise out, with a small ResNet,
and takes minutes on two cores; the second has CIFAR-10 in, with a ResNet-18, and wants
a GPU. The images are read from the folder SKOOD_DATA. Nothing is tuned on the outliers
of the table.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
from data import data_folder, test_set, train_set
from resnet import ResNet18
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import LRScheduler
from torch import Tensor, nn

from skood import (
    AMP,
    KNN,
    MSP,
    AnchoredClassifier,
    Energy,
    EnergyRegularizedClassifier,
    LayerEnergy,
    LayerFeatureTransformer,
    Mahalanobis,
    auroc,
    fpr_at_tpr,
)
from skood.neural import MLP, ImageCorruption

CORRUPTIONS = {
    "none": None,
    "jitter, blur": ImageCorruption(scale=None, flip=0.0, grayscale=0.0),
    "flip, grey": ImageCorruption(scale=None, jitter=0.0),
    "crop": ImageCorruption(flip=0.0, jitter=0.0, grayscale=0.0),
    "all but crop": ImageCorruption(scale=None),
    "all": ImageCorruption(),
}
KNOWN = 2000
TUNING_RATE = 1e-3


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, the first of them with stride 2."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.shortcut = nn.Conv2d(n_in, n_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(out + self.shortcut(x))


class SmallResNet(nn.Module):
    """Three blocks on a stem of stride 2, for grey images of 28 x 28."""

    def __init__(self, width: int = 16, n_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.block1 = Block(width, width, 1)
        self.block2 = Block(width, 2 * width, 2)
        self.block3 = Block(2 * width, 4 * width, 2)
        self.fc = nn.Linear(4 * width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images of shape (n, 1, 28, 28)."""
        x = self.block3(self.block2(self.block1(torch.relu(self.stem(x)))))
        return self.fc(x.mean(dim=(2, 3)))


@dataclass
class Data:
    """Inputs of one run, as the network takes them, and what it is trained with."""

    network: type[nn.Module]
    layers: list[str]
    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    known: np.ndarray
    known_name: str
    out: dict[str, np.ndarray]
    settings: dict[str, Any]


def fashion_mnist(train_rows: int, test_rows: int, epochs: int, seed: int) -> Data:
    """Return another sample of the training images for each seed."""
    rng = np.random.default_rng(seed)
    files = {n: np.load(data_folder() / f"{n}.npz") for n in ("fashion_mnist", "mnist")}
    letters = np.load(data_folder() / "notmnist.npz")["x_test"]
    fashion, digits = files["fashion_mnist"], files["mnist"]
    chosen = rng.permutation(len(fashion["x_train"]))[:train_rows]
    images = fashion["x_train"][chosen]
    mean, scale = images.mean() / 255, images.std() / 255

    def ready(pixels: np.ndarray) -> np.ndarray:
        unit = pixels.astype(np.float32)[:, None] / 255
        return ((unit - mean) / scale).astype(np.float32)

    return Data(
        SmallResNet,
        # Before their ReLUs, where an energy has room in both directions.
        ["block1.bn2", "block2.bn2", "block3.bn2", "logits"],
        ready(images),
        fashion["y_train"][chosen],
        ready(fashion["x_test"][:test_rows]),
        fashion["y_test"][:test_rows],
        ready(letters[-KNOWN:]),
        "notmnist",
        {
            "mnist": ready(digits["x_test"][:test_rows]),
            "notmnist": ready(letters[:test_rows]),
            "noise": ready(rng.uniform(0, 255, (test_rows, 28, 28))),
        },
        {"batch_size": 64, "lr": 2e-3},
    )


def cifar10(train_rows: int, test_rows: int, epochs: int, seed: int) -> Data:
    """Return the training images in another order for each seed.

    Trained as in the paper's supplement: SGD, momentum 0.9, weight decay 5e-4, crops
    and flips; the learning rate falls along a cosine to fit few epochs.
    """
    images, labels = train_set("cifar10", 15_000)
    chosen = np.random.default_rng(seed).permutation(len(images))[:train_rows]
    moments = [f(images, axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.std)]

    def ready(inputs: np.ndarray) -> np.ndarray:
        if inputs.dtype != np.uint8:
            return inputs  # noise is given to the network as it is
        return ((inputs - moments[0]) / moments[1]).astype(np.float32)

    def out(name: str, rows: int) -> np.ndarray:
        return ready(test_set(name, "cifar10", rows)[0])

    names = ["cifar100", "textures", "tiny_imagenet", "gaussian", "rademacher"]
    X_test, y_test = test_set("cifar10", "cifar10", test_rows)
    return Data(
        ResNet18,
        [f"layer{i}.1.bn2" for i in (1, 2, 3, 4)] + ["logits"],
        ready(images[chosen]),
        labels[chosen],
        ready(X_test),
        y_test,
        out("tiny_imagenet", 3000)[1000:],
        "tiny_imagenet",
        {name: out(name, min(test_rows, 1000)) for name in names},
        {
            "batch_size": 128,
            "lr": 0.1,
            "optimizer": torch.optim.SGD,
            "optimizer__momentum": 0.9,
            "optimizer__weight_decay": 5e-4,
            "callbacks": [LRScheduler("CosineAnnealingLR", T_max=epochs)],
            "augment": ImageCorruption(scale=(0.7, 1.0), jitter=0.0, grayscale=0.0),
            "autocast": torch.cuda.is_available(),
        },
    )


DATA = {"fashion_mnist": fashion_mnist, "cifar10": cifar10}


def posthoc(net: Any, data: Data) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield post-hoc detectors of a trained network, with their scores."""
    layers = data.layers
    features = LayerFeatureTransformer(net, [*layers, "penultimate"], ["avg", "lse"])
    train = features.fit_transform(data.X_train)
    tests = {name: features.transform(X) for name, X in inputs(data).items()}
    detectors = {
        "MSP": MSP(),
        "Energy": Energy(),
        "LayerEnergy": LayerEnergy(layers),
        "LayerEnergy, hidden layers": LayerEnergy(layers[:-1]),
        "LayerEnergy, mahalanobis": LayerEnergy(layers, "mahalanobis"),
        "Mahalanobis": Mahalanobis("penultimate"),
        "KNN": KNN(layers="penultimate"),
    }
    for layer in layers:
        detectors[f"LayerEnergy, {layer} alone"] = LayerEnergy(layer)
    for name, detector in detectors.items():
        detector.fit(train, data.y_train)
        yield name, {source: detector.score_samples(X) for source, X in tests.items()}


def inputs(data: Data) -> dict[str, np.ndarray]:
    """Return the test sets by name, the in-distribution one as ``"in"``."""
    return {"in": data.X_test, **data.out}


def row(method: str, accuracy: float, scores: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return one row of the table."""
    out: dict[str, Any] = {"method": method, "accuracy": 100 * accuracy}
    for source in scores:
        if source == "in":
            continue
        y = np.repeat([1, -1], [len(scores["in"]), len(scores[source])])
        s = np.concatenate([scores["in"], scores[source]])
        out[f"{source} auroc"] = 100 * auroc(y, s)
        out[f"{source} fpr95"] = 100 * fpr_at_tpr(y, s)
    return out


def amp_rows(
    net: Any, title: str, tests: dict[str, np.ndarray], accuracy: float, ks: list[int]
) -> Iterator[dict[str, Any]]:
    """Yield AMP with several numbers of anchors over one classifier."""
    for k in ks:
        # The rows set the threshold only, which no figure here depends on.
        detector = AMP(FrozenEstimator(net), n_anchors=k).fit(tests["in"][:50])
        scores = {name: detector.score_samples(X) for name, X in tests.items()}
        yield row(f"{title}, {k} anchors", accuracy, scores)


def run(data: Data, seed: int, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the rows of one seed."""
    settings = {
        **data.settings,
        "max_epochs": args.epochs,
        "train_split": None,
        "random_state": seed,
    }
    plain = EnergyRegularizedClassifier(data.network, weight=0.0, **settings)
    plain.fit(data.X_train, data.y_train)
    accuracy = plain.score(data.X_test, data.y_test)
    for name, scores in posthoc(plain, data):
        yield row(f"cross-entropy: {name}", accuracy, scores)
    yield from embedding_rows(plain, data, seed)
    for name, every in [("none", 1), ("all", 1), ("all", 5), *args.ablation]:
        net = AnchoredClassifier(
            data.network,
            corruption=CORRUPTIONS[name],
            corrupt_every=every,
            **settings,
        ).fit(data.X_train, data.y_train)
        often = "" if name == "none" else f", 1 batch in {every}"
        accuracy = net.score(data.X_test, data.y_test)
        many = [2, 5, 10, 20] if name in ("none", "all") else [5]
        title = f"AMP, corruption: {name}{often}"
        yield from amp_rows(net, title, inputs(data), accuracy, many)
    yield from regularised_rows(plain, data, settings)


def regularised_rows(
    plain: Any, data: Data, settings: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield the detectors of a network that is tuned with the regularisation."""
    epochs = max(settings["max_epochs"] // 2, 2)
    tuned = {**settings, "max_epochs": epochs, "lr": TUNING_RATE}
    for name, known in [
        ("pseudo", data.known[:0]),
        (f"{data.known_name}*", data.known),
    ]:
        net = EnergyRegularizedClassifier(plain.module_, data.layers, **tuned)
        X = np.concatenate([data.X_train, known])
        y = np.concatenate([data.y_train.astype(int), np.full(len(known), -1)])
        accuracy = net.fit(X, y).score(data.X_test, data.y_test)
        for method, scores in posthoc(net, data):
            yield row(f"regularised, {name}: {method}", accuracy, scores)


def embedding_rows(net: Any, data: Data, seed: int) -> Iterator[dict[str, Any]]:
    """Yield AMP with an anchored head on the cached embeddings of a network."""
    embed = LayerFeatureTransformer(net, "penultimate")
    train = np.asarray(embed.fit_transform(data.X_train))
    tests = {name: np.asarray(embed.transform(X)) for name, X in inputs(data).items()}
    for name, corruption in [("none", None), ("noise, dropout", "auto")]:
        head = AnchoredClassifier(
            MLP,
            module__n_features=train.shape[1],
            module__n_classes=10,
            corruption=corruption,
            standardize=True,
            max_epochs=10,
            train_split=None,
            random_state=seed,
        ).fit(train, data.y_train)
        accuracy = head.score(tests["in"], data.y_test)
        title = f"AMP on embeddings, corruption: {name}"
        yield from amp_rows(head, title, tests, accuracy, [5])


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return means over the seeds, with their standard deviations."""
    frame = pd.DataFrame(rows).drop(columns="seed")
    groups = frame.groupby("method", sort=False)
    mean, spread = groups.mean(), groups.std(ddof=0)
    return mean.map("{:.1f}".format) + "±" + spread.map("{:.1f}".format)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=DATA, default="fashion_mnist")
    parser.add_argument("--train-rows", type=int, default=5000)
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument(
        "--ablation",
        action="store_const",
        const=[(part, 1) for part in list(CORRUPTIONS)[1:-1]],
        default=[],
        help="train with parts of the corruption, too (the paper's table 8)",
    )
    parser.add_argument("--out", type=Path, help="file for the rows of all seeds, csv")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        data = DATA[args.data](args.train_rows, args.test_rows, args.epochs, seed)
        start = time.perf_counter()
        for new in run(data, seed, args):
            print(f"{time.perf_counter() - start:6.0f} s  {new['method']}", flush=True)
            rows.append({"seed": seed, **new})
        if args.out:
            pd.DataFrame(rows).to_csv(args.out, index=False)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(
        f"\nin: {args.data}, {len(data.X_train)} training rows, {len(data.X_test)} test"
        f" rows, {args.epochs} epochs, {args.seeds} seeds (mean±deviation), {where}"
    )
    print(table(rows).to_string())


if __name__ == "__main__":
    main()
