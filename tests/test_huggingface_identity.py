"""Networks and tokenizers of transformers are known again, in a cache and in files."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from language_models import (
    WORDS,
    bert,
    llama,
    make_tokenizer,
    sentences,
    tokenizers,
    tokens,
    transformers,
)
from sklearn.pipeline import make_pipeline
from torch import nn

from skood import (
    Energy,
    FeatureStore,
    LayerFeatureTransformer,
)
from skood.store.identity.network import callable_fingerprint, structure_fingerprint

# Fingerprints ----------------------------------------------------------------------


def test_using_a_tokenizer_does_not_change_its_fingerprint():
    tokenizer = make_tokenizer()
    before = callable_fingerprint(partial(tokens, tokenizer))
    tokenizer(["a b", "c"], padding="max_length", max_length=12, truncation=True)
    tokenizer(["a " * 40])  # noted in the tokenizer as longer than its network takes
    tokenizer.pad(tokenizer(["a", "b c"]))
    tokenizer.decode([3, 4])
    assert callable_fingerprint(partial(tokens, tokenizer)) == before
    assert callable_fingerprint(partial(tokens, copy.deepcopy(tokenizer))) == before
    assert callable_fingerprint(partial(tokens, make_tokenizer())) == before


def test_a_tokenizer_that_reads_otherwise_has_another_fingerprint():
    shorter = make_tokenizer()
    shorter.model_max_length = 12
    bare = make_tokenizer()
    bare.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A", special_tokens=[]
    )
    more = make_tokenizer()
    more.add_tokens(["q"])
    lower = make_tokenizer()
    lower.backend_tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    others = [make_tokenizer("left"), make_tokenizer(words=WORDS[::-1])]
    found = [make_tokenizer(), shorter, bare, more, lower, *others]
    assert len({*map(callable_fingerprint, found)}) == len(found)


def test_where_things_were_loaded_from_does_not_count(tmp_path):
    tokenizer, network = make_tokenizer(), bert()
    found = []
    for folder in (tmp_path / "one", tmp_path / "other"):
        tokenizer.save_pretrained(folder)
        network.save_pretrained(folder)
        loaded = transformers.AutoTokenizer.from_pretrained(folder)
        kind = transformers.AutoModelForSequenceClassification
        found += [
            callable_fingerprint(partial(tokens, loaded)),
            structure_fingerprint(kind.from_pretrained(folder)),
        ]
    assert found[:2] == found[2:]


def test_a_tokenizer_that_was_saved_and_loaded_is_the_same(tmp_path):
    tokenizer = make_tokenizer()
    before = callable_fingerprint(partial(tokens, tokenizer))
    tokenizer.save_pretrained(tmp_path)
    for kind in (type(tokenizer), transformers.AutoTokenizer):
        loaded = kind.from_pretrained(tmp_path)
        assert callable_fingerprint(partial(tokens, loaded)) == before
        loaded.pad_token = "[UNK]"
        assert callable_fingerprint(partial(tokens, loaded)) != before
    assert callable_fingerprint(partial(tokens, tokenizer)) == before


def test_a_tokenizer_that_is_read_by_name_counts(monkeypatch):
    monkeypatch.setitem(globals(), "READ", make_tokenizer())
    preprocess = eval("lambda texts: READ(texts, padding=True)", globals())
    before = callable_fingerprint(preprocess)
    preprocess(["a b", "c"])
    assert callable_fingerprint(preprocess) == before
    monkeypatch.setitem(globals(), "READ", make_tokenizer("left"))
    assert callable_fingerprint(preprocess) != before


def test_a_network_that_was_saved_and_loaded_is_the_same(tmp_path):
    network = bert()
    before = structure_fingerprint(network)
    network.save_pretrained(tmp_path)
    assert structure_fingerprint(network) == before
    assert structure_fingerprint(type(network).from_pretrained(tmp_path)) == before


def test_running_a_network_does_not_change_its_fingerprint():
    network = bert(output_hidden_states=True)
    before = structure_fingerprint(network)
    network(**tokens(make_tokenizer(), sentences()))
    assert structure_fingerprint(network) == before


def test_settings_that_are_in_no_weight_count():
    plain = {"rope_theta": 1e4, "rope_type": "default"}
    networks = [
        llama(rope_parameters=plain),
        llama(rope_parameters={**plain, "rope_theta": 100.0}),
        llama(rope_parameters=plain, attention_bias=False, rms_norm_eps=1e-3),
    ]
    assert len({*map(structure_fingerprint, networks)}) == 3


def test_buffers_that_are_in_no_state_count():
    class Normalised(nn.Module):
        def __init__(self, mean):
            super().__init__()
            self.register_buffer("mean", torch.tensor(mean), persistent=False)

        def forward(self, x):
            return x - self.mean

    found = [structure_fingerprint(Normalised(mean)) for mean in (0.5, 0.5, 0.25)]
    assert found[0] == found[1] != found[2]


# The cache -------------------------------------------------------------------------

LAYERS = ["bert.encoder.layer.1", "logits"]
SCRIPT = """
import sys
from functools import partial
from language_models import bert, make_tokenizer, sentences, tokens
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from skood import Energy, FeatureStore, LayerFeatureTransformer

if __name__ == "__main__":
    store = FeatureStore(sys.argv[1])
    features = LayerFeatureTransformer(
        bert(), sys.argv[2:], cache=store, batch_size=4,
        preprocess=partial(tokens, make_tokenizer()),
    )
    features.fit(sentences())
    features.transform(sentences())
    print(store.stats()["misses"])
    search = GridSearchCV(
        make_pipeline(features.set_params(cache=sys.argv[1]), Energy()),
        {"energy__temperature": [1.0, 2.0]},
        cv=KFold(2), n_jobs=2, error_score="raise",
        scoring=lambda estimator, X, y=None: estimator.score_samples(X).mean(),
    ).fit(sentences())
    print(len(FeatureStore(sys.argv[1]).sources))
"""


@pytest.mark.slow
def test_the_cache_is_found_again_by_other_processes(tmp_path):
    store = FeatureStore(tmp_path / "store")
    preprocess = partial(tokens, make_tokenizer())
    LayerFeatureTransformer(
        bert(), LAYERS, cache=store, batch_size=4, preprocess=preprocess
    ).fit_transform(sentences())
    assert store.stats()["misses"] == 20
    here = Path(__file__).resolve().parent
    (tmp_path / "script.py").write_text(SCRIPT)
    path = os.pathsep.join([str(here), str(here.parent)])
    environment = {**os.environ, "PYTHONPATH": path}
    environment.pop("TOKENIZERS_PARALLELISM", None)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", tmp_path / "store", *LAYERS],
        capture_output=True,
        text=True,
        env=environment,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "tokenizers" not in done.stderr  # it warns when a process was forked
    assert done.stdout.split() == ["0", "1"]


def test_the_cache_is_found_again_after_other_uses_of_the_tokenizer(tmp_path):
    network, tokenizer = bert(), make_tokenizer()
    store = FeatureStore(tmp_path)
    features = LayerFeatureTransformer(
        network, "logits", preprocess=partial(tokens, tokenizer), cache=store
    )
    first = np.asarray(features.fit_transform(sentences()))
    tokenizer(["a"], padding="max_length", max_length=5, truncation=True)
    misses = store.stats()["misses"]
    np.testing.assert_array_equal(features.fit_transform(sentences()), first)
    assert store.stats()["misses"] == misses
    assert len(store.sources) == 1


def test_a_pipeline_with_a_tokenizer_is_one_file(tmp_path):
    pipeline = make_pipeline(
        LayerFeatureTransformer(
            bert(), "logits", preprocess=partial(tokens, make_tokenizer())
        ),
        Energy(),
    ).fit(sentences())
    joblib.dump(pipeline, tmp_path / "alarm.joblib")
    loaded = joblib.load(tmp_path / "alarm.joblib")
    expected = pipeline.score_samples(sentences(5, seed=1))
    np.testing.assert_array_equal(loaded.score_samples(sentences(5, seed=1)), expected)
