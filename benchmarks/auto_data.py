"""Features of training, held-out and test rows, with pseudo outliers as views.

Images go through a network of :mod:`networks`, sentences through the encoder of
:mod:`detection_text`; what a cache's folder has is not computed again.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import data
import detection_text as text
import numpy as np
from detection import STATISTICS, cached
from networks import NETWORKS
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

import skood
from skood import LayerFeatures, LinearHead

IMAGE_KINDS = ("jigsaw", "mixup", "fourier_phase", "invert")
TEXT_KINDS = ("shuffle_words", "splice", "random_words")
ENCODER = "minilm_"
NAMES = (*NETWORKS, *(ENCODER + inliers for inliers in text.SETS))


class Sizes(NamedTuple):
    """How many rows: of training, held out for calibration, of each test set."""

    train: int
    held_out: int
    test: int


class DataSets(NamedTuple):
    """What one run is made of; the first of the tests is the in-distribution side."""

    train: LayerFeatures
    labels: NDArray[Any]
    calibration: LayerFeatures
    tests: dict[str, LayerFeatures]

    def thinned(self, seed: int) -> DataSets:
        """Return three quarters of all rows, of test rows too, drawn by the seed."""
        rng = np.random.default_rng(seed)
        train, calibration = (
            _three_quarters(self.train, rng),
            _three_quarters(self.calibration, rng),
        )
        tests = {name: x[_three_quarters(x, rng)] for name, x in self.tests.items()}
        known = self.calibration[calibration]
        return DataSets(self.train[train], self.labels[train], known, tests)


def _three_quarters(rows: LayerFeatures, rng: np.random.Generator) -> NDArray[np.intp]:
    return np.sort(rng.permutation(len(rows))[: 3 * len(rows) // 4])


def extracted(name: str, sizes: Sizes, cache: Path | None) -> DataSets:
    """Return the data sets of a network, or of sentences, by its name."""
    cache = cache and cache / name
    if name in NETWORKS:
        return _of_images(name, sizes, cache)
    return _of_texts(name.removeprefix(ENCODER), sizes, cache)


def _of_images(name: str, sizes: Sizes, cache: Path | None) -> DataSets:
    network = NETWORKS[name]
    transformer = skood.LayerFeatureTransformer(
        network.loaded(data.data_folder()),
        network.layers,
        STATISTICS,
        preprocess=network.preprocess,
        batch_size=8,
    )
    images, labels = data.train_set(network.inliers, sizes.train)
    transformer.fit(images[:2])
    train = cached(cache, "train", images, transformer.transform)
    inputs, classes = data.test_set(
        network.inliers, network.inliers, sizes.held_out + sizes.test
    )
    known = cached(cache, network.inliers, inputs, transformer.transform)
    held_out = slice(sizes.held_out)
    views = {
        kind: cached(cache, kind, changed, transformer.transform)
        for kind, changed in _changed(inputs[held_out], classes[held_out], IMAGE_KINDS)
    }
    tests = {network.inliers: known[sizes.held_out :]}
    for outliers in data.OUTLIERS[network.inliers]:
        inputs, _ = data.test_set(outliers, network.inliers, sizes.test)
        tests[outliers] = cached(cache, outliers, inputs, transformer.transform)
    calibration = LayerFeatures(blocks_of(known[held_out]), known.head, views)
    return DataSets(train, labels, calibration, tests)


def _of_texts(inliers: str, sizes: Sizes, cache: Path | None) -> DataSets:
    transformer = text.encoder_transformer(
        text.encoder_folder(None), text.LAYERS, None
    ).set_params(statistics=["avg"], verbose=0)
    transformer.fit(["one sentence", "and one more"])
    features_of = partial(text.features_of, transformer=transformer)
    files = text.SETS[inliers]
    texts, labels = _drawn(files["train"], sizes.train)
    train = cached(cache, "train", texts, features_of)
    inputs, classes = _drawn(files[inliers], sizes.held_out + sizes.test)
    known = cached(cache, inliers, inputs, features_of)
    changed = _changed(inputs[: sizes.held_out], classes[: sizes.held_out], TEXT_KINDS)
    views = {kind: cached(cache, kind, made, features_of) for kind, made in changed}
    tests = {inliers: known[sizes.held_out :]}
    for outliers in [name for name in files if name not in ("train", inliers)]:
        inputs, _ = _drawn(files[outliers], sizes.test)
        tests[outliers] = cached(cache, outliers, inputs, features_of)
    head = _head(train, labels)
    ends = {name: with_head(x, head) for name, x in tests.items()}
    views = {kind: with_head(x, head) for kind, x in views.items()}
    blocks = blocks_of(with_head(known[: sizes.held_out], head))
    calibration = LayerFeatures(blocks, head, views)
    return DataSets(with_head(train, head), labels, calibration, ends)


def _drawn(split: tuple[str, str], rows: int) -> tuple[list[str], NDArray[Any]]:
    """Return some texts of a split, which is sorted by class, and their labels."""
    texts, labels = text.sentences(*split)
    some = np.random.default_rng(0).permutation(len(texts))[:rows]
    return [texts[row] for row in some], labels[some]


def _head(train: LayerFeatures, labels: NDArray[Any]) -> LinearHead:
    """Return a classifier of sentence vectors, which an encoder has none of."""
    classifier = LogisticRegression(C=10.0, max_iter=1000)
    classifier.fit(text.sentence_vectors(train), labels)
    return LinearHead(classifier.coef_, classifier.intercept_)


def with_head(features: LayerFeatures, head: LinearHead) -> LayerFeatures:
    """Return the features with sentence vectors as the last layer, and logits."""
    blocks = blocks_of(features)
    blocks[head.layer, "avg"] = text.sentence_vectors(features)
    blocks["logits"] = head.logits(blocks[head.layer, "avg"])
    return LayerFeatures(blocks, head)


def _changed(inputs: Any, labels: NDArray[Any], kinds: tuple[str, ...]) -> Any:
    """Yield each kind with changed copies of all inputs."""
    channels = {} if isinstance(inputs, list) else {"channel_axis": 1}
    for kind in kinds:
        both, _ = skood.make_pseudo_outliers(
            inputs, labels, kind=kind, random_state=0, **channels
        )
        yield kind, both[len(inputs) :]


def blocks_of(features: LayerFeatures) -> dict[Any, NDArray[Any]]:
    """Return the blocks as arrays."""
    return {name: features.block(*name) for name in features.block_names}
