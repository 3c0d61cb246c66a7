"""Published networks on real images give the published figures."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from skood import (
    KNN,
    LSGM,
    MSP,
    Energy,
    Jigsaw,
    LayerFeatures,
    LayerFeatureTransformer,
    NormRescaledHead,
    auroc,
    fpr_at_tpr,
)

pytestmark = pytest.mark.data

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def benchmark_module(name: str) -> ModuleType:
    """The benchmark's own module; its folder is not a package."""
    spec = importlib.util.spec_from_file_location(
        f"benchmarks_{name}", BENCHMARKS / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(data_folder: Path) -> ModuleType:
    return benchmark_module("data")


@pytest.fixture(scope="module")
def networks(data_folder: Path) -> ModuleType:
    return benchmark_module("networks")


class Run:
    """One published network, its test features and its labels."""

    def __init__(self, networks, data, name, **options) -> None:
        self.network, self.data = networks.NETWORKS[name], data
        self.transformer = LayerFeatureTransformer(
            self.network.loaded(data.data_folder()),
            options.pop("layers", "logits"),
            preprocess=self.network.preprocess,
            batch_size=16,
            **options,
        )

    def features(self, name: str, rows: int) -> tuple[LayerFeatures, np.ndarray]:
        inputs, y = self.data.test_set(name, self.network.inliers, rows)
        return self.transformer.transform(inputs), y

    def fitted(self, rows: int) -> tuple[LayerFeatures, np.ndarray]:
        images, labels = self.data.train_set(self.network.inliers, rows)
        return self.transformer.fit_transform(images), labels


@pytest.fixture(scope="module")
def mnist(networks, data) -> Run:
    run = Run(networks, data, "mnist_convnet")
    run.fitted(2)
    return run


@pytest.fixture(scope="module")
def mnist_test(mnist) -> tuple[LayerFeatures, np.ndarray]:
    return mnist.features("mnist", 10000)


def test_accuracy_of_the_mnist_network(mnist_test):
    features, y = mnist_test
    assert np.mean(features.block("logits").argmax(axis=1) == y) == 0.9906


@pytest.mark.parametrize(
    ("outliers", "area", "fpr95", "fpr95_ood", "tolerance"),
    [
        ("fashion_mnist", 99.30, 1.36, 2.96, 0.01),
        ("notmnist", 96.13, 18.87, 16.76, 0.01),
        ("negative", 98.56, 5.24, 5.14, 0.01),
        # made by another library's resizing, or drawn anew
        ("cifar10", 99.87, 0.08, 0.85, 0.05),
        ("gaussian", 99.97, 0.00, 0.17, 0.05),
    ],
)
def test_msp_of_the_mnist_network(
    mnist, mnist_test, outliers, area, fpr95, fpr95_ood, tolerance
):
    known, y_known = mnist_test
    new, y_new = mnist.features(outliers, 10000)
    y = np.concatenate([y_known, y_new])
    scores = np.concatenate([MSP().fit(known).score_samples(f) for f in (known, new)])
    assert 100 * auroc(y, scores) == pytest.approx(area, abs=0.005 + tolerance)
    found = 100 * fpr_at_tpr(y, scores)
    assert found == pytest.approx(fpr95, abs=0.005 + tolerance)
    found = 100 * fpr_at_tpr(y, scores, pos_label="ood")
    assert found == pytest.approx(fpr95_ood, abs=0.005 + tolerance)


def test_resnet20_on_textures(networks, data):
    run = Run(networks, data, "resnet20", layers=["penultimate", "logits"])
    train, labels = run.fitted(600)
    (known, y_known), (new, y_new) = (
        run.features("cifar10", 800),
        run.features("textures", 400),
    )
    right = known.block("logits").argmax(axis=1) == y_known
    assert right.mean() == pytest.approx(0.9173, abs=0.03)
    y = np.concatenate([y_known, y_new])
    # the figures for all rows, and four standard errors of these
    for detector, area in [
        (MSP(), 87.64),
        (Energy(), 89.74),
        (KNN(10, layers="penultimate"), 94.57),
    ]:
        detector.fit(train, labels)
        scores = np.concatenate([detector.score_samples(f) for f in (known, new)])
        assert 100 * auroc(y, scores) == pytest.approx(area, abs=4.5), detector


def test_lsgm_on_the_network_of_its_paper(networks, data):
    run = Run(networks, data, "densenet_mahalanobis", layers=["trans1", "trans2"])
    train, labels = run.fitted(200)
    detector = LSGM(5, random_state=0).fit(train, labels)
    known, y_known = run.features("cifar10", 60)
    for outliers in ("gaussian", "rademacher"):
        new, y_new = run.features(outliers, 30)
        scores = np.concatenate([detector.score_samples(f) for f in (known, new)])
        assert auroc(np.concatenate([y_known, y_new]), scores) == 1.0


def test_norm_ratio_chooses_in_one_pipeline(networks, data):
    run = Run(
        networks,
        data,
        "mnist_convnet",
        layers=["act1", "act2", "penultimate", "logits"],
        statistics=("avg", "l2"),
        views={"jigsaw": Jigsaw(grid=3)},
    )
    train, labels = run.fitted(500)
    head = NormRescaledHead(["act1", "act2"]).fit(train, labels)
    ratios = head.norm_ratios_
    assert head.selected_layer_ == max(ratios, key=ratios.get)
    assert all(ratio > 1 for ratio in ratios.values())
