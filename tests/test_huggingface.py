"""Networks and tokenizers of transformers, as their users have them."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from torch import nn

from skood import (
    Energy,
    FeatureStore,
    LayerFeatureTransformer,
    layer_names,
    list_layers,
)
from skood.features import LOGITS
from skood.store.identity.network import (
    callable_fingerprint,
    structure_fingerprint,
)

transformers = pytest.importorskip("transformers", reason="needs skood[hf]")
tokenizers = pytest.importorskip("tokenizers", reason="needs skood[hf]")

WORDS = list("abcdefghijklmnop")
MASK = "attention_mask"
SMALL = {
    "vocab_size": 20,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}


def sentences(n=20, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 30))) for _ in range(n)]


def make_tokenizer(side="right", words=WORDS, **settings):
    """A fast tokenizer of whole words, as from_pretrained would give one."""
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", *words])}
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", 2)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        padding_side=side,
        model_max_length=24,
        model_input_names=["input_ids", "attention_mask"],
        **settings,
    )


def tokens(tokenizer, texts):
    return tokenizer(texts, padding=True, truncation=True, return_tensors="pt")


def made(kind, config, **settings):
    torch.manual_seed(0)
    config = getattr(transformers, config)(**settings)
    return getattr(transformers, kind)(config).eval()


def bert(**settings):
    return made("BertForSequenceClassification", "BertConfig", **SMALL, **settings)


def gpt2(kind="GPT2Model"):
    sizes = {"vocab_size": 20, "n_positions": 40, "n_embd": 16, "n_layer": 3}
    ends = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 2}
    return made(kind, "GPT2Config", **sizes, **ends, n_head=2)


def llama(kind="LlamaModel", **settings):
    return made(kind, "LlamaConfig", **SMALL, **settings)


# network, the layer whose output is the third hidden state, side of the padding
ENCODERS = {
    "BERT": (bert, "bert.encoder.layer.1", "right"),
    "BERT that returns all": (
        partial(bert, output_hidden_states=True, output_attentions=True),
        "bert.encoder.layer.1",
        "right",
    ),
    "DistilBERT": (
        lambda: made(
            "DistilBertForSequenceClassification",
            "DistilBertConfig",
            **{"vocab_size": 20, "dim": 16, "n_layers": 3, "n_heads": 2},
            hidden_dim=24,
        ),
        "distilbert.transformer.layer.1",
        "right",
    ),
    "T5 encoder": (
        lambda: made(
            "T5EncoderModel",
            "T5Config",
            **{"vocab_size": 20, "d_model": 16, "d_kv": 8, "d_ff": 24},
            **{"num_layers": 3, "num_heads": 2},
        ),
        "encoder.block.1",
        "right",
    ),
    "GPT-2": (gpt2, "h.1", "right"),
    "Llama, padded on the left": (llama, "layers.1", "left"),
}


def pooled_by_hand(network, batch):
    """Mean, maximum and first token of the third hidden state, row by row."""
    with torch.no_grad():
        hidden = network(**batch, output_hidden_states=True).hidden_states[2]
    kept = [row[mask.bool()] for row, mask in zip(hidden, batch[MASK], strict=True)]
    return {
        "avg": np.stack([row.mean(0).numpy() for row in kept]),
        "max": np.stack([row.amax(0).numpy() for row in kept]),
        "cls": np.stack([row[0].numpy() for row in kept]),
    }


# Values ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODERS)
def test_tokens_are_pooled_under_the_mask(name):
    make, layer, side = ENCODERS[name]
    network, tokenizer = make(), make_tokenizer(side)
    features = LayerFeatureTransformer(
        network, layer, ["avg", "max", "cls"], preprocess=partial(tokens, tokenizer)
    ).fit_transform(sentences())
    expected = pooled_by_hand(network, tokens(tokenizer, sentences()))
    for statistic, values in expected.items():
        found = features.block(layer, statistic)
        np.testing.assert_allclose(found, values, atol=1e-6, err_msg=statistic)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_text_has_the_same_features_whatever_texts_it_comes_with(name):
    make, layer, side = ENCODERS[name]
    features = LayerFeatureTransformer(
        make(),
        layer,
        ["avg", "max", "cls"],
        preprocess=partial(tokens, make_tokenizer(side)),
    )
    texts = sentences()
    together = features.fit_transform(texts)
    alone = features.set_params(batch_size=1).transform(texts)
    for key in together.block_names:
        size = np.linalg.norm(together.block(*key), axis=1)
        off = np.linalg.norm(together.block(*key) - alone.block(*key), axis=1)
        assert (off <= 1e-6 * size).all(), key


def test_gpt2_padded_on_the_left_needs_positions():
    """What the guide says to do: without them padding moves the positions."""

    def positioned(tokenizer, texts):
        batch = tokens(tokenizer, texts)
        places = batch["attention_mask"].cumsum(1) - 1
        return {**batch, "position_ids": places.clamp_min(0)}

    texts, network = sentences(), gpt2()
    right = LayerFeatureTransformer(
        network, "h.1", preprocess=partial(tokens, make_tokenizer("right"))
    ).fit_transform(texts)
    left = LayerFeatureTransformer(
        network, "h.1", preprocess=partial(positioned, make_tokenizer("left"))
    ).fit_transform(texts)
    np.testing.assert_allclose(left, right, atol=1e-6)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_listing_has_the_names_that_can_be_taken(name):
    make, layer, side = ENCODERS[name]
    network, preprocess = make(), partial(tokens, make_tokenizer(side))
    table = list_layers(network, sentences(4), preprocess=preprocess, repeats=1)
    assert table.loc[layer, "runs"] == 1
    assert table.loc[layer, "output"][::2] == (4, 16)
    ran = table.index[(table["runs"] > 0) & (table["output"].str.len() == 3)]
    names = [name for name in ran if name and table.loc[name, "output"][0] == 4]
    features = LayerFeatureTransformer(network, names, preprocess=preprocess)
    assert set(features.fit_transform(sentences(4)).layers) == set(names)


def test_an_encoder_stops_after_the_wanted_layer():
    network, ran = bert(), []
    for name in ("bert.encoder.layer.1", "bert.encoder.layer.2", "classifier"):
        part = network.get_submodule(name)
        part.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    features = LayerFeatureTransformer(
        network, "bert.encoder.layer.1", preprocess=partial(tokens, make_tokenizer())
    ).fit(sentences())
    ran.clear()
    features.transform(sentences())
    assert ran == ["bert.encoder.layer.1"]


@pytest.mark.parametrize("name", ["BERT", "DistilBERT"])
def test_a_classifiers_logits_and_head_are_found(name):
    network, tokenizer = ENCODERS[name][0](), make_tokenizer()
    features = LayerFeatureTransformer(
        network, ["penultimate", "logits"], preprocess=partial(tokens, tokenizer)
    ).fit_transform(sentences())
    with torch.no_grad():
        expected = network(**tokens(tokenizer, sentences())).logits
    np.testing.assert_allclose(features.block(LOGITS), expected, atol=1e-6)
    found = features.head.logits(features.block("penultimate"))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("network", "side"),
    [
        (lambda: gpt2("GPT2ForSequenceClassification"), "right"),
        (lambda: llama("LlamaForSequenceClassification"), "left"),
    ],
)
def test_a_decoders_logits_are_found_and_its_head_is_not(network, side):
    """It maps every token, and takes the last one afterwards."""
    network, tokenizer = network(), make_tokenizer(side)
    features = LayerFeatureTransformer(
        network, "logits", preprocess=partial(tokens, tokenizer)
    )
    found = features.fit_transform(sentences())
    with torch.no_grad():
        expected = network(**tokens(tokenizer, sentences())).logits
    np.testing.assert_allclose(found.block(LOGITS), expected, atol=1e-6)
    assert found.head is None
    with pytest.raises(ValueError, match="layers has 'penultimate'"):
        features.set_params(layers="penultimate").fit(sentences())


def test_an_encoder_without_head_has_no_logits():
    network = made("BertModel", "BertConfig", **SMALL)
    features = LayerFeatureTransformer(
        network, "logits", preprocess=partial(tokens, make_tokenizer())
    )
    with pytest.raises(ValueError, match="'logits' are never pooled"):
        features.fit_transform(sentences())


def test_a_vision_transformer():
    network = made(
        "ViTForImageClassification",
        "ViTConfig",
        **{"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2},
        **{"intermediate_size": 24, "image_size": 16, "patch_size": 4},
        num_labels=5,
    )
    blocks = [n for n in layer_names(network) if n.split(".")[-1] == "1"]
    layer = min(blocks, key=len)
    images = np.random.default_rng(0).normal(size=(7, 3, 16, 16)).astype("float32")
    features = LayerFeatureTransformer(
        network, [layer, "logits"], ["avg", "cls"], batch_size=3
    ).fit_transform(images)
    with torch.no_grad():
        expected = network(torch.tensor(images), output_hidden_states=True)
    hidden = expected.hidden_states[2]
    np.testing.assert_allclose(features.block(layer), hidden.mean(1), atol=1e-6)
    np.testing.assert_allclose(features.block(layer, "cls"), hidden[:, 0], atol=1e-6)
    np.testing.assert_allclose(features.block(LOGITS), expected.logits, atol=1e-6)
    assert features.head is not None


def test_images_go_through_an_image_processor(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="image processors need Pillow")
    rng = np.random.default_rng(0)
    images = [
        image.fromarray(rng.integers(0, 255, (9 + i, 12, 3)).astype(np.uint8))
        for i in range(5)
    ]
    processor = transformers.ViTImageProcessor(size={"height": 8, "width": 8})
    preprocess = partial(processor, return_tensors="pt")
    before = callable_fingerprint(preprocess)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, pixel_values):
            return self.conv(pixel_values)

    features = LayerFeatureTransformer(
        Network(), "conv", preprocess=preprocess, cache=tmp_path
    ).fit_transform(images)
    assert features.shape == (5, 4)
    assert callable_fingerprint(preprocess) == before


def test_a_network_that_takes_a_dictionary_by_position():
    """As those of sentence-transformers do, with its ids and mask beside the rest."""

    class Pooling(nn.Module):
        def forward(self, features):
            mask = features["attention_mask"][..., None]
            total = (features["token_embeddings"] * mask).sum(1)
            return {**features, "sentence_embedding": total / mask.sum(1)}

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = made("BertModel", "BertConfig", **SMALL)

        def forward(self, features):
            hidden = self.model(**features).last_hidden_state
            return {**features, "token_embeddings": hidden}

    network, tokenizer = nn.Sequential(Encoder(), Pooling()), make_tokenizer()
    features = LayerFeatureTransformer(
        network,
        ["0.model.encoder.layer.2", "0", "1", "logits"],
        preprocess=lambda texts: (dict(tokens(tokenizer, texts)),),
        batch_size=6,
    ).fit_transform(sentences())
    with torch.no_grad():
        expected = network(tokens(tokenizer, sentences()))["sentence_embedding"]
    for key in features.block_names:
        np.testing.assert_allclose(features.block(*key), expected, atol=1e-6)


# What texts come in ----------------------------------------------------------------


def polars_column(texts):
    return pytest.importorskip("polars", reason="needs polars").Series(texts)


FORMS = {
    "list": lambda texts: texts,
    "tuple": tuple,
    "array": np.array,
    "array of objects": lambda texts: np.array(texts, dtype=object),
    "array of StringDType": lambda texts: np.array(texts, np.dtypes.StringDType()),
    "column": lambda texts: pd.Series(texts, index=range(5, 5 + len(texts))),
    "column of categories": lambda texts: pd.Series(texts, dtype="category"),
    "column of polars": polars_column,
}


@pytest.mark.parametrize("form", FORMS)
def test_texts_may_come_in_any_column(form, tmp_path):
    network, X = bert(), FORMS[form](sentences())
    preprocess = partial(
        make_tokenizer(), padding=True, truncation=True, return_tensors="pt"
    )
    features = LayerFeatureTransformer(network, "logits", preprocess=preprocess)
    expected = np.asarray(features.fit_transform(sentences()))
    search = GridSearchCV(
        make_pipeline(features.set_params(cache=tmp_path), Energy()),
        {"energy__temperature": [1.0, 2.0]},
        cv=KFold(2),
        scoring=lambda estimator, X, y=None: estimator.score_samples(X).mean(),
        error_score="raise",
    ).fit(X)
    found = search.best_estimator_[0].transform(X)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_texts_may_come_in_a_frame(library, tmp_path):
    frame = pytest.importorskip(library, reason=f"needs {library}").DataFrame(
        {"text": sentences()}
    )
    network, tokenizer = bert(), make_tokenizer()
    features = LayerFeatureTransformer(
        network,
        "logits",
        preprocess=lambda rows: tokens(tokenizer, list(rows["text"])),
        cache=tmp_path,
    )
    found = features.fit_transform(frame)
    listed = LayerFeatureTransformer(
        network, "logits", preprocess=partial(tokens, tokenizer)
    ).fit_transform(sentences())
    np.testing.assert_allclose(found, listed, atol=1e-6)


def test_a_tokenizer_that_makes_no_tensors_is_an_error():
    features = LayerFeatureTransformer(
        bert(), "logits", preprocess=partial(make_tokenizer(), padding=True)
    )
    with pytest.raises(TypeError, match=r"'input_ids' a list.*return_tensors='pt'"):
        features.fit(sentences())


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

SCRIPT = """
import sys
import numpy as np
from joblib import Parallel, delayed
from test_huggingface import *

def run(features, texts):
    return np.asarray(features.transform(texts))

if __name__ == "__main__":
    store = FeatureStore(sys.argv[1])
    features = LayerFeatureTransformer(
        bert(), ["bert.encoder.layer.1", "logits"], cache=store, batch_size=4,
        preprocess=partial(tokens, make_tokenizer()),
    )
    features.fit(sentences())
    features.transform(sentences())
    print(store.stats()["misses"])
    if sys.argv[2] == "first":
        raise SystemExit
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
    here = Path(__file__).resolve().parent
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    path = os.pathsep.join([str(here), str(here.parent)])
    environment = {**os.environ, "PYTHONPATH": path}
    environment.pop("TOKENIZERS_PARALLELISM", None)
    printed = []
    for turn in ("first", "second"):
        done = subprocess.run(
            [sys.executable, str(script), str(tmp_path / "store"), turn],
            capture_output=True,
            text=True,
            env=environment,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        assert "tokenizers" not in done.stderr  # it warns when a process was forked
        printed.append(done.stdout.split())
    assert printed == [["20"], ["0", "1"]]


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
