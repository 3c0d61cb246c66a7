"""Networks and tokenizers of transformers, as their users have them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from language_models import (
    ENCODERS,
    SMALL,
    bert,
    gpt2,
    llama,
    made,
    make_tokenizer,
    pooled_by_hand,
    sentences,
    tokens,
    transformers,
)
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from torch import nn

from skood import (
    Energy,
    LayerFeatureTransformer,
    layer_names,
    list_layers,
)
from skood.features import LOGITS
from skood.store.identity.network import callable_fingerprint

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
